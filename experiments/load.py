"""A run's module with its trained weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from experiments.config import read_yaml
from experiments.errors import ConfigError
from experiments.parser import Settings, filled_of, signature_of
from experiments.resume import load_checkpoint
from experiments.store.location import Store, locate
from experiments.store.read import RunRecord, find_run, read_run
from lightning_modules import MODULES
from lightning_modules.parts import load_class


def load(handle: str, *, checkpoint: str = "best", store: Store | None = None) -> pl.LightningModule:
    """The module of the run `handle`, in evaluation mode.

    Args:
        handle: id prefix, name, last, ...
        checkpoint: best or last; best falls back to last where there is none.
        store: default as everywhere.

    Raises ConfigError when there is no such run or checkpoint, or its class needs more than the run's config has.
    """
    store = store or locate()
    record = read_run(store, find_run(store, handle))
    refuse_without_model(record)
    return module_of(record, load_checkpoint(checkpoint_file(record, checkpoint)))


def module_of(record: RunRecord, state: Mapping[str, Any]) -> pl.LightningModule:
    """The module of a run with the weights of one of its checkpoints, in evaluation mode.

    Raises ConfigError when its class needs more than the run's config has.
    """
    config = read_yaml(record.folder / "config.yaml")
    facts = json.loads(record.tags.get("taolu.data_facts", "{}"))
    try:
        module = rebuilt(config, facts, state)
    except (TypeError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(
            f"run {record.run_id[:8]}: {config['model']['class']} cannot be built from its checkpoint ({text}); "
            "keep the class where it was, call self.save_hyperparameters() in its __init__, and train again"
        ) from error
    return module.eval()


def rebuilt(config: Settings, facts: Mapping[str, Any], state: Mapping[str, Any]) -> pl.LightningModule:
    """The module of a config with the weights of a checkpoint.

    Args:
        config: as stored with a run.
        facts: what its data said of itself, as shape.
        state: the checkpoint.

    Raises what its class raises, or RuntimeError for weights that do not fit.
    """
    settings = dict(config["model"])
    kind = load_class(settings.pop("class"), MODULES)
    known = {**facts, **config}
    filled = {key: known[key] for key in filled_of("model") & set(signature_of(kind)) if key in known}
    given = {**settings, **filled, **(state.get("hyper_parameters") or {})}
    module: pl.LightningModule = kind(**_accepted(kind, given))
    module.load_state_dict(state["state_dict"])
    return module


def _accepted(kind: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What the class's `__init__` takes: a module may save more, or rename, or save only a part."""
    accepted = signature_of(kind)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        return dict(given)
    return {key: value for key, value in given.items() if key in accepted}


def refuse_without_model(record: RunRecord) -> None:
    """Raises ConfigError for a run of a kind that trains nothing: a sweep, an evaluation, a claim."""
    who = f"run {record.run_id[:8]} {record.name}"
    if record.kind == "sweep":
        raise ConfigError(f"{who} is a sweep, whose trials have the models: name one of those; taolu runs lists them")
    if record.kind == "evaluation":
        parent = record.tags.get("taolu.parent", "")[:8]
        raise ConfigError(f"{who} is an evaluation of run {parent}, which has the model: name {parent}")
    if record.kind not in ("run", "trial"):
        raise ConfigError(f"{who} is of kind {record.kind} and has no model; name a run, as in last:vae")


def checkpoint_file(record: RunRecord, name: str) -> Path:
    """The run's best or last checkpoint; last where there is no best.

    Raises ConfigError for another name.
    """
    if name not in ("best", "last"):
        raise ConfigError(f"checkpoint '{name}': must be best or last")
    folder = record.folder / "checkpoints"
    best = folder / f"{name}.ckpt"
    return best if best.exists() else folder / "last.ckpt"
