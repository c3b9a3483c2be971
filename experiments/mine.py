"""`taolu mine apriori`: the itemsets and rules of baskets, as a recorded run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from experiments.basket_source import Source, refused
from experiments.cluster import Map, check_scheduler, workers
from experiments.errors import ConfigError
from experiments.label import Label, Result
from experiments.mining_run import Job, Plan, Say, check_out, claim_parts, recorded
from experiments.remote import here
from experiments.rule_pictures import graph, scatter
from experiments.rule_report import lines, plain, record
from experiments.store.location import Store
from experiments.words import ENGLISH, Words
from mining.apriori import Itemsets, Kind, Method, estimate, mine_itemsets, threshold
from mining.baskets import Baskets
from mining.frames import item_names, itemsets_table, rules_table
from mining.lattice import Budget
from mining.layouts import Layout
from mining.partitions import PART, mine_partitions
from mining.rules import Rules, possible_rules, rules

if TYPE_CHECKING:
    import pyarrow as pa

EXPERIMENT, KIND = "mine-apriori", "rules"
WANTED = 10_000  # itemsets, where no support is given
LEVEL = 0.05  # of the tests
MOST_RULES = 20_000_000  # possible ones; with more, heads are of one item unless --max_head says otherwise
Significance = Literal["holm", "fdr", "none"]
CORRECTED = {"holm": "holm", "fdr": "q_value"}


@dataclass(frozen=True)
class Request:
    """What is asked for; see the options of the verb. None is chosen by the data.

    Args:
        source: a file, stdlib or quest.
        layout: of a file.
        n_baskets: of quest.
        seed: of quest.
        drop_empty: whether baskets without items are left out of the count.
        min_support: share or count.
        min_confidence: share.
        max_length: of itemsets.
        max_head: of consequents.
        strict: whether both lie above their thresholds, not at them.
        kind: frequent, closed or maximal itemsets.
        method: fast or article.
        include: items of every itemset.
        exclude: items of none.
        top_k: the most frequent itemsets alone.
        significance: correction of the test that a rule must pass at 5 %; None = none where a threshold is given.
        keep_redundant: rules that say no more than simpler ones; None = kept where a threshold is given.
        budget: at which mining ends with what it has.
        parts: folder of a job larger than memory.
        part_size: baskets a part.
        workers: processes that mine parts.
        scheduler: address of a Dask scheduler whose workers mine them instead.
    """

    source: str
    layout: Layout = field(default_factory=Layout)
    n_baskets: int = 100_000
    seed: int = 0
    drop_empty: bool = False
    min_support: float | None = None
    min_confidence: float | None = None
    max_length: int | None = None
    max_head: int | None = None
    strict: bool = False
    kind: Kind = "frequent"
    method: Method = "fast"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    top_k: int | None = None
    significance: Significance | None = None
    keep_redundant: bool | None = None
    budget: Budget = field(default_factory=Budget)
    parts: Path | None = None
    part_size: int = PART
    workers: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for what cannot be asked for."""
        check_scheduler(self.scheduler, self.parts, self.workers)
        confidence = self.min_confidence
        if confidence is not None and not 0 <= confidence <= 1:
            raise ConfigError(
                f"--min_confidence {confidence}: must lie in [0, 1]; 0.5 keeps rules right every second time"
            )
        if self.min_support is not None:
            with refused():
                threshold(self.min_support, 1)
        if self.parts is not None:
            given = {"kind": self.kind != "frequent", "method": self.method != "fast", "include": bool(self.include)}
            given |= {"exclude": bool(self.exclude), "top_k": self.top_k is not None, "drop_empty": self.drop_empty}
            for name in (name for name, is_given in given.items() if is_given):
                raise ConfigError(f"--{name}: does not go with --parts, which finds every frequent itemset")
            if self.min_support is None:
                raise ConfigError("--parts: needs --min_support; what is larger than memory is not tried out")

    @property
    def is_default(self) -> bool:
        """Whether no threshold is given."""
        return self.min_support is None and self.min_confidence is None

    def settings(self) -> dict[str, Any]:
        """As config.yaml."""
        layout = {key: value for key, value in vars(self.layout).items() if value is not None}
        budget = {key: value for key, value in vars(self.budget).items() if value != getattr(Budget(), key)}
        own = {key: value for key, value in vars(self).items() if key not in ("layout", "budget")}
        own |= {"include": list(self.include), "exclude": list(self.exclude)}
        own |= {"parts": str(self.parts) if self.parts else None}
        if self.source != "quest":
            own = {key: value for key, value in own.items() if key not in ("n_baskets", "seed")}
        return {
            "mine": "apriori",
            **own,
            **({"layout": layout} if layout else {}),
            **({"budget": budget} if budget else {}),
        }


