"""Claims are run: probes in this process or several, verdicts over each article's battery, then the store."""

from __future__ import annotations

import functools
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.claims.context import Context, design_names
from experiments.claims.record import Finding, Ledger, Outcome, Settings, claim_document
from experiments.claims.registry import ARTICLES, PLANTED, Claim, Evidence, chosen, imported
from experiments.claims.verdict import Decision, decide
from experiments.claims.words import band_in, figure
from experiments.errors import ConfigError, unknown
from experiments.signals import Interrupted, Signals
from experiments.store.location import Store
from experiments.store.verdicts import write_catalogue
from experiments.store.words import phrase_in, why_in
from experiments.words import ENGLISH, Words, padded

Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]  # claims done, of how many, the one just done
EFFORTS = ("quick", "full")


@dataclass(frozen=True)
class Task:
    """A claim and how its probe is run; what a worker process is sent.

    Args:
        place: where the claim lies, `module:NAME` or `FILE.py:NAME`.
        id: of the claim.
        settings: of the whole command.
        store: where sweeps are read and runs recorded.
    """

    place: str
    id: str
    settings: Settings
    store: Store


def run(
    names: Sequence[str],
    settings: Settings,
    store: Store,
    say: Say,
    progress: Progress | None = None,
    *,
    words: Words = ENGLISH,
) -> list[Finding]:
    """The findings of the named claims and articles (all where none is named), recorded in the store.

    A probe that raises leaves its claim undetermined and its run FAILED; the others go on. When a signal ends it, the
    claims measured so far are judged and recorded first, then Interrupted is raised.
    Raises ConfigError before any probe runs for whatever cannot be used.
    """
    listing = catalogue(settings.files)
    known = {claim.id: claim for claims in listing.values() for claim in claims}
    places = {claim.id: place for place, claims in listing.items() for claim in claims}
    claims = chosen(names, _offered(listing, names))
    _check(claims, settings)
    ledger = Ledger(store, settings)
    write_catalogue(
        store,
        [claim_document(claim) | {"planted": place == PLANTED} for place, group in listing.items() for claim in group],
    )
    tasks = [Task(places[claim.id], claim.id, settings, store) for claim in claims]
    findings: list[Finding] = []
    with Signals() as signals:
        for battery in _batteries(tasks, known):
            outcomes: dict[str, Outcome] = {}
            stop: Interrupted | None = None
            try:
                _measure(battery, outcomes, progress or _silent)
            except Interrupted as interrupted:
                stop = interrupted
            signals.ignore()  # what is measured is judged and written down
            done = [known[task.id] for task in battery if task.id in outcomes]
            for finding in _judged(done, outcomes, ledger):
                findings.append(finding)
                say(line(finding, words))
            if stop is not None:
                raise stop
            signals.heed()
    return findings


def catalogue(files: Sequence[str] = ()) -> dict[str, tuple[Claim, ...]]:
    """Place -> the claims there: the articles', the planted ones, then those of the user's files.

    Raises ConfigError for a file without a tuple CLAIMS, and for an id that stands twice.
    """
    places = [place for group in ARTICLES.values() for place in group] + [PLANTED]
    listing = {place: imported(place) for place in places} | {_place(file): _user_claims(file) for file in files}
    ids = [claim.id for claims in listing.values() for claim in claims]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ConfigError(f"claim {twice}: defined twice; give one of the two another id")
    return listing


def _place(file: str) -> str:
    return f"{Path(file).expanduser().resolve()}:CLAIMS"


def _user_claims(file: str) -> tuple[Claim, ...]:
    from lightning_modules.parts import load_file

    if not Path(file).expanduser().is_file():
        raise ConfigError(f"--import {file}: no such file; give a Python file that ends in CLAIMS = (Claim(...),)")
    try:
        found = getattr(load_file(Path(file)), "CLAIMS", None)
    except Exception as error:  # whatever the user's file raises
        raise ConfigError(f"--import {file}: {type(error).__name__}: {error}") from error
    if not isinstance(found, tuple) or not found or not all(isinstance(item, Claim) for item in found):
        raise ConfigError(f"--import {file}: has no claims; end the file with CLAIMS = (Claim(...),)")
    return found


def claims_at(place: str) -> tuple[Claim, ...]:
    """The claims at `module:NAME` or `FILE.py:NAME`."""
    file = place.rpartition(":")[0]
    return _user_claims(file) if file.endswith(".py") else imported(place)


def _offered(listing: dict[str, tuple[Claim, ...]], names: Sequence[str]) -> list[Claim]:
    """What may be chosen from: all but the planted, of which only those named by id."""
    return [claim for place, claims in listing.items() for claim in claims if place != PLANTED or claim.id in names]


