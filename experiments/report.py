"""`taolu report`: what runs and sweeps found, over seeds, with tests; as a page, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import ConfigError, unknown
from experiments.store.files import write_text
from experiments.store.groups import Group, Mean, Member, Paired, grouped, mean_of, members_of, paired
from experiments.store.location import Store
from experiments.store.read import find_run, read_run, runs_table
from experiments.words import ENGLISH, Words
from mining.significance import holm

FORMATS = ("html", "markdown", "latex", "csv")
HEADS = ("group", "metric", "n", "mean", "interval", "sd")


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Args:
        group: its label.
        metric: its name.
        mean: over seeds.
    """

    group: str
    metric: str
    mean: Mean

    def cells(self, words: Words) -> list[str]:
        """The line as text, under HEADS."""
        found = self.mean
        n = words("n_lost", n=found.n, lost=found.n_lost) if found.n_lost else str(found.n)
        interval = f"[{_number(found.low)}, {_number(found.high)}]" if found.n > 1 else words("unknown")
        return [self.group, self.metric, n, _number(found.mean), interval, _number(found.sd)]


@dataclass(frozen=True)
class Contrast:
    """The test of a group against the first one.

    Args:
        group: its label.
        metric: what is compared.
        found: None where fewer than two seeds pair.
        p: corrected by Holm over the groups.
    """

    group: str
    metric: str
    found: Paired | None
    p: float

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "group": self.group,
            "metric": self.metric,
            **(vars(self.found) if self.found else {}),
            "p_holm": self.p,
        }

    def sentence(self, words: Words) -> str:
        """The test in one line."""
        if self.found is None:
            return words("not_tested")
        interval = f"[{_number(self.found.low)}, {_number(self.found.high)}]"
        return words("tested", difference=f"{self.found.difference:+.5g}", interval=interval, n=self.found.n, p=self.p)


@dataclass(frozen=True)
class Report:
    """What a report says, before it is written in any form.

    Args:
        store: where the runs are.
        names: of the runs and sweeps it is on.
        groups: runs by config.
        figures: the table.
        contrasts: every further group against the first, by its objective.
        n_unfinished: runs that do not count, as they did not finish.
        n_repeated: runs that do not count, as a newer one has their seed.
    """

    store: Store
    names: tuple[str, ...]
    groups: tuple[Group, ...]
    figures: tuple[Figure, ...]
    contrasts: tuple[Contrast, ...]
    n_unfinished: int = 0
    n_repeated: int = 0

    def title(self, words: Words = ENGLISH) -> str:
        """The first names, and how many more there are."""
        more = words("report_more", n=len(self.names) - 3) if len(self.names) > 3 else ""
        return ", ".join(self.names[:3]) + more

    def left_out(self, words: Words = ENGLISH) -> str:
        """The runs that do not count, in words."""
        notes = {"unfinished": self.n_unfinished, "repeated": self.n_repeated}
        return words("between_counts").join(words(key, n=count) for key, count in notes.items() if count)

    def text(self, form: str, words: Words = ENGLISH) -> str:
        """The report in one of FORMATS; CSV is the same in every language."""
        if form == "html":
            from experiments.page import html

            return html(self, words)
        if form == "csv":
            return as_csv(self)
        return {"markdown": markdown, "latex": latex}[form](self, words)

    def plain(self) -> dict[str, Any]:
        """Its table as plain values, for JSON."""
        return {
            "title": self.title(),
            "runs": [each.run_id for group in self.groups for each in group.members],
            "figures": [{"group": each.group, "metric": each.metric, **vars(each.mean)} for each in self.figures],
            "contrasts": [each.plain() for each in self.contrasts],
            "left_out": self.left_out(),
        }


def report(store: Store, handles: Sequence[str]) -> Report:
    """The report on runs, and on all trials of sweeps among them.

    Args:
        store: where they are.
        handles: id prefixes, names, last, ...; a sweep by its name or its run.

    Raises ConfigError when there is no such run, or none has finished with a value.
    """
    ids: list[str] = []
    names = []
    for handle in handles:
        record = read_run(store, find_run(store, handle))
        names.append(record.name)
        is_sweep = record.kind == "sweep"
        ids += _trials(store, record.tags.get("taolu.study", record.experiment)) if is_sweep else [record.run_id]
    members = members_of(store, ids)
    kept = [each for each in members if each.status == "FINISHED"]
    if not any(each.metrics for each in kept):
        raise ConfigError(f"{', '.join(handles)}: no run of these has finished with a value; see them: taolu runs")
    groups = grouped(kept)
    metrics = _metrics(kept)
    figures = [_figure(group, metric) for metric in metrics for group in groups]
    return Report(
        store,
        tuple(names),
        tuple(groups),
        tuple(figure for figure in figures if figure.mean.n),
        tuple(_contrasts(groups, metrics[0])) if metrics else (),
        n_unfinished=len(members) - len(kept),
        n_repeated=len(kept) - sum(len(group.members) for group in groups),
    )