@dataclass(frozen=True)
class Mined:
    """What came of it.

    Args:
        result: how the run ended.
        plain: for JSON, beside the run.
    """

    result: Result
    plain: dict[str, Any]


def mine(
    request: Request, *, store: Store, label: Label, out: Path | None = None, say: Say, words: Words = ENGLISH
) -> Mined:
    """Mines, and records it.

    Raises ConfigError, before there is a run, for a source or setting that cannot be used.
    """
    check_out(out)
    with here((request.source,)) as (local,):
        return _mine(request, replace(request, source=local), store, label, out, say, words)


def _mine(
    asked: Request, request: Request, store: Store, label: Label, out: Path | None, say: Say, words: Words
) -> Mined:
    """Args: what was asked for; the same with its source on this machine."""
    with refused():
        source = Source.of(request)
        request = _filled(request, source, say, words)
    data = {**source.facts(), "digest": source.digest(request)}
    settings = replace(request, source=asked.source).settings()
    plan = Plan(EXPERIMENT, KIND, settings, source.name, asked.source, data["digest"], source.facts())
    told: dict[str, Any] = {}
    with (
        workers(request.scheduler, request.workers, request.parts) as spread,
        recorded(plan, store, label, out, say) as job,
    ):
        job.say(source.said(words))
        found = _itemsets(job, request, source, spread)
        made = _rules(job, request, found, words)
        table = rules_table(made)
        _write(job, found, made, table)
        record(found, len(made), job)
        told |= plain(found, table) | {"files": [str(path) for path in job.written]}
        for line in lines(found, table, job.metrics["time/mine_seconds"], words):
            job.say(line)
        for path in job.written:
            job.say(words("written", path=path))
        job.say(words("rules_filter", run=job.writer.run_id[:8]))
    thresholds = {"min_support": request.min_support, "min_confidence": request.min_confidence}
    return Mined(job.result, {"data": data, **thresholds, **told})


def _filled(request: Request, source: Source, say: Say, words: Words) -> Request:
    """The request with what it leaves to the data, and items as the data have them."""
    if source.baskets is None:
        return replace(
            request,
            min_confidence=_given(request.min_confidence, 0.5),
            significance=request.significance or "none",
            keep_redundant=_given(request.keep_redundant, True),
        )
    chosen = []
    for name, wanted in (("include", request.include), ("exclude", request.exclude)):
        known = {str(item) for item in source.baskets.items} if wanted else set()
        if unknown := [item for item in wanted if item not in known]:
            raise ConfigError(f"--{name} {unknown[0]}: in no basket; items are written as in the baskets")
    default = request.is_default
    if request.min_support is None:
        share = suggested_support(source.baskets)
        request = replace(request, min_support=share)
        chosen.append(words("chosen_support", share=share, n=WANTED))
    if request.min_confidence is None:
        request = replace(request, min_confidence=0.5)
        chosen.append(words("chosen_confidence", share=request.min_confidence))
    if request.significance is None:
        request = replace(request, significance="holm" if default else "none")
        chosen += [words("chosen_significance", level=LEVEL)] if default else []
    if request.keep_redundant is None:
        request = replace(request, keep_redundant=not default)
        chosen += [words("chosen_redundant")] if default else []
    if chosen:
        say(words("chosen", what=words("between_counts").join(chosen)))
    return request


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def suggested_support(baskets: Baskets, wanted: int = WANTED) -> float:
    """A share, of two digits, at which about so many itemsets are frequent: a third of that to three times as many.

    Pairs of items tell where to begin; then it is tried out, each trial with an end. A set of one basket never counts.

    >>> suggested_support(Baskets.of([["tea", "milk"], ["tea", "milk"]]), wanted=2)
    1.0
    """
    count = max(int(np.bincount(baskets.indices, minlength=1).max(initial=0)), 2)
    while count > 2 and estimate(baskets, count) < wanted:
        count = max(int(count / 1.5), 2)
    fell = rose = False
    while not (fell and rose):
        found = mine_itemsets(baskets, count, budget=Budget(itemsets=3 * wanted))
        if len(found) >= 3 * wanted or not found.complete:
            count, rose = int(count * 1.25) + 1, True
        elif len(found) < wanted / 3 and count > 2:
            count, fell = max(int(count / 1.25), 2), True
        else:
            break
    return min(float(f"{count / max(len(baskets), 1):.2g}"), 1.0)


