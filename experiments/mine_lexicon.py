"""`taolu mine lexicon`: the words of raw texts, as a recorded run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.basket_source import refused
from experiments.cluster import Map, check_scheduler, workers
from experiments.errors import ConfigError, did_you_mean
from experiments.label import Label, Result
from experiments.lexicon_pictures import lengths_picture, merges_picture, ranks_picture
from experiments.mining_run import Job, Plan, Say, check_out, claim_parts, peak_megabytes, recorded
from experiments.remote import here
from experiments.store.location import Store
from experiments.words import ENGLISH, Words
from mining.corpus import Policy, units
from mining.frames import jieba_words
from mining.lexicon import Lexicon, Settings, mine_lexicon, read_words
from mining.merges import Merge, greedy_merges
from mining.ngrams import count
from mining.segment import Segmenter, score
from mining.sources import HUB, NAMES, Sources, open_texts, policy_of, pydoc_words
from mining.texts import STDIN, files

if TYPE_CHECKING:
    import pyarrow as pa

EXPERIMENT, KIND = "mine-lexicon", "lexicon"
DEFAULT = "pydoc"
SAMPLE = 20_000  # characters of the text kept with their per-gap scores
CURVE_UNITS, CURVE_MERGES, CURVE_POINTS = 100_000, 400, 200  # of the curve of bits against merges
SHOWN = 20  # words printed


@dataclass(frozen=True)
class Request:
    """What is asked for; see the options of the verb.

    Args:
        sources: files, folders, "-" or names.
        settings: what is a word.
        policy: of units; None = what suits the sources.
        encoding: of files; None = found.
        field: key or column of the text.
        known: a file of words, or "jieba"; None = none.
        new_only: whether known words are left out.
        keep: a file of words that are listed whatever their evidence.
        stop: a file of words that are not.
        parts: folder for counting out of core; again with it goes on.
        memory: megabytes a block of the text, where counted out of core.
        workers: processes that count.
        scheduler: address of a Dask scheduler whose workers count instead.
    """

    sources: tuple[str, ...] = (DEFAULT,)
    settings: Settings = field(default_factory=Settings)
    policy: Policy | None = None
    encoding: str | None = None
    field: str | None = None
    known: str | None = None
    new_only: bool = False
    keep: Path | None = None
    stop: Path | None = None
    parts: Path | None = None
    memory: float | None = None
    workers: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for what cannot be asked for."""
        check_scheduler(self.scheduler, self.parts, self.workers)
        if self.new_only and self.known is None:
            raise ConfigError("--new_only: new to what? give --known FILE, or --known jieba")
        if self.memory is not None and self.memory <= 0:
            raise ConfigError(f"--memory {self.memory:g}: must be above 0 megabytes; 200 is usual")
        for name in self.sources:
            if name == HUB:
                raise ConfigError(f"{HUB}: which set? give {HUB}OWNER/NAME")
            if is_path(name) and not Path(name).expanduser().exists() and (hint := did_you_mean(name, NAMES)):
                raise ConfigError(f"{name}: no such file or folder{hint}")
        if STDIN in self.sources and len(self.sources) > 1:
            raise ConfigError("-: standard input is read alone; give it, or files and names")

    @property
    def units(self) -> Policy:
        """The policy in force."""
        return self.policy or policy_of(self.sources)

    def record(self) -> dict[str, Any]:
        """As config.yaml."""
        own = {key: value for key, value in vars(self).items() if key not in ("settings", "policy", "sources")}
        own |= {key: str(own[key]) if own[key] else None for key in ("keep", "stop", "parts")}
        wanted = vars(self.settings)
        least = wanted["min_pmi"]
        wanted = {**wanted, "min_pmi": least if isinstance(least, float | int | None) else list(least)}
        return {"mine": "lexicon", "sources": list(self.sources), **wanted, **vars(self.units), **own}


@dataclass(frozen=True)
class Mined:
    """What came of it.

    Args:
        result: how the run ended.
        plain: for JSON, beside the run.
    """

    result: Result
    plain: dict[str, Any]


