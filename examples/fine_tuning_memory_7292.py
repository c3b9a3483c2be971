# %% [markdown]
# # Why does Adam not fit? GPT2_ML, block by block
#
# GPT2_ML, a Chinese GPT-2 of 1.4 billion weights: kexue.fm/archives/7292. The article shows that it is built unlike
# GPT-2 and unlike BERT, that fine-tuning it with Adam fails on a card of 22 GB even at batch 1 while AdaFactor
# fits, and how texts are drawn from it. Here: the count of its weights, the bytes of an optimizer, the order inside
# a block, a small one trained from nothing, and what top-k and top-p leave of its next letter.
#
# Cells run in order, in VS Code or Jupytext, or all at once: `python examples/fine_tuning_memory_7292.py` (15 s).
# Runs go to the nearest `mlruns/`, else to `./mlruns`; the environment variable MLFLOW_TRACKING_URI names another
# store.

# %%
from collections import Counter
from pydoc_data.topics import topics
from typing import Any, cast

import pandas as pd
import torch
from PIL import Image
from torch.nn import functional as F

import taolu
from lightning_modules.gpt2 import GPT2
from lightning_modules.gpt2.gpt2_ml import GPT2MLConfig, GPT2MLForCausalLM
from lightning_modules.gpt2.network import from_config, new_config
from lightning_modules.gpt2.sampling import Truncation
from lightning_modules.optimizers import build
from mining.entropy import BIT, entropy

# %% [markdown]
# ## 1. 1,393,941,504 weights
#
# A block of width $H$ has four matrices $H \times H$ of attention and two $H \times M$ of the network behind it,
# biases, and two normalisations; there are $L$ blocks, $V$ words, $P$ positions, and the head is the table of
# words:
#
# $$N = VH + PH + 2H + L\,(4(H^2 + H) + 2HM + M + H + 4H).$$
#
# A model on the device "meta" has shapes and no numbers, so the public one can be built here and counted.

# %%
V, P, L, H, M = 21_128, 1024, 48, 1536, 6144
by_formula = V * H + P * H + 2 * H + L * (4 * (H * H + H) + 2 * H * M + M + H + 4 * H)
sizes: dict[str, Any] = {"vocab_size": V, "max_position_embeddings": P, "num_hidden_layers": L, "hidden_size": H}
with torch.device("meta"):
    public = GPT2MLForCausalLM(GPT2MLConfig(**sizes, num_attention_heads=24, intermediate_size=M))
n_weights = sum(weight.numel() for weight in public.parameters())
print(f"{by_formula:,} by the formula, {n_weights:,} counted")

# %% [markdown]
# ## 2. What training holds in memory
#
# At 4 bytes a number: the weights, as many gradients, and what the optimizer keeps. Adam keeps two numbers a
# weight, a mean of gradients and one of squares. AdaFactor keeps of the squares of a matrix $n \times m$ only the
# sums of rows and columns, $n + m$ numbers, and multiplies them back together; no mean of gradients. Measured on a
# small model, per weight:

# %%
sizes = {"vocab_size": 512, "hidden_size": 256, "num_hidden_layers": 2, "intermediate_size": 1024}
small = GPT2MLConfig(**sizes, num_attention_heads=4)
kept = {}
for name in ("sgd", "momentum", "torch.Adam", "adafactor"):
    weights = list(GPT2MLForCausalLM(small).parameters())
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer = build(name, weights, lr=1e-3)
    optimizer.step()
    state = [value for each in optimizer.state.values() for value in each.values() if torch.is_tensor(value)]
    kept[name] = sum(value.numel() for value in state) / sum(weight.numel() for weight in weights)
memory = pd.DataFrame({"numbers a weight": kept})
memory["GB for GPT2_ML"] = 4 * n_weights * (2 + memory["numbers a weight"]) / 1e9
print(memory.round(3))

# %% [markdown]
# Adam passes 22 GB before the first activation. That AdaFactor is the *only* one that fits is another matter: plain
# momentum and RMSprop, with one number a weight, stay below 17.
#
# ## 3. The order inside a block
#
# $$\begin{aligned}
# \text{GPT-2:}\quad & u = h + A(N_0 h), & h' &= u + F(N_1 u) \\
# \text{BERT:}\quad & u = N_0(h + A(h)), & h' &= N_1(u + F(u)) \\
# \text{GPT2\_ML:}\quad & u = h + A(h), & h' &= N_1(u + F(N_0 u))
# \end{aligned}$$
#
# $A$ is attention, $F$ the network, $N$ a normalisation. GPT-2 leaves a way from the last block to the first on which
# nothing is rescaled; GPT2_ML and BERT normalise it in each block. The gradients of first weights, in twelve blocks:

