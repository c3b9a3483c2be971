"""`taolu diff`: what differs between two runs, or a run and a config file, and whether it is more than noise."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from experiments.errors import ConfigError
from experiments.listing import PART_ORDER
from experiments.store.groups import Member, members_of
from experiments.store.location import HIDDEN, Store
from experiments.store.origin import COMPARED, Origin, read_origin
from experiments.store.read import find_run, history, runs_table
from experiments.store.repeats import Noise, noise_of, repetitions_of
from experiments.store.write import as_text
from experiments.words import ENGLISH, Words, aligned

CLOCK = ("time/", "system/")  # metrics of the clock and the machine
LARGE = 500_000  # characters of two files that are no longer compared line by line
MOST_LINES = 30  # of one section, as text; --json has all


@dataclass(frozen=True)
class Change:
    """One thing that differs.

    Args:
        key: what.
        before: in the first; None where it has none.
        after: in the second.
    """

    key: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class MetricChange:
    """A metric whose last values differ.

    Args:
        metric: its name.
        before: in the first run; None where it has none.
        after: in the second.
        noise: None where no config of the two was repeated.
    """

    metric: str
    before: float | None
    after: float | None
    noise: Noise | None = None

    @property
    def difference(self) -> float:
        """After minus before; NaN where one of them has none."""
        return math.nan if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class Difference:
    """What differs between two runs; nothing else.

    Args:
        first: name and id of the run.
        second: of the other, or the path of a file, of which only the config is compared.
        config: by dotted key.
        code: commits, patches and source files; the change of a file as lines added and removed.
        texts: unified diffs of source files.
        packages: versions.
        machine: Python, host, processor, threads, devices.
        data: digest and facts.
        metrics: last values, the objective first.
        first_step: from which on values differ; None where none does, or it was not looked at.
        n_values: that both have.
    """

    first: str
    second: str
    config: tuple[Change, ...] = ()
    code: tuple[Change, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[Change, ...] = ()
    machine: tuple[Change, ...] = ()
    data: tuple[Change, ...] = ()
    metrics: tuple[MetricChange, ...] = ()
    first_step: int | None = None
    n_values: int = 0

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        metrics = [{**asdict(each), "difference": each.difference} for each in self.metrics]
        return {**asdict(self), "texts": dict(self.texts), "metrics": metrics}


def diff(store: Store, handle: str, other: str) -> Difference:
    """What differs between a run and another, or a YAML file.

    Args:
        store: where the runs are.
        handle: id prefix, name, last, ...
        other: the same, or FILE.yaml.

    Raises ConfigError when there is no such run or file.
    """
    if handle.endswith((".yaml", ".yml")):
        raise ConfigError(f"{handle}: the run comes first, then the file: taolu diff RUN {handle}")
    run_id = find_run(store, handle)
    if other.endswith((".yaml", ".yml")):
        [first] = members_of(store, [run_id])
        return Difference(_titled(first), other, config=tuple(_against_file(first, other)))
    other_id = find_run(store, other)
    table = runs_table(store)
    members = {each.run_id: each for each in members_of(store, [run_id, other_id], table)}
    first, second = members[run_id], members[other_id]
    before, after = (read_origin(store.run_folder(each.run_id)) for each in (first, second))
    left, right = recorded(store, run_id), recorded(store, other_id)
    shared = {*left} & {*right}
    steps = [step for key, step in shared if not is_equal(left[key, step], right[key, step])]
    return Difference(
        _titled(first),
        _titled(second),
        config=_config_changes(_settings(first), _settings(second)),
        code=tuple(_code_changes(before, after)),
        texts=_texts(before, after),
        packages=_changes(before.environment.get("packages", {}), after.environment.get("packages", {})),
        machine=_changes(*({key: env.environment.get(key) for key in COMPARED[1:]} for env in (before, after))),
        data=_changes(_data_facts(first), _data_facts(second)),
        metrics=_metric_changes(store, table, first, second),
        first_step=min(steps, default=None),
        n_values=len(shared),
    )


def _titled(member: Member) -> str:
    return f"{member.name} ({member.run_id[:8]})"


def _settings(member: Member) -> dict[str, str]:
    return {**member.config, "seed": member.seed} if member.seed else dict(member.config)


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Change, ...]:
    keys = dict.fromkeys([*first, *second])
    found = [Change(key, _known(first.get(key)), _known(second.get(key))) for key in keys]
    return tuple(change for change in found if change.before != change.after)


def _known(value: Any) -> str | None:
    return None if value is None else as_text(value)


def _config_changes(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[Change, ...]:
    found = _changes(first, second)
    return tuple(sorted(found, key=lambda change: PART_ORDER.get(change.key.partition(".")[0], -1)))


def _against_file(member: Member, file: str) -> Iterator[Change]:
    """The run's config beside that of a file, resolved as `taolu run` would; what was kept secret is passed over."""
    from experiments.config import resolve

    config = resolve(file)
    other = {"experiment": config.name} | {key: as_text(value) for key, value in config.flat().items()}
    own = _settings(member)
    hidden = {key for key, value in own.items() if HIDDEN in value}
    yield from _config_changes(
        {key: value for key, value in own.items() if key not in hidden and value != "null"},
        {key: value for key, value in other.items() if key not in {*hidden, "threads"} and value != "null"},
    )


# ---- code, machine, data --------------------------------------------------------------------------------------------


