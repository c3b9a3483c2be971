"""The process that watches the workers of a sweep on one machine, and with the last of all machines closes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from experiments.build import Say
from experiments.errors import ConfigError
from experiments.run import FAILED, FINISHED, KILLED, Result
from experiments.signals import Interrupted, Signals
from experiments.store.files import list_files
from experiments.store.location import redact
from experiments.store.outage import is_outage, patiently
from experiments.store.read import read_run
from experiments.store.replay import reap, replay
from experiments.store.studies import StudyRecord, TrialRecord, find_study
from experiments.store.write import RunWriter, release_connections
from experiments.sweep import Queue
from experiments.sweeper import Job, end_runs, work
from experiments.tally import Tally, Teller, summary
from experiments.words import ENGLISH, Words
from experiments.workers import Workers

HANG_SECONDS = 30.0  # beyond its time a trial has to reach the end of a batch before its worker is killed
LOOK_SECONDS = 2.0  # between two looks at the study
SCHEDULED = "SCHEDULED"

T = TypeVar("T")


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended.

    Args:
        run: its own run, as of any other.
        study: as it is now.
        tally: its trials, counted.
        verdict: of the claim it tests; empty where there is none, or it is not judged yet.
    """

    run: Result
    study: StudyRecord
    tally: Tally
    verdict: str = ""

    def summary(self) -> dict[str, Any]:
        """What `--json` adds to a run."""
        return {**summary(self.study.name, self.tally), "verdict": self.verdict}


