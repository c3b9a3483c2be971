"""Where a sweep stands: its trials counted, its best, and the lines that say so."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.design import Design
from experiments.parser import word
from experiments.store.heartbeat import TAG, heartbeat
from experiments.store.studies import TrialRecord, latest, ranked
from experiments.words import ENGLISH, Words, aligned

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress

    from experiments.store.write import RunWriter

BEAT_SECONDS = 10.0
LINE_SECONDS = 5.0  # between two lines where there is no terminal


@dataclass(frozen=True)
class Cell:
    """A point, over the seeds it was tried with.

    Args:
        point: without the seed.
        trials: that completed.
        means: one an objective; infinite where a seed diverged.
        deviations: standard deviations over the seeds; NaN of one.
    """

    point: Mapping[str, Any]
    trials: tuple[TrialRecord, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]


@dataclass(frozen=True)
class Tally:
    """The trials of a study, without attempts that were repeated.

    Args:
        design: of the study.
        trials: in order.
    """

    design: Design
    trials: tuple[TrialRecord, ...]

    @classmethod
    def of(cls, design: Design, trials: Iterable[TrialRecord]) -> Tally:
        """The tally of all attempts."""
        return cls(design, tuple(latest(trials)))

    @property
    def done(self) -> int:
        """Trials with a result, diverged and pruned ones among them."""
        return sum(trial.is_result for trial in self.trials)

    @property
    def running(self) -> list[TrialRecord]:
        """Trials at work."""
        return [trial for trial in self.trials if trial.state == "RUNNING" and trial.owner]

    @property
    def failed(self) -> list[TrialRecord]:
        """Trials that raised, or whose processes died again and again; what a worker takes up again is none."""
        return [trial for trial in self.trials if trial.state == "FAIL" and not trial.is_given_back]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do: of a grid, whether every cell has its result for every seed."""
        planned = self.design.n_planned()
        over = self.done + (0 if self.design.is_grid else len(self.failed))
        return self.done > 0 and not self.running and (planned is None or over >= planned)

    @property
    def is_broken(self) -> bool:
        """Whether a result is missing that cannot be done without: any cell of a grid, all trials of a sampler."""
        return bool(self.failed) and (self.design.is_grid or self.done == 0)

    def cells(self) -> list[Cell]:
        """The points with a value, the best by the mean of their first objective first."""
        by_point: dict[str, list[TrialRecord]] = {}
        for trial in ranked(self.trials, self.design.objectives[0].direction or "min"):
            point = self._point(trial)
            by_point.setdefault(str(sorted(point.items(), key=str)), []).append(trial)
        cells = [_cell(self._point(trials[0]), trials) for trials in by_point.values()]
        sign = -1 if self.design.objectives[0].direction == "max" else 1
        return sorted(cells, key=lambda cell: sign * cell.means[0])

    def _point(self, trial: TrialRecord) -> dict[str, Any]:
        return {key: value for key, value in trial.params.items() if key in self.design.space.parameters}

    # -- in words ---------------------------------------------------------------------------------------------

    def counts(self, words: Words = ENGLISH) -> str:
        """Done, running, failed in a few words."""
        planned = self.design.n_planned()
        diverged = sum(trial.end == "diverged" for trial in self.trials)
        pruned = sum(trial.end in ("pruned", "timed out") for trial in self.trials)
        done = words("tally_done_of" if planned else "tally_done", done=self.done, planned=planned)
        found = {"failed": len(self.failed), "diverged": diverged, "cut_short": pruned}
        more = (words(f"tally_{what}", n=count) for what, count in found.items() if count or what == "failed")
        return "  ".join([done, words("tally_running", n=len(self.running)), *more])

    def best(self, words: Words = ENGLISH) -> str:
        """The best cell in a few words; nothing before there is one."""
        cells = self.cells()
        if not cells or not math.isfinite(cells[0].means[0]):
            return ""
        metric = self.design.objectives[0].metric
        return words("tally_best", metric=metric, value=f"{cells[0].means[0]:.5g}", point=said(cells[0].point))

    def closing(self, status: str, words: Words = ENGLISH) -> Iterator[str]:
        """What is said in the end."""
        yield f"{words(status)} {self.design.name}: {self.counts(words)}"
        if best := self.best(words):
            yield best
        for trial in self.failed[:3]:
            error = trial.error or words.known(f"end_{trial.end}", trial.end)
            yield words("trial_failed", n=trial.number, point=said(trial.params), error=error)
        more = " --resume" if not self.is_complete else " --show"
        yield words("look_at" if self.is_complete else "go_on", command=f"taolu sweep {self.design.name}{more}")

    def table(self, words: Words = ENGLISH) -> Iterator[str]:
        """One line a cell, the best first, then what has no value."""
        metrics = [objective.metric for objective in self.design.objectives]
        cells = self.cells()
        keys = list(dict.fromkeys(key for cell in cells for key in cell.point))
        names = (name for metric in metrics for name in (metric, words("column_sd")))
        rows = [[*keys, *names, words("column_trials")]]
        for cell in cells:
            pairs = zip(cell.means, cell.deviations, strict=True)
            figures = [text for mean, sd in pairs for text in (f"{mean:.5g}", "" if math.isnan(sd) else f"{sd:.5g}")]
            numbers = ", ".join(str(trial.number) for trial in cell.trials)
            rows.append([*(word(cell.point.get(key)) for key in keys), *figures, numbers])
        yield from aligned(rows)
        for trial in self.trials:
            if not (trial.state == "COMPLETE" and trial.values):
                what = trial.end or trial.state.lower()
                what = words.known(f"end_{what}", what)
                told = words("trial_ended", n=trial.number, point=said(trial.params), what=what)
                yield f"{told}{': ' + trial.error if trial.error else ''}"


