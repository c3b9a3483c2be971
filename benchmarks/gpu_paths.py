"""Every experiment once on a GPU, in bfloat16 where that applies, and its loss beside that of the CPU in float32.

Imports only `lightning_modules`, so that it runs where the rest is not installed. Writes results/gpu_paths.json.

    python benchmarks/gpu_paths.py                                  (a GPU; 200 steps of each experiment, minutes)
    python benchmarks/gpu_paths.py --device cpu --steps 10 --out /dev/null          (does the program itself run?)
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from measure import machine, versions

from lightning_modules import MODULES
from lightning_modules.data import DATA
from lightning_modules.data.wordpiece import WordPiece
from lightning_modules.gpt2.network import from_config, new_config
from lightning_modules.parts import load_class

CONFIGS = Path(__file__).parents[1] / "experiments" / "configs"
RESULTS = Path(__file__).parent / "results" / "gpu_paths.json"
FACTS = ("shape", "n_classes", "vocabulary_size", "block_size")
ADAM = {"class": "torch.Adam", "lr": 1e-3}
FIRST = 10  # steps before rounding has grown
LAST = 50  # steps whose mean is compared
# Largest gaps of the first steps and of the last ones' mean, as shares of the CPU's loss there. Two adversarial
# networks drift apart from a difference in the last digit.
TOLERANCE = {"32-true": (1e-3, 0.02), "bf16-mixed": (0.05, 0.05)}
ADVERSARIAL = (0.05, 0.5)
IN_FULL = ("paths", "dirac_gan")  # points of the plane in float64: nothing to mix


class Losses(pl.Callback):
    """The losses of so many batches, kept on the device until the end.

    Args:
        n_batches: After which the fit ends.
    """

    def __init__(self, n_batches: int) -> None:
        self.n_batches = n_batches
        self.values: list[torch.Tensor] = []
        self.started = self.seconds = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self.values.append(outputs["loss"].detach() if "loss" in outputs else next(iter(outputs.values())))
        if len(self.values) == FIRST:
            self.started = _now()
        if len(self.values) >= self.n_batches:
            self.seconds = _now() - self.started
            trainer.should_stop = True


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def parts(name: str, folder: Path, steps: int) -> tuple[pl.LightningModule, Any, dict[str, Any]]:
    """Module, data and trainer settings of a shipped experiment, without dropout: a GPU draws other numbers."""
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    model, data = dict(values["model"]), dict(values["data"])
    for key, value in files(name, folder).items():
        (data if key in ("path", "tokenizer", "batch_size", "cache_dir") else model)[key] = value
    kind = load_class(data.pop("class"), DATA)
    if name == "gpt2_ml_finetune":
        data["tokenizer"] = model["init_from"]
    known = inspect.signature(kind).parameters
    built = kind(**data, **({"seed": 0} if "seed" in known else {}))
    module_kind = load_class(model.pop("class"), MODULES)
    wanted = inspect.signature(module_kind).parameters
    filled = {key: getattr(built, key) for key in FACTS if key in wanted and hasattr(built, key)}
    optimizer = values.get("optimizer", ADAM)
    filled |= {"seed": 0, "optimizer": optimizer, "critic_optimizer": values.get("critic_optimizer", optimizer)}
    if "schedule" in values:
        filled["schedule"] = {"steps": steps, **values["schedule"]}
    changed = {"dropout": 0.0, "lora_dropout": 0.0, "baselines": False}
    module = module_kind(**{**model, **{key: value for key, value in {**filled, **changed}.items() if key in wanted}})
    if hasattr(module, "check_data"):
        module.check_data(built)
    return module, built, dict(values.get("trainer", {}))


def files(name: str, folder: Path) -> dict[str, Any]:
    """What the experiments of language models are given by their user: a text, and for fine-tuning a small network."""
    if not name.startswith("gpt2"):
        return {}
    if name == "gpt2_pydoc":
        return {"cache_dir": str(folder / "tokens")}
    text = folder / "text.txt"
    text.write_text("今天天气不错，双十一。" * 3000, encoding="utf-8")
    found = {"path": str(text), "cache_dir": str(folder / "tokens")}
    if name == "gpt2_zh":
        return found
    place = folder / name
    if not place.exists():
        pieces = WordPiece(["[PAD]", "[UNK]", *"今天气不错，双十一。"])
        torch.manual_seed(0)
        family = "gpt2_ml" if name == "gpt2_ml_finetune" else "gpt2"
        sizes = {"n_layers": 2, "width": 64, "n_heads": 4, "vocab_size": 20, "n_positions": 512}
        from_config(new_config(family, **sizes)).save_pretrained(place)
        pieces.save(place)
    return {**found, "init_from": str(place), "tokenizer": str(place), "batch_size": 2}


def fitted(name: str, folder: Path, steps: int, device: str, precision: Any, **more: Any) -> dict[str, Any]:
    """Losses of so many steps, the validation after them, and what the module draws or writes then."""
    pl.seed_everything(0, verbose=False)
    module, data, settings = parts(name, folder, steps)
    window = int(settings.get("accumulate_grad_batches", 1))
    losses = Losses(steps * window)
    trainer = pl.Trainer(
        **{"strategy": "auto", **more},
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=precision,
        max_epochs=-1,
        accumulate_grad_batches=window,
        gradient_clip_val=None if more.get("strategy") == "fsdp" else settings.get("gradient_clip_val"),
        limit_val_batches=0,
        callbacks=[losses],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
    )
    trainer.fit(module, datamodule=data)
    trainer.limit_val_batches = 4
    found = trainer.validate(module, datamodule=data, verbose=False)[0]
    with torch.no_grad():
        made = [thing for maker in ("pictures", "arrays", "texts") for thing in getattr(module, maker, dict)()]
    values = torch.stack([value.float() for value in losses.values]).view(-1, window).mean(1) * window
    objective = getattr(module, "objective", ("val/loss", "min"))[0]
    return {
        "loss": values.tolist(),
        "validation": {objective: found.get(objective)},
        "made": made,
        "steps_per_second": (steps * window - FIRST) / window / max(losses.seconds, 1e-9),
    }


def beside(found: Mapping[str, Any], reference: Mapping[str, Any], limits: tuple[float, float]) -> dict[str, Any]:
    """How far the losses are from the CPU's, and whether that is within the limits."""
    ours, theirs = (torch.tensor(each["loss"], dtype=torch.float64) for each in (found, reference))
    first = float((ours - theirs)[:FIRST].abs().max() / theirs[:FIRST].abs().max())
    size = float(theirs[-LAST:].abs().mean())
    last = abs(float(ours[-LAST:].mean() - theirs[-LAST:].mean())) / size if size else 0.0
    return {
        "first_steps_gap": first,
        "last_mean_gap": last,
        "is_within": math.isfinite(last) and first <= limits[0] and last <= limits[1],
        "last_loss": float(ours[-1]),
        **{key: value for key, value in found.items() if key != "loss"},
    }