class Texts:
    """The texts of the sources, read again each time they are gone through; standard input is kept.

    `n_characters` and `n_bytes` (of UTF-8) are those of the last time.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._texts: Iterable[str] = Sources(request.sources, request.encoding, request.field)
        if STDIN in request.sources:
            self._texts = list(self._texts)
        self.n_characters = self.n_bytes = 0

    def __iter__(self) -> Iterator[str]:
        """Each text, or piece of one."""
        n_characters = n_bytes = 0
        for text in self._texts:
            n_characters += len(text)
            n_bytes += len(text.encode("utf-8", "surrogatepass"))
            yield text
        self.n_characters, self.n_bytes = n_characters, n_bytes

    def check(self) -> None:
        """Reads what is on this machine once, a hundredth of the work, so that what is no text is refused at once.

        Raises ValueError for bytes of another encoding, rows without text, and where nothing could be of a word.
        """
        if any(name.startswith(HUB) for name in self._request.sources):
            return
        n_units = 0
        for text in self:
            n_units = n_units or len(units(text, self._request.units))
        if not n_units:
            raise ValueError(
                f"{' '.join(self._request.sources)}: {self.n_characters:,} characters, none that could be of a word; "
                "give a text, or another --numbers and --latin"
            )

    def beginning(self, n_characters: int) -> str:
        """So many characters, a line end between texts."""
        held = ""
        for text in self:
            held += ("\n" if held and held[-1] != "\n" else "") + text[:n_characters]
            if len(held) >= n_characters:
                break
        return held[:n_characters]

    def digest(self) -> str:
        """SHA-256 of the files' bytes; of names on the Hub, their name; of what is made here, the text."""
        whole = hashlib.sha256()
        for name in self._request.sources:
            if name in NAMES or name == STDIN:
                whole.update("\n".join(self if name == STDIN else open_texts([name])).encode("utf-8", "surrogatepass"))
            elif name.startswith(HUB):
                whole.update(name.encode())
            else:
                for path in files(name):
                    with path.open("rb") as file:
                        whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()

    def facts(self) -> dict[str, Any]:
        """About the data."""
        sizes = [path.stat().st_size for name in self._request.sources if is_path(name) for path in files(name)]
        return {"sources": list(self._request.sources), **({"files": len(sizes), "bytes": sum(sizes)} if sizes else {})}


def is_path(name: str) -> bool:
    """Whether a source is a file or folder."""
    return name not in (*NAMES, STDIN) and not name.startswith(HUB)


def mine(
    request: Request, *, store: Store, label: Label, out: Path | None = None, say: Say, words: Words = ENGLISH
) -> Mined:
    """Mines, and records it.

    Raises ConfigError, before there is a run, for a source or setting that cannot be used.
    """
    check_out(out)
    with here(request.sources) as sources:
        return _mine(request, Texts(replace(request, sources=sources)), store, label, out, say, words)


def _mine(
    request: Request, texts: Texts, store: Store, label: Label, out: Path | None, say: Say, words: Words
) -> Mined:
    with refused():
        lists = _lists(request)
        digest, facts = texts.digest(), {**texts.facts(), "sources": list(request.sources)}
        texts.check()
        if request.parts is not None:
            counted = [digest, request.settings.length(request.units), request.settings.min_count, request.units]
            job_digest = hashlib.sha256(repr([*counted, request.memory]).encode()).hexdigest()
            claim_parts(request.parts, " ".join(request.sources), job_digest, "texts or settings")
    name = "+".join(Path(source).name for source in request.sources)
    plan = Plan(EXPERIMENT, KIND, request.record(), name, " ".join(request.sources), digest, facts)
    told: dict[str, Any] = {}
    with (
        workers(request.scheduler, request.workers, request.parts) as spread,
        recorded(plan, store, label, out, say) as job,
    ):
        lexicon = _lexicon(job, request, texts, lists, spread)
        _write(job, lexicon, texts, request)
        gold = _against_gold(job, lexicon) if request.sources == (DEFAULT,) else {}
        told |= _plain(lexicon, texts, gold) | {"files": [str(path) for path in job.written]}
        for line in _lines(job, lexicon, texts, request, gold, words):
            job.say(line)
        for path in job.written:
            job.say(words("written", path=path))
        job.say(words("lexicon_next", run=job.writer.run_id[:8]))
    return Mined(job.result, {"data": {**facts, "digest": digest}, **told})


@dataclass(frozen=True)
class _Lists:
    known: Collection[str]
    keep: Collection[str]
    stop: Collection[str]


def _lists(request: Request) -> _Lists:
    known: Collection[str] = ()
    if request.known is not None:
        known = jieba_words() if request.known == "jieba" else frozenset(read_words(Path(request.known).expanduser()))
    keep, stop = (frozenset(read_words(path)) if path else () for path in (request.keep, request.stop))
    return _Lists(known, keep, stop)