# %%
text = "".join(topics[name] for name in sorted(topics))
tokens = torch.tensor([list(text[at : at + 64].encode()[:64]) for at in range(0, 512, 64)])
ratios = {}
for family in ("gpt2", "gpt2_ml"):
    torch.manual_seed(0)
    config = new_config(family, 12, 64, 4, vocab_size=256, n_positions=64, initializer_range=0.06)
    deep: Any = from_config(config)
    deep.eval()  # no dropout
    logits = deep(tokens, use_cache=False).logits
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    ends = [list(deep.transformer.h[block].parameters()) for block in (0, -1)]
    norms = [torch.cat([g.flatten() for g in torch.autograd.grad(loss, end, retain_graph=True)]).norm() for end in ends]
    ratios[family] = float(norms[0] / norms[1])
    print(f"{family}: norm of the first block's gradient / the last one's: {ratios[family]:.2f}")

# %% [markdown]
# ## 4. Causal
#
# A token may change nothing before it. Change one in the middle:

# %%
with torch.no_grad():
    changed = tokens.clone()
    changed[:, 32] = (changed[:, 32] + 1) % 256
    difference = (deep(tokens, use_cache=False).logits - deep(changed, use_cache=False).logits).abs().amax((0, 2))
before, after = float(difference[:32].max()), float(difference[32:].max())
print(f"largest change of a logit: {before:.1e} before the token, {after:.1e} from it on")

# %% [markdown]
# ## 5. A small one, from nothing
#
# Two blocks of GPT2_ML read Python's help byte by byte, 60 steps of 8 x 64 bytes.
# What it has to beat is the entropy of single bytes, which needs no context.

# %%
model = {"architecture": "gpt2_ml", "n_layers": 2, "width": 96, "n_heads": 2, "config": {"initializer_range": 0.06}}
texts = {"class": "pydoc", "tokenizer": "bytes", "batch_size": 8, "block_size": 64}
trainer = {"max_steps": 60, "val_check_interval": 30, "limit_val_batches": 8, "accelerator": "cpu"}
parts: dict[str, dict[str, Any]] = {"model": model, "data": texts, "trainer": trainer}
parts |= {"optimizer": {"class": "torch.AdamW", "lr": 4e-3}, "schedule": {"class": "warmup", "steps": 20}}
options = {f"{part}.{key}": value for part, settings in parts.items() for key, value in settings.items()}
result = taolu.run("lightning_modules.gpt2:GPT2", **options, threads=1)
byte_entropy = entropy(list(Counter(text.encode()).values()))
print(f"{result.metrics['val/loss']:.2f} nats a byte; single bytes {byte_entropy:.2f} ({byte_entropy / BIT:.2f} bits)")

# %% [markdown]
# ## 6. The next letter
#
# Nobody draws from all of the softmax: a thousand unlikely tokens have together a chance to spoil the text. Top-k
# keeps the $k$ likeliest, top-p the fewest that together have $p$, the one that crosses $p$ included; both
# renormalise. The article takes $k = 5$.

# %%
trained = cast(GPT2, taolu.load(result.run_id, checkpoint="last"))
with torch.no_grad():
    logits = trained(torch.tensor([list(b"the following exampl")]))[:, -1]  # a token is a byte
rows = []
for chosen in (Truncation(), Truncation(top_k=5), Truncation(top_p=0.9), Truncation(temperature=0.5, top_p=0.9)):
    law, ids = chosen.law(logits)
    tokens_left = law[0] if ids is None else torch.zeros(logits.shape[1]).scatter(0, ids[0], law[0])
    likeliest = " ".join(repr(chr(token)) for token in tokens_left.topk(3).indices.tolist())
    rows.append((chosen.top_k, chosen.top_p, chosen.temperature, int((law > 0).sum()), likeliest))
laws = pd.DataFrame(rows, columns=["top_k", "top_p", "temperature", "tokens left", "likeliest"])
print(laws.to_string(index=False))
[continuation] = taolu.generate(result.run_id, "the ", top_k=5, max_length=60, checkpoint="last")
print(repr("the " + continuation))

# %% [markdown]
# ## 7. The claims

# %%
verdicts = taolu.claims("7292-G2.1", "7292-G2.2", "7292-G2.2c", "7292-G4.1", run=True)
Image.open(taolu.files(verdicts.set_index("id")["run_id"]["7292-G2.2"])["plot.png"])

# %% [markdown]
# **Next.** `taolu run gpt2_pydoc --threads 1` trains a better one in five minutes, and
# `taolu generate last:gpt2_pydoc --prompt "The following" --top_p 0.9` goes on from your words. The public weights
# are read without TensorFlow: `taolu convert gpt2-ml`. Do three orders of a block end at equal losses?
# `taolu claims run 7292-G1.1 7292-G1.2 7292-G1.3`.