def paths(name: str, device: str) -> list[tuple[str, dict[str, Any]]]:
    """The ways an experiment may be run on the device: precision and strategy."""
    ways: list[tuple[str, dict[str, Any]]] = [("32-true", {})]
    if name not in IN_FULL:
        ways.append(("bf16-mixed", {}))
    if device == "cuda" and name == "sngan":  # its generator has BatchNorm
        ways.append(("32-true", {"strategy": "ddp_find_unused_parameters_true", "sync_batchnorm": True}))
    if device == "cuda" and name == "gpt2_zh":
        ways += [("32-true", {"strategy": "fsdp"}), ("bf16-mixed", {"strategy": "fsdp"})]
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU; --device cpu tries the program itself")
    if given.steps < FIRST:
        parser.error(f"--steps {given.steps}: must be at least {FIRST}")
    torch.backends.cudnn.allow_tf32 = False  # ten bits of a convolution's inputs are no float32
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    rows: dict[str, Any] = {}
    for name in given.only:
        with tempfile.TemporaryDirectory() as folder:
            reference = fitted(name, Path(folder), given.steps, "cpu", "32-true")
            for precision, more in paths(name, given.device):
                limits = ADVERSARIAL if "gan" in name else TOLERANCE[precision]
                label = " ".join([name, given.device, precision, *(["fsdp"] if more.get("strategy") == "fsdp" else [])])
                label += " sync_batchnorm" if "sync_batchnorm" in more else ""
                try:
                    found = fitted(name, Path(folder), given.steps, given.device, precision, **more)
                    rows[label] = beside(found, reference, limits)
                except (RuntimeError, ValueError, TypeError) as error:  # one path that fails shall not hide the others
                    rows[label] = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
                print(label, json.dumps(rows[label]), flush=True)
    result = {
        "machine": {**machine(), "device": torch.cuda.get_device_name() if given.device == "cuda" else "cpu"},
        "versions": versions("torch", "pytorch-lightning", "transformers"),
        "steps": given.steps,
        "limits": {**TOLERANCE, "adversarial": ADVERSARIAL},
        "paths": rows,
    }
    if given.out != Path("/dev/null"):
        given.out.parent.mkdir(exist_ok=True)
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