def _trials(store: Store, study: str) -> list[str]:
    """The trials of a sweep that came to their end, the oldest first."""
    table = runs_table(store, kinds=("trial",))
    if "tags.taolu.study" not in table:
        return []
    found = table[table["tags.taolu.study"] == study]
    if "tags.taolu.trial_end" in found:
        end = found["tags.taolu.trial_end"]
        found = found[end.isna() | (end == "diverged")]  # what was pruned has no last value
    return [str(run_id) for run_id in found["run_id"][::-1]]


def _metrics(members: Sequence[Member]) -> list[str]:
    """The objectives, then validation; where there is none, whatever the runs have of their own."""
    objectives = [each.objective for each in members if each.objective in each.metrics]
    measured = sorted({key for each in members for key in each.metrics if key.startswith("val/")})
    rest = sorted({key for each in members for key in each.metrics if not key.startswith(("time/", "system/"))})
    return list(dict.fromkeys([*objectives, *measured])) or rest


def _figure(group: Group, metric: str) -> Figure:
    return Figure(group.label, metric, mean_of(group.values(metric).values()))


def _contrasts(groups: Sequence[Group], metric: str) -> Iterator[Contrast]:
    first, *others = groups
    tests = [paired(first.values(metric), group.values(metric)) for group in others]
    corrected = iter(holm(np.array([test.p for test in tests if test is not None])).tolist())
    for group, test in zip(others, tests, strict=True):
        yield Contrast(group.label, metric, test, math.nan if test is None else next(corrected))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5g}"


# ---- Markdown, LaTeX, CSV -------------------------------------------------------------------------------------------


def heads(words: Words) -> list[str]:
    """The table's headings."""
    return [words(f"report_{name}") for name in HEADS]


def markdown(found: Report, words: Words) -> str:
    """The table and the tests as Markdown."""
    rows = [[cell.replace("|", r"\|") for cell in figure.cells(words)] for figure in found.figures]
    lines = [f"| {' | '.join(row)} |" for row in (heads(words), ["---"] * len(HEADS), *rows)]
    tests = [f"- {line}" for line in _tests(found, words)]
    return "\n".join([*lines, *([""] if tests else []), *tests]) + "\n"


def latex(found: Report, words: Words) -> str:
    """The table as LaTeX, with the rules of the package booktabs; the tests as comments."""
    cells = [heads(words), *(figure.cells(words) for figure in found.figures)]
    rows = [" & ".join(map(tex, row)) + r" \\" for row in cells]
    table = [r"\begin{tabular}{llrrlr}", r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*table, *(f"% {line}" for line in _tests(found, words))]) + "\n"


def _tests(found: Report, words: Words) -> list[str]:
    first = found.groups[0].label
    lines = [
        words("minus", metric=each.metric, group=each.group, first=first, sentence=each.sentence(words))
        for each in found.contrasts
    ]
    return [" ".join(line.split()) for line in lines]


def tex(text: str) -> str:
    r"""The text as LaTeX prints it.

    >>> tex("data.batch_size 50 %")
    'data.batch\\_size 50 \\%'
    """
    named = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(named.get(letter) or (f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)


def as_csv(found: Report) -> str:
    """The table as CSV, every number in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "metric", "n", "mean", "low", "high", "sd", "n_not_finite"])
    for each in found.figures:
        mean = each.mean
        numbers = ["" if math.isnan(value) else repr(value) for value in (mean.mean, mean.low, mean.high, mean.sd)]
        writer.writerow([each.group, each.metric, mean.n, *numbers, mean.n_lost])
    return text.getvalue()


# ---- to a file ------------------------------------------------------------------------------------------------------


def check_form(form: str) -> str:
    """The format.

    Raises ConfigError for one there is not.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    return form


def form_of(file: str | None) -> str:
    """The form that a file's name asks for; html where it asks for none.

    >>> form_of("table.tex"), form_of("report"), form_of(None)
    ('latex', 'html', 'html')
    """
    return {".md": "markdown", ".tex": "latex", ".csv": "csv"}.get(Path(file or "").suffix.lower(), "html")


def check_place(path: Path) -> Path:
    """The path of a file to be written.

    Raises ConfigError where there can be none.
    """
    if path.is_dir():
        raise ConfigError(f"--out {path}: a folder; give the file, as in --out {path / 'report.html'}")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}; make it first, or choose another place")
    return path


def write_report(text: str, path: Path) -> None:
    """The report in a file.

    Raises ConfigError where it cannot be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written ({error.strerror}); choose another place") from error