def _cell(point: Mapping[str, Any], trials: list[TrialRecord]) -> Cell:
    columns = list(zip(*(trial.values for trial in trials), strict=True))
    means = tuple(sum(column) / len(column) for column in columns)
    spread = tuple(
        statistics.stdev(column) if len(column) > 1 and all(map(math.isfinite, column)) else math.nan
        for column in columns
    )
    return Cell(point, tuple(sorted(trials, key=lambda trial: trial.number)), means, spread)


def summary(study: str, tally: Tally) -> dict[str, Any]:
    """The study in a few plain values: counts, and the best cell."""
    counts = {"done": tally.done, "failed": len(tally.failed), "running": len(tally.running)}
    cells = tally.cells()
    best = None
    if cells and math.isfinite(cells[0].means[0]):
        metrics = [objective.metric for objective in tally.design.objectives]
        best = {
            "point": dict(cells[0].point),
            "values": dict(zip(metrics, cells[0].means, strict=True)),
            "trials": [trial.number for trial in cells[0].trials],
            "run_ids": [run_id for trial in cells[0].trials for run_id in trial.run_ids],
        }
    planned = tally.design.n_planned()
    return {"study": study, "planned": planned, "complete": tally.is_complete, "trials": counts, "best": best}


def said(point: Mapping[str, Any]) -> str:
    """A point as a person says it.

    >>> said({"optimizer.lr": 0.1, "data.batch_size": 16})
    'optimizer.lr 0.1, data.batch_size 16'
    """
    return ", ".join(
        f"{key} {f'{value:.4g}' if isinstance(value, float) else word(value)}" for key, value in point.items()
    )


class Teller:
    """Tells the user and the store where the sweep is: a bar on a terminal, else a line now and then.

    Args:
        writer: of the sweep's run.
        design: of the sweep.
        say: prints one line.
        words: of the language.
    """

    def __init__(self, writer: RunWriter, design: Design, say: Callable[[str], None], words: Words = ENGLISH) -> None:
        self._words = words
        self._writer = writer
        self._design = design
        self._say = say
        self._started = time.monotonic()
        self._first: int | None = None  # done before this session
        self._told = self._beat = -math.inf
        self._line = self._best = ""
        self._bar = _bar()

    def tell(self, tally: Tally) -> None:
        """Where it is now."""
        self._first = tally.done if self._first is None else self._first
        counts = tally.counts(self._words)
        line = "  ".join(filter(None, [counts, tally.best(self._words), self._left(tally)]))
        if self._bar is not None:
            self._bar.update(
                self._bar.tasks[0].id, refresh=True, total=self._design.n_planned(), completed=tally.done, line=line
            )
        elif counts != self._line and time.monotonic() - self._told > LINE_SECONDS:
            self._told, self._line = time.monotonic(), counts
            self._say(line)
        self._record(tally)

    def _left(self, tally: Tally) -> str:
        planned, done = self._design.n_planned(), tally.done - (self._first or 0)
        if not planned or not done:
            return ""
        seconds = (time.monotonic() - self._started) / done * max(planned - tally.done - len(tally.failed), 0)
        if seconds < 120:
            return self._words("tally_left_seconds", n=seconds)
        return self._words("tally_left_minutes", n=seconds / 60)

    def _record(self, tally: Tally) -> None:
        if time.monotonic() - self._beat > BEAT_SECONDS:
            self._beat = time.monotonic()
            self._writer.tags({TAG: heartbeat(tally.done, self._design.n_planned())})
            self._reopen(tally)
        best = tally.best()
        if best and best != self._best:
            self._best = best
            value = tally.cells()[0].means[0]
            self._writer.metrics([("sweep/best", value, int(time.time() * 1000), tally.done)])

    def _reopen(self, tally: Tally) -> None:
        """The run says RUNNING again, which a machine that left, or died, took for over between two trials of ours."""
        writer = self._writer
        if tally.running and writer.client.get_run(writer.run_id).info.status != "RUNNING":
            writer.client.update_run(writer.run_id, status="RUNNING")

    def close(self) -> None:
        """The bar goes."""
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Progress | None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    bar = Progress(BarColumn(), TextColumn("{task.fields[line]}"), console=console, transient=True, auto_refresh=False)
    bar.add_task("", line="")
    bar.start()
    return bar
