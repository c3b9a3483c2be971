"""`taolu convert`: public checkpoints into folders that transformers loads; what does not fit is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.errors import ConfigError
from lightning_modules.checkpoints.bundle import Variable, open_bundle
from lightning_modules.checkpoints.gpt2_ml import Converted, convert


def convert_gpt2_ml(prefix: Path, config: Path, out: Path, vocabulary: Path | None = None) -> Converted:
    """The folder `out` made of a TensorFlow checkpoint of GPT2_ML, its config.json and its vocab.txt.

    Raises ConfigError naming what is missing, unknown, damaged or does not fit; `out` is then not there.
    """
    with _refusing():
        return convert(prefix, config, out, vocabulary)


def converted_lines(found: Converted) -> Iterator[str]:
    """What a conversion made, for a person."""
    plural = "s" if found.n_files > 1 else ""
    yield f"written: {found.folder}, {found.n_parameters:,} parameters in {found.n_files} file{plural} of weights"
    if not found.has_tokenizer:
        yield "without a tokenizer: give --vocab vocab.txt to have one"
    elif found.n_tokens < found.n_rows:
        yield f"the vocabulary has {found.n_tokens:,} tokens for {found.n_rows:,} rows; the others are never sampled"


def inspect(prefix: Path) -> list[Variable]:
    """The variables of a TensorFlow checkpoint, by name; only its index is read.

    Raises ConfigError where there is none, or it is damaged.
    """
    with _refusing():
        return [*open_bundle(prefix).variables.values()]


def inspected_lines(found: list[Variable]) -> Iterator[str]:
    """The variables for a person: name, type, shape, megabytes; then their sum."""
    width = max((len(each.name) for each in found), default=0)
    for each in found:
        shape = "x".join(map(str, each.shape)) or "scalar"
        kind = f"{each.dtype}, partitioned" if each.is_partitioned else each.dtype
        yield f"{each.name:{width}}  {kind:8}  {shape:>12}  {each.size / 1e6:10.3f} MB"
    yield f"{len(found):,} variables, {sum(each.size for each in found) / 1e6:,.1f} MB"


@contextmanager
def _refusing() -> Iterator[None]:
    """What a checkpoint or the disk raises, as the user's own error."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