def _check(claims: Sequence[Claim], settings: Settings) -> None:
    if settings.effort not in EFFORTS:
        raise unknown("effort", settings.effort, EFFORTS)
    if not claims:
        raise ConfigError("no claims to run; name claims or articles, as in: taolu claims run 5655")
    allowed = {name for claim in claims for name in design_names(claim.probe)}
    for name, _ in settings.custom:
        if name not in allowed:
            raise unknown("design value", name, allowed)


def _batteries(tasks: Sequence[Task], known: dict[str, Claim]) -> list[list[Task]]:
    """The tasks by article: claims judged together."""
    articles = dict.fromkeys(known[task.id].article for task in tasks)
    return [[task for task in tasks if known[task.id].article == article] for article in articles]


def _silent(done: int, total: int, claim: str) -> None:
    pass


# ---- probes ---------------------------------------------------------------------------------------------------------


def _measure(battery: Sequence[Task], outcomes: dict[str, Outcome], progress: Progress) -> None:
    """The outcome of each task, put in `outcomes` as it comes."""
    workers = min(battery[0].settings.workers, len(battery))
    if workers <= 1:
        with _one_thread():
            for task in battery:
                outcomes[task.id] = probe(task)
                progress(len(outcomes), len(battery), task.id)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)
    try:
        futures = {pool.submit(probe, task): task for task in battery}
        for future in as_completed(futures):
            outcomes[futures[future].id] = _outcome(future)
            progress(len(outcomes), len(battery), futures[future].id)
    except BaseException:
        for process in list((pool._processes or {}).values()):  # Python 3.14 has kill_workers for it
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool as error:
        return Outcome(None, f"BrokenProcessPool: a worker process was killed, out of memory perhaps: {error}")


def start_worker() -> None:
    """One thread, in a process that leaves Ctrl-C to its parent."""
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _torch_threads(1)
    threadpool_limits(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread in torch and NumPy while this lasts: the number of threads changes the last bits."""
    from threadpoolctl import threadpool_limits

    before = _torch_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        _torch_threads(before)


def _torch_threads(number: int) -> int:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    return before


def probe(task: Task) -> Outcome:
    """What the task's probe gives: a function of seed, effort and design.

    Raises ConfigError for a design value of the wrong type.
    """
    settings = task.settings
    claim = _find(task.place, task.id)
    context = Context(settings.seed, settings.effort, dict(settings.custom), task.store)
    cpu = time.process_time()
    evidence, error = None, ""
    try:
        evidence = claim.probe(context)
        if not isinstance(evidence, Evidence):
            raise TypeError(f"the probe gave {evidence!r}, not Evidence")
    except ConfigError:
        raise
    except Exception:  # noqa: BLE001 - whatever a probe raises is its run's end, not the others'
        error = traceback.format_exc()
    seconds = time.process_time() - cpu
    if evidence is not None:
        evidence = replace(evidence, seconds=seconds)
    custom = tuple(name for name, _ in settings.custom if name in context.asked)
    return Outcome(evidence, error, tuple(context.children), custom, seconds)


@functools.lru_cache(maxsize=1000)
def _find(place: str, claim_id: str) -> Claim:
    return next(claim for claim in claims_at(place) if claim.id == claim_id)


# ---- verdicts -------------------------------------------------------------------------------------------------------


def _judged(claims: Sequence[Claim], outcomes: dict[str, Outcome], ledger: Ledger) -> Iterator[Finding]:
    """Every claim of the battery judged with the others, and recorded."""
    measured = [(claim, evidence) for claim in claims if (evidence := outcomes[claim.id].evidence) is not None]
    decisions = dict(zip((claim.id for claim, _ in measured), decide(measured), strict=True))
    for claim in claims:
        outcome = outcomes[claim.id]
        last = outcome.error.strip().rpartition("\n")[2]
        decision = decisions.get(claim.id) or Decision("undetermined", 1.0, f"the probe raised {last}")
        yield ledger.write(claim, outcome, decision)


def line(finding: Finding, words: Words = ENGLISH) -> str:
    """The finding in one line of text."""
    claim, evidence, decision = finding.claim, finding.outcome.evidence, finding.decision
    why = why_in(words.language, decision.reason)
    if evidence is None:
        told = words("claim_failed", why=why, run=finding.run_id[:8])
        return f"{padded(words('FAILED'), 13)} {claim.id:12} {told}"
    measured = f"{phrase_in(words.language, evidence.statistic)} = {figure(vars(evidence), words)}"
    told = words("claim_line", figure=measured, band=band_in(words, claim.rule, claim.band))
    told += words("claim_why", why=why) if why else ""
    took = words("took_seconds", seconds=finding.outcome.seconds)
    return f"{padded(words(decision.verdict), 13)} {claim.id:12} {told}  {took}"