@dataclass
class Crew:
    """The workers of one machine, or of one part of it, and the process that watches them.

    Args:
        job: of each.
        count: how many.
        devices: see Workers.
        queue: of the study.
        writer: of the sweep's run.
        signals: entered and deferred.
        say: prints one line.
        words: of the language.
    """

    job: Job
    count: int
    devices: Sequence[str]
    queue: Queue
    writer: RunWriter
    signals: Signals
    say: Say
    words: Words = ENGLISH
    _looked: float = field(default=0.0, init=False)
    _done: int = field(default=0, init=False)

    def run(self) -> SweepResult:
        """Returns when the study is complete, the time is over or a signal has ended the workers.

        While other machines still work on the last trials it waits: what they give back is tried here.

        Raises ConfigError when workers die again and again, or the database stays away.
        """
        started = time.monotonic()
        planned = self.job.design.n_planned()
        opening = {"run": self.writer.run_id[:8], "name": self.job.design.name, "store": self.job.store.label}
        trials = self.words("plan_count", n=planned) if planned else self.words("any_trials")
        self.say(self.words("sweep_opening", **opening, trials=trials, workers=self.count))
        self.teller = Teller(self.writer, self.job.design, self.say, self.words)
        self.workers = Workers(
            self.count,
            partial(work, self.job),
            before_start=self._release,
            bury=lambda pid, status: self._patiently(lambda: self._bury(pid, status)),
            progress=self._look,
            signals=self.signals,
            devices=self.devices,
        )
        try:
            count = 0 if self._patiently(self._is_complete) else self.count
            while count:
                self.workers.run(count)
                count = self._patiently(self._wait)
            self._looked = 0.0
            self._look()
        finally:
            self.teller.close()
        self.signals.ignore()
        return self._ended(time.monotonic() - started)

    def leave_to_others(self) -> SweepResult:
        """The study as it was begun, for workers that join it."""
        self.writer.client.update_run(self.writer.run_id, status=SCHEDULED)
        store = self.job.store
        where = f"--store {store.label}" if store.database is None else f"--store {store.folder}"
        self.say(self.words("sweep_waits", status=self.words(SCHEDULED), name=self.job.design.name, where=where))
        if not store.url.startswith("postgresql"):
            self.say(self.words("sweep_local"))
        tally = Tally.of(self.job.design, self.queue.trials)
        return self._result(tally, SCHEDULED, 0.0, 0)

    # -- while they work --------------------------------------------------------------------------------------

    def _release(self) -> None:
        release_connections(self.job.store)
        self.queue.release()

    def _bury(self, pid: int, status: int) -> None:
        self.queue.bury(pid, status)
        replay(self.job.store)
        reap(self.job.store)

    def _look(self) -> int:
        """Trials that are done, as seen lately; a database that is away is looked at again."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            try:
                tally = Tally.of(self.job.design, self.queue.trials)
                self.teller.tell(tally)
                self._end_hanging(tally)
                self._done = tally.done
            except Exception as error:  # MLflow's, Optuna's and SQLAlchemy's
                if not is_outage(error):
                    raise
        return self._done

    def _end_hanging(self, tally: Tally) -> None:
        if self.job.seconds is not None:
            for trial in tally.running:
                if _seconds_running(trial) > self.job.seconds + HANG_SECONDS:
                    self.workers.kill(int(trial.owner["pid"]), str(trial.owner["host"]))

    def _wait(self) -> int:
        """How many workers are to go on: at once where a trial waits, 0 when no machine works on one any more."""
        while self.signals.received is None and not self._is_late():
            trials = self.queue.trials
            running = [trial for trial in trials if trial.state == "RUNNING"]
            back = len(running) - len(self.queue.at_work(trials))
            if back or self.queue.is_left(trials):
                return self.count
            if not running:
                return 0
            self.teller.tell(Tally.of(self.job.design, trials))
            time.sleep(LOOK_SECONDS)
        return 0

    def _is_complete(self) -> bool:
        return Tally.of(self.job.design, self.queue.trials).is_complete

    def _is_late(self) -> bool:
        return self.job.deadline is not None and time.time() > self.job.deadline

    def _patiently(self, call: Callable[[], T]) -> T:
        """What the call returns, however long the database is away, up to ten minutes.

        Raises Interrupted where a signal came meanwhile, else ConfigError.
        """
        try:
            return patiently(call, lambda: self.signals.received is not None)
        except Exception as error:
            if not is_outage(error):
                raise
            if self.signals.received is not None:
                raise Interrupted(self.signals.received) from error
            reason = redact(" ".join(str(error.__cause__ or error).split())[:300])
            raise ConfigError(
                f"store {self.job.store.label}: has been away for ten minutes ({reason}); when it is back, go on: "
                f"taolu sweep worker {self.job.design.name}"
            ) from error

    # -- the end ----------------------------------------------------------------------------------------------

    def _ended(self, seconds: float) -> SweepResult:
        """Everything written down, and said in a few lines."""
        tally, status, is_ours = self._patiently(lambda: self._close(seconds))
        verdict = self._verdict() if is_ours and tally.is_complete and self.signals.received is None else ""
        received = self.signals.received
        for line in tally.closing(status, self.words):
            self.say(line)
        return self._result(tally, status, seconds, 128 + received if received else int(status == FAILED), verdict)

    def _close(self, seconds: float) -> tuple[Tally, str, bool]:
        """The study's tally, the sweep's status, and whether it is we who closed it: the last to leave does."""
        replay(self.job.store)
        with self.queue.locked():
            trials = self.queue.trials
            tally = Tally.of(self.job.design, trials)
            others = self.queue.at_work(trials)
            before = read_run(self.job.store, self.writer.run_id).status
            status = FINISHED if tally.done and not tally.is_broken else FAILED
            if others or (tally.is_complete and before == status):
                return tally, before, False
            end_runs(self.job.store, self.job.design.name)
            if self.signals.received and not tally.is_complete:
                status = KILLED
            self.writer.metrics([("time/wall_seconds", seconds, int(time.time() * 1000), tally.done)])
            self.writer.finish(status)
        return tally, status, True

    def _result(self, tally: Tally, status: str, seconds: float, code: int, verdict: str = "") -> SweepResult:
        failed = tally.failed if status == FAILED else []
        result = Result(
            run_id=self.writer.run_id,
            name=self.writer.name,
            experiment=self.job.design.name,
            kind="sweep",
            status=status,
            seconds=seconds,
            metrics=read_run(self.job.store, self.writer.run_id).metrics,
            artifacts=list_files(self.writer.folder),
            folder=self.writer.folder,
            exit_status=code,
            error=f"{len(failed)} trials failed: {failed[0].error}" if failed else "",
        )
        return SweepResult(result, find_study(self.job.store, self.job.design.name), tally, verdict)

    def _verdict(self) -> str:
        """The verdict on the claim the sweep tests, from its runs, kept with the sweep's run."""
        claim = self.job.design.verdict
        if claim is None:
            return ""
        from experiments.claims.record import Settings
        from experiments.claims.runner import run as run_claims

        finding = run_claims([claim], Settings(effort="full"), self.job.store, self.say)[0]
        verdict = str(finding.decision.verdict)
        self.writer.tags({"taolu.claim": claim, "taolu.verdict": verdict, "taolu.uses": finding.run_id})
        return verdict


def _seconds_running(trial: TrialRecord) -> float:
    return time.time() - float(trial.owner.get("time", time.time()))
