"""A mining job as a recorded run: begun, watched and ended as a training is, but without torch.

`with recorded(plan, ...) as job:` mines, telling `job.progress(...)`, and keeps what it found by `job.table(...)` and
`job.picture(...)`; after the block `job.result` says how it ended.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from experiments.capture import ConsoleLog
from experiments.errors import ConfigError
from experiments.label import Label, Result
from experiments.notify import without_urls
from experiments.provenance import code_files, command_line, environment, repositories
from experiments.signals import Interrupted, Signals
from experiments.store.files import atomic_path, list_files, write_text
from experiments.store.heartbeat import TAG, heartbeat
from experiments.store.location import Store
from experiments.store.read import read_run
from experiments.store.write import RunWriter, create_run, open_store

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image
    from rich.progress import Progress, TaskID

Say = Callable[[str], None]
BOM = b"\xef\xbb\xbf"  # without it spreadsheets take UTF-8 for the machine's old encoding
LINE_SECONDS, BEAT_SECONDS = 5.0, 20.0


@dataclass(frozen=True)
class Plan:
    """What is mined, from what, how.

    Args:
        experiment: of MLflow, by which runs are grouped, as mine-apriori.
        kind: tag taolu.kind, as rules.
        settings: as config.yaml and as parameters.
        data: name of the data.
        source: where they come from.
        digest: of their content.
        facts: about the data, as JSON holds them.
    """

    experiment: str
    kind: str
    settings: Mapping[str, Any]
    data: str
    source: str
    digest: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Job:
    """What a mining job is given to record itself with.

    Args:
        writer: of its run.
        out: folder of the user's own that gets the tables and pictures too, or None.
        say: takes a line.
        signals: asked now and then whether the job shall end.
    """

    def __init__(self, writer: RunWriter, out: Path | None, say: Say, signals: Signals) -> None:
        self.writer, self.out, self.say, self.signals = writer, out, say, signals
        self.metrics: dict[str, float] = {}
        self.written: list[Path] = []
        self.result: Result
        self._bar: Progress | None = None
        self._beat = time.monotonic()

    def record(self, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics of the run."""
        now = int(time.time() * 1000)
        self.writer.metrics((key, float(value), now, step) for key, value in values.items())
        self.metrics |= {key: float(value) for key, value in values.items()}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Wall time of a stage, as the metric time/<name>_seconds."""
        started = time.perf_counter()
        yield
        self._stop_bar()
        self.record({f"time/{name}_seconds": time.perf_counter() - started})

    def progress(self, what: str, total: int | None = None, unit: str = "") -> Callable[[int], None]:
        """A function to be told how much is done: a bar on a terminal, a line every five seconds elsewhere.

        It also keeps the run's heartbeat, and raises Interrupted when a signal has come.
        """
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._stop_bar()
        console, task = Console(stderr=True), None
        if console.is_terminal:
            text = TextColumn(f"{{task.description}} {{task.completed:,.0f}} {unit}")
            self._bar = Progress(
                SpinnerColumn(), text, BarColumn(), TimeElapsedColumn(), console=console, transient=True
            )
            task = self._bar.add_task(what, total=total)
            self._bar.start()
        return _Told(self, what, unit, task)

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def beat(self, step: int, total: int | None = None) -> None:
        """The run's heartbeat, where the last is old."""
        if time.monotonic() - self._beat > BEAT_SECONDS:
            self._beat = time.monotonic()
            self.writer.tags({TAG: heartbeat(step, total)})

    # -- files ------------------------------------------------------------------------------------------------

    def table(self, name: str, table: pa.Table, *, texts: Mapping[str, str] | None = None, kept: bool = False) -> None:
        """A table as NAME.parquet of the run, and in `out` also as NAME.csv, with a BOM.

        Args:
            name: of the files.
            table: Arrow's.
            texts: columns of lists -> what stands between their entries in the CSV; default " + ".
            kept: whether the CSV is the run's too.
        """
        import pyarrow.parquet as pq

        self.file(f"{name}.parquet", lambda path: pq.write_table(table, path))
        if self.out is not None or kept:
            self.file(f"{name}.csv", lambda path: write_csv(table, path, texts or {}), kept=kept)

    def picture(self, name: str, image: Image) -> None:
        """A picture of the run, shown on its page."""
        with atomic_path(self.writer.folder / "media" / name / "00000000.png") as part:
            image.save(part, format="PNG")
        self.also(f"{name}.png", lambda path: image.save(path, format="PNG"))

    def file(self, name: str, write: Callable[[Path], object], *, kept: bool = True) -> None:
        """A file of the run, and of `out`, written whole or not at all; `kept=False`: of `out` alone."""
        if kept:
            with atomic_path(self.writer.folder / name) as part:
                write(part)
        self.also(name, write)

    def also(self, name: str, write: Callable[[Path], object]) -> None:
        """A file of `out`, where there is one."""
        if self.out is not None:
            self.out.mkdir(exist_ok=True)
            with atomic_path(self.out / name) as part:
                write(part)
            self.written.append(self.out / name)


class _Told:
    """Shows, and keeps alive, what is told how much is done."""

    def __init__(self, job: Job, what: str, unit: str, task: TaskID | None) -> None:
        self.job, self.what, self.unit, self.task = job, what, unit, task
        self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        job = self.job
        job.signals.check()
        job.beat(done)
        if job._bar is not None and self.task is not None:
            job._bar.update(self.task, completed=done)
        elif time.monotonic() - self._said > LINE_SECONDS:
            self._said = time.monotonic()
            job.say(f"{self.what} {done:,} {self.unit}".rstrip())


