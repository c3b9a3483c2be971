"""The claims of kexue.fm/archives/7292, GPT2_ML: its blocks, its memory, how it generates and what it learns."""

from experiments.claims import block_orders, fine_tuning, generation, optimizer_memory

CLAIMS = (*block_orders.CLAIMS, *optimizer_memory.CLAIMS, *generation.CLAIMS, *fine_tuning.CLAIMS)