def _code_changes(first: Origin, second: Origin) -> Iterator[Change]:
    commits = [str(origin.environment.get("git_commit", ""))[:12] or None for origin in (first, second)]
    if commits[0] != commits[1]:
        yield Change("git_commit", commits[0], commits[1])
    for name in sorted({*first.code, *second.code}, key=lambda name: ("/" in name, name)):
        before, after = first.code.get(name), second.code.get(name)
        if before == after:
            continue
        if before is None or after is None or len(before) + len(after) > LARGE:
            sizes = [None if text is None else f"{len(text.splitlines())} lines" for text in (before, after)]
            yield Change(name, sizes[0], sizes[1])
            continue
        lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0))[2:]
        counts = [sum(line.startswith(mark) for line in lines) for mark in "-+"]
        yield Change(name, f"-{counts[0]} lines", f"+{counts[1]} lines")


def _texts(first: Origin, second: Origin) -> dict[str, str]:
    """Unified diffs of the source files that both runs kept; that of a patch reads like nothing."""
    found = {}
    for name in sorted({*first.code} & {*second.code}):
        before, after = first.code[name], second.code[name]
        if before != after and not name.endswith(".patch") and len(before) + len(after) <= LARGE:
            lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", "", "", 1, "")
            found[name] = "\n".join(list(lines)[2:])
    return found


def _data_facts(member: Member) -> dict[str, Any]:
    return {
        "data": member.config.get("data"),
        "digest": member.tags.get("taolu.data_digest"),
        **json.loads(member.tags.get("taolu.data_facts", "{}")),
    }


# ---- metrics --------------------------------------------------------------------------------------------------------


def recorded(store: Store, run_id: str) -> dict[tuple[str, int], float]:
    """Every value of a run by metric and step, those of the clock and the machine left out."""
    table = history(store, run_id)
    kept = table[~table["key"].str.startswith(CLOCK)]
    return {
        (str(key), int(step)): float(value)
        for key, step, value in zip(kept["key"], kept["step"], kept["value"], strict=True)
    }


def is_equal(first: float | None, second: float | None) -> bool:
    """Whether both are there and equal to the bit, NaN to NaN.

    >>> is_equal(float("nan"), float("nan")), is_equal(1.0, None)
    (True, False)
    """
    if first is None or second is None:
        return False
    return first == second or (math.isnan(first) and math.isnan(second))


def _metric_changes(store: Store, table: pd.DataFrame, first: Member, second: Member) -> tuple[MetricChange, ...]:
    pairs = {key: (first.metrics.get(key), second.metrics.get(key)) for key in {**first.metrics, **second.metrics}}
    differing = [key for key, (a, b) in pairs.items() if not key.startswith(CLOCK) and not is_equal(a, b)]
    if not differing:
        return ()
    groups = repetitions(store, table, first, second)
    order = sorted(differing, key=lambda key: (key != first.objective, not key.startswith("val/"), key))
    return tuple(MetricChange(key, *pairs[key], noise_of(key, groups)) for key in order)


def repetitions(store: Store, table: pd.DataFrame, first: Member, second: Member) -> list[list[Member]]:
    """The finished runs of the first one's config and of the second's, on their data and by their code.

    Two runs of one config are no measure of what differs between them, so they are then left out of its only group.
    """
    found = repetitions_of(store, table, first)
    if second.run_id not in {each.run_id for each in found}:
        return [found, repetitions_of(store, table, second)]
    return [[each for each in found if each.run_id not in (first.run_id, second.run_id)]]


# ---- in words -------------------------------------------------------------------------------------------------------


def diff_lines(found: Difference, words: Words = ENGLISH) -> Iterator[str]:
    """The difference as text; one line where there is none."""
    yield f"{found.first} -> {found.second}"
    sections = {name: getattr(found, name) for name in ("config", "code", "packages", "machine", "data")}
    if not any([*sections.values(), found.metrics]):
        of_file = found.second.endswith((".yaml", ".yml"))
        values = words("values_compared", n=found.n_values) if found.n_values else ""
        yield words("nothing_differs", what=words("diff_config" if of_file else "all_compared"), values=values)
    for name, changes in sections.items():
        rows = [[each.key, _word(each.before, words), "->", _word(each.after, words)] for each in changes]
        yield from _section(words(f"diff_{name}"), rows, words)
    for name, text in found.texts.items():
        yield from ("", name, *_cut(text.splitlines(), words))
    if found.metrics:
        yield from _section(words("diff_metrics"), [_metric_row(change, words) for change in found.metrics], words)
    if found.first_step is not None:
        yield from ("", words("first_step", step=found.first_step))
    if found.metrics and not any(change.noise for change in found.metrics):
        yield words("noise_unknown")


def _word(text: str | None, words: Words) -> str:
    return words("no_value") if text is None else text if len(text) <= 60 else f"{text[:57]}..."


def _metric_row(change: MetricChange, words: Words) -> list[str]:
    numbers = [words("no_value") if value is None else f"{value:.5g}" for value in (change.before, change.after)]
    gap = change.difference
    row = [change.metric, numbers[0], "->", numbers[1], f"{gap:+.3g}" if math.isfinite(gap) else ""]
    if change.noise is None or not math.isfinite(gap):
        return [*row, ""]
    noise = words("diff_noise", sd=change.noise.sd, n=change.noise.n, of=words(f"noise_of_{change.noise.of}"))
    if not change.noise.sd:
        return [*row, words("above_noise", noise=noise)]
    return [*row, words("times_noise", ratio=abs(gap) / change.noise.sd, noise=noise)]


def _section(title: str, rows: list[list[str]], words: Words) -> Iterator[str]:
    if not rows:
        return
    yield from ("", title)
    yield from (f"  {line}" for line in _cut(list(aligned(rows)), words))


def _cut(lines: list[str], words: Words) -> list[str]:
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], words("lines_more", n=more)]
