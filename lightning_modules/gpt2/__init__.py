"""GPT-2 and the Chinese GPT2_ML; importing this registers GPT2_ML with transformers' Auto classes."""

from lightning_modules.gpt2.gpt2_ml import GPT2MLConfig as GPT2MLConfig
from lightning_modules.gpt2.gpt2_ml import GPT2MLForCausalLM as GPT2MLForCausalLM
from lightning_modules.gpt2.gpt2_ml import GPT2MLModel as GPT2MLModel
from lightning_modules.gpt2.module import GPT2 as GPT2