def write_csv(table: pa.Table, path: Path, texts: Mapping[str, str]) -> None:
    """The table as CSV for spreadsheets: UTF-8 with a BOM, lists as text."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pcsv

    for at, column in enumerate(table.schema):
        if pa.types.is_list(column.type):
            entries = table.column(at).combine_chunks()
            words = pa.ListArray.from_arrays(entries.offsets, entries.values.cast(pa.string()))
            table = table.set_column(at, column.name, pc.binary_join(words, texts.get(column.name, " + ")))
    with path.open("wb") as file:
        file.write(BOM)
        pcsv.write_csv(table, file)


def check_out(out: Path | None) -> Path | None:
    """The folder for the user's own copies.

    Raises ConfigError where it is a file, or its parent is not there.
    """
    if out is None:
        return None
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; give a folder")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.absolute().parent}; make it first")
    return out


def claim_parts(folder: Path, source: str, digest: str, what: str) -> None:
    """Marks a folder as that of a job on these data; a job that was killed goes on there.

    Raises ConfigError where it holds parts of others, or cannot be written.
    """
    mark = folder / "source.json"
    try:
        if mark.exists():
            before = json.loads(mark.read_text(encoding="utf-8"))["digest"]
            if before != digest:
                raise ConfigError(f"--parts {folder}: holds other {what} ({before[:8]}); give another folder")
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_text(mark, json.dumps({"source": source, "digest": digest}))
    except OSError as error:
        raise ConfigError(f"--parts {folder}: cannot be written ({error.strerror}); give another folder") from error


@contextmanager
def recorded(plan: Plan, store: Store, label: Label, out: Path | None, say: Say) -> Iterator[Job]:
    """A run that lasts as long as the block; how it ended is in `job.result` afterwards, whatever the block raised.

    Raises ConfigError, before there is a run, for a place that cannot be written.
    """
    check_out(out)
    with Signals() as signals:
        open_store(store)
        tags = {**label.tags, "taolu.kind": plan.kind, "taolu.config": plan.experiment, "taolu.threads": "1"}
        tags |= {TAG: heartbeat(0, None)} | ({"mlflow.note.content": label.note} if label.note else {})
        tags |= {"taolu.seed": str(plan.settings["seed"])} if plan.settings.get("seed") is not None else {}
        writer = create_run(store, plan.experiment, label.name, tags)
        job = Job(writer, out, say, signals)
        started, cpu = time.perf_counter(), time.process_time()
        status, exit_status, error = "FAILED", 1, ""
        try:
            with ConsoleLog(writer.folder / "console.log"):
                say(f"run {writer.run_id[:8]} {writer.name} in {store.label}")
                try:
                    _origin(job, plan)
                    yield job
                    status, exit_status = "FINISHED", 0
                except Interrupted as stop:
                    status, exit_status = "KILLED", stop.exit_status
                except KeyboardInterrupt:
                    status, exit_status = "KILLED", 130
                except Exception as failure:  # noqa: BLE001 - whatever is raised is the run's end, told in one line
                    error = f"{type(failure).__name__}: {failure}"
                    writer.text("traceback.txt", traceback.format_exc())
                signals.ignore()  # what is left is writing down how it ended
                job._stop_bar()
                spent = {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu}
                job.record({f"time/{name}_seconds": value for name, value in spent.items()})
                job.record({"time/peak_megabytes": peak_megabytes()})
                if error:
                    say(f"FAILED: {error}; look: taolu show {writer.run_id[:8]}")
                elif exit_status:
                    parts = plan.settings.get("parts")
                    kept = f"again with --parts {parts} it goes on" if parts else "what was mined is not kept"
                    say(f"ended by a signal; {kept}: run {writer.run_id[:8]} is {status}")
        finally:
            writer.finish(status)
        job.result = _result(job, exit_status, error)


def _origin(job: Job, plan: Plan) -> None:
    """Settings, command, environment, code and data."""
    writer = job.writer
    writer.text("config.yaml", yaml.safe_dump(dict(plan.settings), sort_keys=False, allow_unicode=True))
    writer.params(plan.settings)
    states = repositories([Path.cwd()], writer.store.folder)
    commit = states[0].commit if states else ""
    writer.text("command.txt", without_urls(command_line()) + "\n")
    writer.text("env.json", json.dumps({**environment(1), "git_commit": commit}, indent=1))
    for name, text in code_files(states).items():
        writer.text(name, text)
    writer.tags({"taolu.git_commit": commit} if commit else {})
    facts = json.dumps(dict(plan.facts), ensure_ascii=False)
    writer.tags({"taolu.data_facts": facts})
    writer.dataset(plan.data, plan.digest, plan.source, facts)


def peak_megabytes() -> float:
    """The most memory this process has had."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _result(job: Job, exit_status: int, error: str) -> Result:
    record = read_run(job.writer.store, job.writer.run_id)
    return Result(
        record.run_id,
        record.name,
        record.experiment,
        record.kind,
        record.status,
        record.seconds or 0.0,
        record.metrics,
        list_files(record.folder),
        record.folder,
        exit_status,
        error,
    )
