"""A run's config as flat settings: nested mappings with dotted keys, each value as text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError
from experiments.store.files import inside
from experiments.store.write import as_text

LARGEST_CONFIG_BYTES = 1_000_000

# May grow in a resumed run: they say how far to go, not what a step is.
LIMITS = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.early_stopping.patience",
)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys.

    >>> flatten({"model": {"class": "vae", "latent_dim": 2}, "seed": 0})
    {'model': 'vae', 'model.latent_dim': 2, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        elif key == "class":
            flat[prefix.rstrip(".")] = value
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def config_now(folder: Path, params: Mapping[str, str]) -> dict[str, str]:
    """The config as text by dotted key: that of the last session, whose limits may have grown.

    Args:
        folder: of the run's files.
        params: it started with, for a run whose config.yaml cannot be read.
    """
    try:
        path = inside(folder, "config.yaml")
        state = path.stat()
        found = _read_config(path, state.st_mtime_ns) if state.st_size <= LARGEST_CONFIG_BYTES else None
    except (OSError, ConfigError):
        found = None
    return dict(params if found is None else found)


@lru_cache(maxsize=1024)
def _read_config(path: Path, changed_ns: int) -> dict[str, str] | None:
    """The settings of a file, read once until it changes: 100 runs that are compared cost 0.5 CPU-s at first."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    if not isinstance(values, dict):
        return None
    return {key: as_text(value) for key, value in flatten(values).items() if key != "name"}
