"""`taolu rerun`: a stored config run again, and what differs from the first time, if anything does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.build import Say
from experiments.diff import is_equal, recorded
from experiments.errors import ConfigError
from experiments.provenance import differences
from experiments.resume import differing, stored_and_given
from experiments.run import Label, Result, run, silent
from experiments.store.location import Store, locate
from experiments.store.origin import read_origin
from experiments.store.read import RunRecord, find_run, read_run


@dataclass(frozen=True)
class Comparison:
    """A run against its repetition.

    Args:
        n_values: metric values compared, those of the clock and the machine left out.
        first_step: step of the first value that differs; None when all are equal to the bit.
        metric: which value that is.
        largest: largest absolute difference.
        causes: what differs between the two runs' code, packages, threads, device and data.
    """

    n_values: int
    first_step: int | None
    metric: str
    largest: float
    causes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The comparison in one line."""
        causes = "; ".join(self.causes)
        if not self.n_values:
            return "nothing to compare: the first run recorded no value"
        if self.first_step is None:
            although = f", although: {causes}" if causes else ""
            return f"identical: all {self.n_values} values are equal to the bit{although}"
        why = causes or "nothing recorded differs: look for unseeded randomness"
        return f"differs from step {self.first_step} on ({self.metric}; at most {self.largest:.3g}): {why}"


def rerun(
    handle: str,
    options: Sequence[str] = (),
    *,
    overrides: Mapping[str, Any] | None = None,
    store: Store | None = None,
    label: Label | None = None,
    say: Say | None = None,
) -> tuple[Result, Comparison]:
    """A new run of the stored config with its recorded threads, and its comparison with the first.

    Args:
        handle: id prefix, name, last, ...
        options: command-line words: what the first run kept secret, given again.
        overrides: the same from Python, dotted keys to values.
        store: default as everywhere.
        label: of the new run.
        say: prints one line.

    Raises ConfigError when there is no such run, it has no config, or an option changes it.
    """
    say = say or silent
    store = store or locate()
    record = read_run(store, find_run(store, handle))
    if "taolu.fork" in record.tags:
        raise ConfigError(
            f"run {record.run_id[:8]} began as a fork, from a state that its config does not give; fork its parent "
            f"again: taolu fork {record.tags.get('taolu.parent', '')[:8]}"
        )
    old, config = stored_and_given(record, options, overrides)
    for key, (before, after) in differing(old, config.flat()).items():
        raise ConfigError(
            f"{key}: {before} in the run, now {after}; rerun repeats a run as it was; to change it: "
            f"taolu run {record.folder / 'config.yaml'} --{key} {after}"
        )
    label = label or Label()
    label.tags["taolu.rerun_of"] = record.run_id
    result = run(config, store=store, label=label, say=say)
    comparison = compare(store, record, read_run(store, result.run_id))
    say(comparison.sentence)
    return result, comparison


def compare(store: Store, first: RunRecord, second: RunRecord) -> Comparison:
    """The metric values of two runs against each other, by key and step.

    A first run that was stopped or resumed lacks values, or validated where it stopped: then those both have count.
    """
    left, right = recorded(store, first.run_id), recorded(store, second.run_id)
    is_whole = first.status == "FINISHED" and not any(key.startswith("resume.") for key in first.tags)
    points = {*left} | {*right} if is_whole else {*left} & {*right}
    shared = sorted(points, key=lambda item: (item[1], item[0]))
    differing = [at for at in shared if not is_equal(left.get(at), right.get(at))]
    gaps = [abs(left[at] - right[at]) for at in differing if at in left and at in right]
    return Comparison(
        n_values=len(shared),
        first_step=differing[0][1] if differing else None,
        metric=differing[0][0] if differing else "",
        largest=float(np.nanmax(gaps)) if gaps else 0.0,
        causes=tuple(_causes(first, second)),
    )


def _causes(first: RunRecord, second: RunRecord) -> list[str]:
    causes = differences(read_origin(first.folder), read_origin(second.folder))
    if first.tags.get("taolu.data_digest") != second.tags.get("taolu.data_digest"):
        causes.append("the data's digest differs")
    resumed = [key for key in first.tags if key.startswith("resume.")]
    if resumed and any(
        key in ("trainer.devices", "trainer.accelerator")
        for tag in resumed
        for key in json.loads(first.tags[tag])["changed"]
    ):
        causes.append("the first run changed its devices when it was resumed")
    return causes
