"""A training step of a small GPT-2: tracked by us, by transformers' Trainer, and in a bare loop over its model.

4 layers, 256 wide, 4 heads, 5,000 tokens, 8 rows of 256, AdamW, clipping at 1, float32, one thread. Each harness trains
in a fit of its own whose data takes a step of the bare loop before each of its batches: both times are processor time
of the whole process, taken in turn, step by step. All three compute the same function; ours takes gelu in one
operation, so the bare loop is measured with both forms of it. Writes results/gpt2_train.json.
"""

from __future__ import annotations

import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from measure import machine, median, versions
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from experiments.build import quiet
from experiments.logger import Logger, Recorder
from lightning_modules.gpt2 import GPT2

STEPS, SKIPPED, ROWS, T, V = 25, 3, 8, 256, 5000
LR, CLIP = 1e-3, 1.0
FUSED, PUBLIC = "gelu_pytorch_tanh", "gelu_new"
RESULTS = Path(__file__).parent / "results" / "gpt2_train.json"
TARGETS = {"taolu_over_bare": 1.02}


def network(activation: str) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_layer": 4, "n_embd": 256, "n_head": 4, "vocab_size": V, "n_positions": T}
    sizes |= {"bos_token_id": None, "eos_token_id": None}  # its own are no ids of this vocabulary
    dropout: dict[str, Any] = dict.fromkeys(("embd_pdrop", "resid_pdrop", "attn_pdrop"), 0.0)
    return GPT2LMHeadModel(GPT2Config(**sizes, **dropout, activation_function=activation))


def bare_step(activation: str) -> Callable[[Tensor], None]:
    """A step of the loop that anybody would write."""
    model = network(activation)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)

    def step(ids: Tensor) -> None:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return step


class InTurn(IterableDataset[Any]):
    """Batches, a step of the bare loop before each; both kinds of steps timed.

    Args:
        bare: The loop's step.
        as_batch: What the harness is given for the token ids (B, T).
    """

    def __init__(self, bare: Callable[[Tensor], None], as_batch: Callable[[Tensor], Any]) -> None:
        self.bare, self.as_batch = bare, as_batch
        self.seconds: dict[str, list[float]] = {"bare": [], "harness": []}

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        draws = torch.Generator().manual_seed(0)
        left: float | None = None
        for _ in range(STEPS):
            start = time.process_time()
            if left is not None:
                self.seconds["harness"].append(start - left)
            ids = torch.randint(V, (ROWS, T), generator=draws)
            self.bare(ids)
            left = time.process_time()
            self.seconds["bare"].append(left - start)
            yield self.as_batch(ids)

    def result(self) -> dict[str, float]:
        """Milliseconds a step, and the median of the ratio of neighbours."""
        bare, harness = (self.seconds[name][SKIPPED:] for name in ("bare", "harness"))
        pairs = list(zip(harness, bare, strict=False))
        ratios = [mine / other for mine, other in pairs]
        middle = statistics.quantiles(ratios, n=4)
        return {
            "ms": median([1000 * mine for mine, _ in pairs]),
            "bare_ms": median([1000 * other for _, other in pairs]),
            "ratio": median(ratios),
            "ratio_of_sums": round(sum(mine for mine, _ in pairs) / sum(other for _, other in pairs), 4),
            "ratio_lower_quartile": round(middle[0], 4),
            "ratio_upper_quartile": round(middle[2], 4),
        }


def tracked_by_us(bare: Callable[[Tensor], None], folder: Path) -> dict[str, float]:
    """Lightning with our Logger and Recorder: loss and tokens of every step are in the store at the end."""
    module = GPT2(
        width=256, vocabulary_size=V, block_size=T, optimizer={"class": "torch.AdamW", "lr": LR, "weight_decay": 0.01}
    )

    def as_batch(ids: Tensor) -> dict[str, Tensor]:
        zeros = torch.zeros_like(ids)
        return {"input_ids": ids, "labels": ids, "position_ids": zeros, "document_ids": zeros}

    data = InTurn(bare, as_batch)
    logger = Logger("gpt2_train", store=str(folder))
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=logger, callbacks=[Recorder()], log_every_n_steps=1,
        gradient_clip_val=CLIP, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None))
    logger.close()
    return data.result()


def tracked_by_transformers(bare: Callable[[Tensor], None], folder: Path) -> dict[str, float]:
    """Transformers' Trainer with its own log every 10 steps."""
    data = InTurn(bare, lambda ids: {"input_ids": ids, "labels": ids})
    settings = TrainingArguments(
        str(folder / "trainer"), max_steps=STEPS - 1, per_device_train_batch_size=1, learning_rate=LR,
        max_grad_norm=CLIP, logging_steps=10, report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    Trainer(network(PUBLIC), settings, train_dataset=data, data_collator=lambda rows: rows[0]).train()
    return data.result()


def main() -> None:
    warnings.simplefilter("ignore")
    quiet()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        rows = {
            "taolu, over the bare loop with gelu in one operation": tracked_by_us(bare_step(FUSED), Path(name)),
            "taolu, over the bare loop": tracked_by_us(bare_step(PUBLIC), Path(name)),
            "transformers' Trainer, over the bare loop": tracked_by_transformers(bare_step(PUBLIC), Path(name)),
        }
    result = {
        "machine": machine(),
        "versions": versions("torch", "transformers", "pytorch-lightning"),
        "setting": {"steps": STEPS, "skipped": SKIPPED, "rows": ROWS, "tokens": T, "vocabulary": V, "threads": 1},
        "targets": TARGETS,
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