def _lexicon(job: Job, request: Request, texts: Texts, lists: _Lists, spread: Map) -> Lexicon:
    settings, policy = request.settings, request.units
    progress = _Progress(job)
    with _measured(job, "count", texts), job.stage("count"):
        ngrams = count(
            texts,
            settings.length(policy),
            min_count=min(settings.min_count, 2),
            policy=policy,
            memory=request.memory,
            folder=request.parts,
            map=spread,
            progress=progress,
        )
    with _measured(job, "words", texts), job.stage("words"):
        return mine_lexicon(
            texts,
            **vars(settings),
            known=lists.known,
            new_only=request.new_only,
            keep=lists.keep,
            stop=lists.stop,
            policy=policy,
            ngrams=ngrams,
            progress=progress,
        )


class _Progress:
    """Tells a job what an engine is at: a bar for each thing it does."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._what = ""
        self._told: Callable[[int], None] = lambda _: None

    def __call__(self, what: str, done: int, of: int) -> None:
        if what != self._what:
            self._what = what
            self._told = self._job.progress(what, of or None)
        self._told(done)


@contextmanager
def _measured(job: Job, stage: str, texts: Texts) -> Iterator[None]:
    """Records CPU seconds, those of workers too, megabytes of UTF-8 text a CPU second, and peak memory of a stage."""
    started = sum(os.times()[:4])
    yield
    seconds = sum(os.times()[:4]) - started
    speed = texts.n_bytes / 1e6 / max(seconds, 0.01)  # the clock's step
    job.record({f"cpu/{stage}_seconds": seconds, f"speed/{stage}_megabytes_per_s": speed})
    job.record({f"memory/{stage}_megabytes": peak_megabytes()})


# ---- what is kept ---------------------------------------------------------------------------------------------------


def _write(job: Job, lexicon: Lexicon, texts: Texts, request: Request) -> None:
    facts = lexicon.facts
    job.table("words", words_table(lexicon))
    folder = job.writer.folder
    with job.stage("write"):
        for path in lexicon.save(folder):
            if path.name == "words.csv":
                path.unlink()  # the table's own, with a BOM, is in `out`
                continue
            job.also(path.name, partial(shutil.copyfile, path))
    first = beginning_merges(texts, request.units)
    own = lexicon.merges, facts["n_units"]
    merges, n_units = own if lexicon.merges else first
    if merges:
        job.table("merges", merges_table(merges, n_units))
    sample = texts.beginning(SAMPLE)
    gaps = Segmenter(lexicon.scores).gaps(sample)
    job.file("gaps.npz", lambda path: _save_npz(path, **gaps._asdict()))
    job.file("sample.txt", lambda path: path.write_bytes(sample.encode("utf-8", "replace")))
    curve = bits_curve(first[0])
    now = int(time.time() * 1000)
    job.writer.metrics(("bits_per_character", bits, now, step) for step, bits in curve)
    before, after = (facts["bits_per_character"][name] for name in ("units", "words"))
    job.record(
        {
            "lexicon/words": float(len(lexicon)),
            "lexicon/known": float(lexicon.is_known.sum()),
            "lexicon/characters": float(facts["n_units"]),
            "lexicon/tokens": float(facts["n_words"]),
            "lexicon/bits_per_character_before": before,
            "lexicon/bits_per_character_after": after,
            "lexicon/description_bits_before": facts["description_bits"]["units"],
            "lexicon/description_bits_after": facts["description_bits"]["words"],
        }
    )
    if len(lexicon):
        job.picture("lengths", lengths_picture(lexicon))
        job.picture("ranks", ranks_picture(lexicon, job.say))
    if len(curve) > 1:
        job.picture("merges", merges_picture(curve, before))


def words_table(lexicon: Lexicon) -> pa.Table:
    """A row a word, best first."""
    import pyarrow as pa

    words = [word.encode("utf-8", "replace").decode() for word in lexicon.words]
    return pa.table({"word": pa.array(words, pa.string()), **{k: pa.array(v) for k, v in lexicon.columns().items()}})


def merges_table(merges: Sequence[Merge], n_units: int) -> pa.Table:
    """A row a merge, in order: left and right became word, which saved so many bits of the text.

    Args:
        merges: some.
        n_units: of the text.
    """
    import pyarrow as pa

    left, right = ([merge.parts[at].encode("utf-8", "replace").decode() for merge in merges] for at in (0, 1))
    found = {"left": left, "right": right, "word": [a + b for a, b in zip(left, right, strict=True)]}
    texts = {name: pa.array(each, pa.string()) for name, each in found.items()}
    saved = [(merge.bits_before - merge.bits_after) * n_units for merge in merges]
    names = ("n_ab", "n_a", "n_b", "n_tokens", "bits_before", "bits_after", "gain")
    numbers = {name: [getattr(merge, name) for merge in merges] for name in names}
    return pa.table({**texts, "saved_bits": saved, **numbers})


def _save_npz(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def beginning_merges(texts: Texts, policy: Policy) -> tuple[tuple[Merge, ...], int]:
    """The first merges by F* of the beginning of the texts, and the units of that."""
    found = units(texts.beginning(CURVE_UNITS), policy)
    return (tuple(greedy_merges(found, criterion="fstar", n_merges=CURVE_MERGES)) if len(found) else ()), len(found)


def bits_curve(merges: Sequence[Merge]) -> list[tuple[int, float]]:
    """Bits a character by frequencies of tokens, after 0, 1, ... merges; at CURVE_POINTS of them at most."""
    curve = [(0, merges[0].bits_before)] if merges else []
    curve += [(at, merge.bits_after) for at, merge in enumerate(merges, 1)]
    if not curve:
        return []
    kept = np.unique(np.linspace(0, len(curve) - 1, min(CURVE_POINTS, len(curve))).astype(int)).tolist()
    return [curve[at] for at in kept]


def _against_gold(job: Job, lexicon: Lexicon) -> dict[str, float]:
    """How well the English text without spaces is cut, as its spaces have it."""
    segments = pydoc_words()
    cut = "".join(Segmenter(lexicon.scores).stream(["\n".join(map("".join, segments))]))
    found = score(cut, "\n".join(" ".join(words) for words in segments))
    job.record({f"score/{name}": value for name, value in found._asdict().items()})
    return found._asdict()


# ---- what is said ---------------------------------------------------------------------------------------------------


def _plain(lexicon: Lexicon, texts: Texts, gold: Mapping[str, float]) -> dict[str, Any]:
    best = shown_words(lexicon, np.arange(len(lexicon)))
    return {
        "words": len(lexicon),
        "characters": texts.n_characters,
        "facts": json.loads(json.dumps(dict(lexicon.facts), default=list)),
        "best": best,
        "new": shown_words(lexicon, np.flatnonzero(~lexicon.is_known)) if lexicon.is_known.any() else [],
        **({"score": dict(gold)} if gold else {}),
    }


def shown_words(lexicon: Lexicon, rows: np.ndarray[Any, Any], n: int = SHOWN) -> list[str]:
    """The best words of more than one unit among some rows."""
    return [lexicon.words[at] for at in rows.tolist() if len(lexicon.words[at]) > 1][:n]


def _lines(
    job: Job, lexicon: Lexicon, texts: Texts, request: Request, gold: Mapping[str, float], words: Words
) -> Iterator[str]:
    facts = lexicon.facts
    seconds = job.metrics["cpu/count_seconds"] + job.metrics["cpu/words_seconds"]
    megabytes = texts.n_bytes / 1e6
    yield words(
        "lexicon_read",
        sources=" ".join(request.sources),
        megabytes=megabytes,
        characters=texts.n_characters,
        units=facts["n_units"],
        segments=facts["n_segments"],
        seconds=seconds,
        speed=megabytes / max(seconds, 0.01),
    )
    before, after = (facts["bits_per_character"][name] for name in ("units", "words"))
    yield words("lexicon_found", n=len(lexicon), before=before, after=after)
    best = " ".join(shown_words(lexicon, np.arange(len(lexicon))))
    yield words("lexicon_best", words=best or words("lexicon_no_words"))
    if request.known is not None and not request.new_only:
        share = float(lexicon.is_known.mean()) if len(lexicon) else 0.0
        yield words("lexicon_known", dictionary=request.known, share=share)
        new = " ".join(shown_words(lexicon, np.flatnonzero(~lexicon.is_known)))
        yield words("lexicon_new", words=new or words("none"))
    elif request.known is None:
        yield words("lexicon_compare")
    if gold:
        yield words("lexicon_gold", **gold)
