"""Greedy tokens a processor second: our decoder with its cache laid out beforehand, and transformers' generate.

4 layers, 256 wide, 4 heads, 5,000 tokens, prompts of 16, 128 new ones; GPT-2 and GPT2_ML, 1 and 8 rows. Both in one
process on one thread, in turn, 5 rounds; medians, and medians of the ratio within a round. Every round's tokens must be
identical. Writes results/gpt2_generate.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import machine, median, versions
from torch import Tensor
from transformers import PreTrainedModel

from lightning_modules.gpt2.generate import Choice, Length, generate
from lightning_modules.gpt2.network import FAMILIES, from_config, new_config
from lightning_modules.gpt2.sampling import Truncation

ROUNDS, PROMPT, NEW = 5, 16, 128
SIZES: dict[str, Any] = {"n_layers": 4, "width": 256, "n_heads": 4, "vocab_size": 5000, "n_positions": 256}
RESULTS = Path(__file__).parent / "results" / "gpt2_generate.json"
TARGETS = {"1": 1.5, "8": 1.3}  # times transformers' tokens a processor second, by rows


def ours(model: PreTrainedModel, prompts: Tensor) -> list[list[int]]:
    return generate(model, prompts.tolist(), Length(NEW), Choice(Truncation(temperature=0)))


def theirs(model: Any, prompts: Tensor) -> list[list[int]]:
    mask = torch.ones_like(prompts)
    found = model.generate(prompts, attention_mask=mask, max_new_tokens=NEW, do_sample=False, pad_token_id=0)
    tokens: list[list[int]] = found[:, PROMPT:].tolist()
    return tokens


def timed(run: Callable[[], list[list[int]]]) -> tuple[list[list[int]], float]:
    """The tokens, and how many a processor second."""
    start = time.process_time()
    tokens = run()
    return tokens, sum(map(len, tokens)) / (time.process_time() - start)


def compare(family: str, n_rows: int) -> dict[str, float]:
    """Medians of one setting; RuntimeError where a token differs."""
    torch.manual_seed(0)
    model = from_config(new_config(family, **SIZES))
    model.train(False)
    prompts = torch.randint(SIZES["vocab_size"], (n_rows, PROMPT))
    rounds = []
    for number in range(ROUNDS + 1):
        (mine, my_rate), (other, other_rate) = (
            timed(lambda: ours(model, prompts)),
            timed(lambda: theirs(model, prompts)),
        )
        if mine != other:
            raise RuntimeError(f"{family}, {n_rows} rows: the tokens differ from those of transformers")
        if number:  # the first warms up
            rounds.append((my_rate, other_rate, my_rate / other_rate))
    names = ("taolu_tokens_per_second", "transformers_tokens_per_second", "ratio")
    return {name: median(values) for name, values in zip(names, zip(*rounds, strict=True), strict=True)}


def main() -> None:
    torch.set_num_threads(1)
    rows = {family: {str(n_rows): compare(family, n_rows) for n_rows in (1, 8)} for family in FAMILIES}
    result = {
        "machine": machine(),
        "versions": versions("torch", "transformers"),
        "setting": {"rounds": ROUNDS, "prompt": PROMPT, "new": NEW, **SIZES},
        "target_ratio": TARGETS,
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