# ---- mining ---------------------------------------------------------------------------------------------------------


def _itemsets(job: Job, request: Request, source: Source, spread: Map) -> Itemsets:
    told = job.progress("mining", unit="itemsets")
    assert request.min_support is not None
    with job.stage("mine"):
        if request.parts is not None:
            return _in_parts(job, request, source, spread)
        assert source.baskets is not None
        items = _named(source.baskets.items, (*request.include, *request.exclude))
        return mine_itemsets(
            source.baskets,
            request.min_support,
            max_length=request.max_length,
            strict=request.strict,
            kind=request.kind,
            include=[items[name] for name in request.include],
            exclude=[items[name] for name in request.exclude],
            top_k=request.top_k,
            budget=request.budget,
            method=request.method,
            progress=told,
        )


def _named(items: Sequence[Hashable], names: Sequence[str]) -> dict[str, Hashable]:
    """The items that are written so."""
    return {str(item): item for item in items} if names else {}


def _in_parts(job: Job, request: Request, source: Source, spread: Map) -> Itemsets:
    """Exact too; what a part gave is kept in the folder, so that a killed job goes on there."""
    assert request.parts is not None
    assert request.min_support is not None
    claim_parts(request.parts, source.name, source.digest(request), "baskets")
    notes: Counter[str] = Counter()

    def chunks() -> Iterator[Baskets]:
        told, n_baskets = job.progress("reading", unit="baskets"), 0
        for chunk in source.chunks(request.part_size):
            notes.update(chunk.notes)
            n_baskets += len(chunk)
            told(n_baskets)
            yield chunk

    def counting(function: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
        told = job.progress("mining", unit="parts")
        for done, each in enumerate(spread(function, jobs), 1):
            told(done)
            yield each

    found = mine_partitions(
        chunks(),
        request.min_support,
        request.parts,
        max_length=request.max_length,
        strict=request.strict,
        part_size=request.part_size,
        map=counting,
    )
    return replace(found, notes=dict(notes))


def _rules(job: Job, request: Request, found: Itemsets, words: Words) -> Rules:
    assert request.min_confidence is not None
    max_head = request.max_head
    if max_head is None and (possible := possible_rules(found, None)) > MOST_RULES:
        job.say(words("one_head", n=possible))
        max_head = 1
    with job.stage("rules"):
        made = rules(found, request.min_confidence, max_head=max_head, strict=request.strict)
        if request.significance in CORRECTED:
            made = made.where(made.measure(CORRECTED[str(request.significance)]) <= LEVEL)
        return (made if request.keep_redundant else made.without_redundant()).sorted()


def _write(job: Job, found: Itemsets, made: Rules, table: pa.Table) -> None:
    job.table("itemsets", itemsets_table(found))
    job.table("rules", table)
    if len(made):
        names = [str(name) for name in item_names(found.names).to_pylist()]
        job.picture("scatter", scatter(made))
        job.picture("graph", graph(made, names, job.say))
