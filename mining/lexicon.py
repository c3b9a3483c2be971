"""A word list mined from raw text, with the evidence for each word: by three methods, none of which knows any word."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mining.article import Removed, cut_at_once, remove_redundant
from mining.blocks import Texts, batched
from mining.corpus import Policy, Units, units
from mining.encodings import decoded
from mining.entropy import solidity
from mining.evidence import Usage, evidence, information
from mining.merges import Merge, Merger
from mining.ngrams import Ngrams, count
from mining.paths import Paths
from mining.scores import SHOWN, Scores
from mining.unigram import candidates, fit, is_of_letters

if TYPE_CHECKING:
    from pandas import DataFrame

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Method = Literal["best", "article", "greedy"]
Progress = Callable[[str, int, int], None]

SOLID = (0.0, 2.0, 4.0, 6.0)  # nats of PMI by length: what word-discovery (kexue.fm/archives/6920) asks for
MAX_LENGTH, MAX_LETTERS, MAX_CUT = 4, 12, 20  # units of a word: of Han, of letters, by the article's method
IN_MEMORY = 1 << 24  # units of a text whose paths are kept from pass to pass
COLUMNS = ("count", "probability", "pmi", "left_entropy", "right_entropy", "fstar", "saved_bits", "score")


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Words, best first, with their evidence, and the scores that texts are cut by.

    A run of digits in a word is written 0, one of letters A. Arrays are (V,).

    Args:
        words: of one unit too.
        count: how often each is a word of the text, as that is cut by `scores`.
        probability: count over the words of the text.
        pmi: of its units, the least over the splits in two, in nats; NaN for one unit, and where it was not counted.
        left_entropy: of the unit before it, in nats.
        right_entropy: of the unit behind it.
        fstar: F* (kexue.fm/archives/5476, 2.15) of the split that pmi is of.
        saved_bits: by how much the text is shorter than with its best parts instead.
        score: p e^2 u / max(1, k - 1), where p is the number of 50 equal parts of the text it is found in; e, its
            evenness, p over the number expected if it fell anywhere, at most 1; u the share of its occurrences that
            are words; and k its units. Names and turns of phrase stand in few places, or inside of words.
        is_known: whether it is in the dictionary given.
        scores: of all candidates.
        facts: method and settings, n_units, n_words, bits a character and description bits, in characters and words.
        removed: by the article's method.
        merges: by the greedy one.
    """

    words: tuple[str, ...]
    count: Ints
    probability: Floats
    pmi: Floats
    left_entropy: Floats
    right_entropy: Floats
    fstar: Floats
    saved_bits: Floats
    score: Floats
    is_known: NDArray[np.bool_]
    scores: Scores
    facts: Mapping[str, Any]
    removed: tuple[Removed, ...] = ()
    merges: tuple[Merge, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.words)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Evidence by name, (V,) each."""
        return {name: getattr(self, name) for name in (*COLUMNS, "is_known")}

    def to_frame(self) -> DataFrame:
        """A table with a row a word; needs pandas."""
        from mining.frames import lexicon_frame

        return lexicon_frame(self)

    def save(self, folder: Path | str) -> list[Path]:
        """Writes words.csv, words.json, words.txt (a user dictionary of jieba), scores.npz, and removed.csv if any."""
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        columns = {name: array.tolist() for name, array in self.columns().items()}
        rows = [
            dict(zip(("word", *columns), row, strict=True)) for row in zip(self.words, *columns.values(), strict=True)
        ]
        _write_csv(home / "words.csv", ("word", *columns), (row.values() for row in rows))
        found = {"facts": dict(self.facts), "words": [_without_nan(row) for row in rows]}
        (home / "words.json").write_text(json.dumps(found, ensure_ascii=False, indent=0), encoding="utf-8")
        plain = (row for row in rows if not set(row["word"]) & set(SHOWN.values()) and len(row["word"]) > 1)
        (home / "words.txt").write_text("".join(f"{row['word']} {row['count']}\n" for row in plain), encoding="utf-8")
        self.scores.save(home / "scores.npz")
        written = ["words.csv", "words.json", "words.txt", "scores.npz"]
        if self.facts["method"] == "article":
            gone = ((each.word, each.count, " ".join(each.parts), each.gain) for each in self.removed)
            _write_csv(home / "removed.csv", ("word", "count", "parts", "gain"), gone)
            written.append("removed.csv")
        return [home / name for name in written]

    @classmethod
    def load(cls, folder: Path | str) -> Lexicon:
        """What `save` wrote, but for what was removed and merged.

        Raises:
            ValueError: No lexicon is there.
        """
        home = Path(folder)
        try:
            found = json.loads((home / "words.json").read_text(encoding="utf-8"))
            rows = found["words"]
            columns: dict[str, Any] = {
                name: np.array([np.nan if row[name] is None else row[name] for row in rows], float) for name in COLUMNS
            }
            columns["count"] = columns["count"].astype(np.int64)
            known = np.array([row["is_known"] for row in rows], bool)
            words = tuple(row["word"] for row in rows)
            return cls(words, **columns, is_known=known, scores=Scores.load(home / "scores.npz"), facts=found["facts"])
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{home}: holds no lexicon ({error}); give a folder that `save` wrote, or mine it"
            ) from error


@dataclass(frozen=True)
class Settings:
    """What is a word, for all methods.

    Args:
        method: "best", "article" or "greedy".
        min_count: rarer words are left out, and n-grams are no candidates.
        min_prob: of a pair, by the article's method; of a candidate else, over all units.
        min_pmi: in nats, one for all lengths or one for each: of a candidate's splits, or of a pair and of a word over
            its parts by the article's method. None = 0,2,4,6 for scripts with thousands of characters and none for
            alphabets, and the article's 1.
        max_length: units of a word; None = 4, 12 of an alphabet, 20 by the article's method.
    """

    method: Method = "best"
    min_count: int = 2
    min_prob: float | None = None
    min_pmi: float | Sequence[float] | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method = '{self.method}': unknown; allowed: {', '.join(get_args(Method))}")
        if self.min_count < 1:
            raise ValueError(f"min_count = {self.min_count}: must be at least 1")
        if self.min_prob is not None and not 0 <= self.min_prob < 1:
            raise ValueError(f"min_prob = {self.min_prob}: must lie in [0, 1); 1e-7 is the article's")
        if self.max_length is not None and not 1 <= self.max_length <= 100:
            raise ValueError(f"max_length = {self.max_length}: must lie in [1, 100]; 4 does for Chinese")
        if not isinstance(self.min_pmi, float | int | None) and (self.method != "best" or not len(self.min_pmi)):
            raise ValueError(f"min_pmi = {self.min_pmi}: one for each length goes with method best; give one number")

    def length(self, policy: Policy) -> int:
        """Of n-grams to count."""
        if self.method == "article":
            return max(self.max_length or MAX_LENGTH, 2)  # pairs at least
        return self.max_length or (MAX_LETTERS if policy.latin == "each" else MAX_LENGTH)


def mine_lexicon(
    texts: Texts,
    *,
    method: Method = "best",
    min_count: int = 2,
    min_prob: float | None = None,
    min_pmi: float | Sequence[float] | None = None,
    max_length: int | None = None,
    known: Collection[str] = (),
    new_only: bool = False,
    keep: Collection[str] = (),
    stop: Collection[str] = (),
    policy: Policy = Policy(),  # noqa: B008 (frozen)
    ngrams: Ngrams | None = None,
    progress: Progress | None = None,
) -> Lexicon:
    r"""The words of texts.

    Args:
        texts: read a few times; an iterator is read into memory.
        method: "best": branching entropy, then a unigram model that pays for its words (`mining/unigram.py`);
            "article": cut at once, then prune (`mining/article.py`); "greedy": merges by F* for as long as they save
            more than the word costs (`mining/merges.py`), in memory.
        min_count: as `Settings` has it, and so are the next three.
        min_prob: of pairs or candidates.
        min_pmi: in nats.
        max_length: units of a word.
        known: a dictionary; its words are marked.
        new_only: whether they are left out.
        keep: words that need no PMI, and are listed however rare, if they are in the text.
        stop: words that are not listed; by the method "best" no text is cut into them either.
        policy: of units; where letters are units it is taken to be text without spaces.
        ngrams: of the same texts and policy, counted before, out of core perhaps.
        progress: called with what is being done, how much of it is done, and of how much.

    Raises:
        ValueError: A setting out of range, or texts without any unit.

    >>> from itertools import product
    >>> words = ["北京", "天气", "朋友", "喜欢", "学习", "经济", "我", "在", "很", "好"]
    >>> lexicon = mine_lexicon("\n".join(map("".join, product(words, repeat=3))))
    >>> [word for word in lexicon.words if len(word) > 1]
    ['北京', '喜欢', '天气', '学习', '朋友', '经济']
    """
    settings = Settings(method, min_count, min_prob, min_pmi, max_length)
    report = progress or (lambda *_: None)
    source = _Source(texts, policy)
    if ngrams is None:
        report("counting", 0, 0)
        ngrams = count(source.units(), settings.length(policy), min_count=min(min_count, 2), policy=policy)
    if not ngrams.n_units:
        raise ValueError("no words in no text: 0 characters that could be of a word; give a text, or another policy")
    report("scoring", 0, 0)
    lists = _Lists(frozenset(known), frozenset(keep), frozenset(stop), new_only)
    removed: list[Removed] = []
    merges: list[Merge] = []
    if method == "best":
        scores = _best(ngrams, source, settings, lists, policy)
    elif method == "article":
        scores, removed = _article(ngrams, source, settings, policy)
    else:
        scores, merges = _greedy(source, settings, policy)
    report("cutting", 0, 0)
    usage = Usage(scores, ngrams.n_units)
    for paths in source.paths(scores)():
        usage.add(paths)
    return _described(usage, ngrams, settings, lists, removed, merges)


@dataclass(frozen=True)
class _Lists:
    known: frozenset[str]
    keep: frozenset[str]
    stop: frozenset[str]
    new_only: bool


class _Source:
    """Texts as units, as often as need be; kept if they are short."""

    def __init__(self, texts: Texts, policy: Policy) -> None:
        self._texts: Texts = list(texts) if isinstance(texts, Iterator) else texts
        self._policy = policy
        self._units: list[Units] | None = None
        self._paths: tuple[Scores, list[Paths]] | None = None

    def units(self) -> Iterator[Units]:
        if self._units is not None:
            yield from self._units
            return
        kept: list[Units] | None = []
        n = 0
        for batch in batched(self._texts):
            found = batch if isinstance(batch, Units) else units(batch, self._policy)
            n += len(found)
            kept = None if kept is None or n > IN_MEMORY else [*kept, found]
            yield found
        self._units = kept

    def paths(self, scores: Scores) -> Callable[[], Iterable[Paths]]:
        """The paths of the texts by the rows of some scores, or of others with the same keys."""

        def each() -> Iterator[Paths]:
            if self._paths is not None and self._paths[0].keys is scores.keys:
                yield from self._paths[1]
                return
            is_kept = self._units is not None  # and not only from the end of this pass on
            kept = []
            for found in self.units():
                paths = Paths(scores.locate(found), found.starts)
                if is_kept:
                    kept.append(paths)
                yield paths
            if is_kept:
                self._paths = scores, kept

        return each


def _best(ngrams: Ngrams, source: _Source, settings: Settings, lists: _Lists, policy: Policy) -> Scores:
    least = settings.min_pmi
    if least is None and not is_of_letters(ngrams):
        least = SOLID
    by_length = [least] if isinstance(least, float | int) else least
    pruned = ngrams.pruned(min(settings.min_count, 2))
    is_candidate = candidates(pruned, by_length)
    floor = max(settings.min_count, (settings.min_prob or 0.0) * ngrams.n_units)
    for k, level in enumerate(pruned.levels[1:], 2):
        is_candidate[k - 1] &= (level.counts >= floor) & (k <= (settings.max_length or k))
    for words, is_word in ((lists.keep, True), (lists.stop, False)):
        for word in words:
            codes = units(word, policy).codes
            if 1 < len(codes) <= len(pruned.levels) and (row := pruned.find(codes[None])[0]) >= 0:
                is_candidate[len(codes) - 1][row] = is_word
    return fit(pruned, source.paths, is_candidate, policy)


def _article(ngrams: Ngrams, source: _Source, settings: Settings, policy: Policy) -> tuple[Scores, list[Removed]]:
    least = 1.0 if settings.min_pmi is None else float(np.ravel(settings.min_pmi)[0])
    min_prob = 1e-7 if settings.min_prob is None else settings.min_prob
    if len(ngrams.levels) < 2:
        raise ValueError("n-grams of one unit only: the article's method needs pairs; count to n = 2, or more")
    found = cut_at_once(source.units(), ngrams, min_prob, least)
    total = sum(found.values())
    frequent = {word: n for word, n in found.items() if n > min_prob * total}
    if not frequent:  # all of it was cut only once
        letters = zip(ngrams.codes(1), ngrams.levels[0].counts.tolist(), strict=True)
        frequent = {SHOWN.get(int(code[0])) or chr(code[0]): n for code, n in letters}
    longest = settings.max_length or MAX_CUT
    kept, removed = remove_redundant(frequent, min_gain=least, max_length=longest, policy=policy)
    return Scores.of_words(kept, policy), removed


def _greedy(source: _Source, settings: Settings, policy: Policy) -> tuple[Scores, list[Merge]]:
    merger = Merger(_joined(list(source.units())), min_count=settings.min_count, max_length=settings.max_length)
    merges = []
    while merge := merger.step("fstar", has_cost=True):
        merges.append(merge)
    counts = merger.counts.astype(float)
    spelled = [merger.spelled[token] for token in np.flatnonzero(counts).tolist()]
    text = Units(
        "",
        np.array([code for codes in spelled for code in codes], np.int32),
        *(np.empty(0, np.int64),) * 2,
        np.cumsum([0, *map(len, spelled)]),
    )
    tree, rows = Scores.of_segments(text, policy)
    return tree.valued(rows, np.diff(text.starts), counts[counts > 0]), merges


def _joined(parts: list[Units]) -> Units:
    codes = np.concatenate([part.codes for part in parts])
    places = np.cumsum([0, *map(len, parts)])
    starts = [part.starts[:-1] + place for part, place in zip(parts, places, strict=False)]
    none = np.empty(0, np.int64)
    return Units("", codes, none, none, np.concatenate([*starts, places[-1:]]))


def _described(
    usage: Usage,
    ngrams: Ngrams,
    settings: Settings,
    lists: _Lists,
    removed: list[Removed],
    merges: list[Merge],
) -> Lexicon:
    solid = solidity(ngrams)
    tables = []
    for k, counts in enumerate(usage.counts, 1):
        rows = np.flatnonzero(counts)
        words = usage.scores.words(k, rows)
        kept = [
            at
            for at, (word, n) in enumerate(zip(words, counts[rows].tolist(), strict=True))
            if (n >= settings.min_count or word in lists.keep)
            and word not in lists.stop
            and not (lists.new_only and word in lists.known)
        ]
        columns = evidence(usage, ngrams, solid, k, rows[kept])
        tables.append(([words[at] for at in kept], columns))
    words = [word for table, _ in tables for word in table]
    whole = {name: np.concatenate([columns[name] for _, columns in tables]) for name in COLUMNS}
    order = np.lexsort((-whole["count"], -whole["score"]))
    listed = tuple(words[at] for at in order.tolist())
    known = np.array([word in lists.known for word in listed], bool)
    return Lexicon(
        listed,
        **{name: array[order] for name, array in whole.items()},
        is_known=known,
        scores=usage.scores,
        facts={**vars(settings), **information(usage, ngrams)},
        removed=tuple(removed),
        merges=tuple(merges),
    )


def read_words(path: Path | str) -> dict[str, float]:
    """Words of a file and their counts: .csv or .json of a lexicon, a user dictionary of jieba, or a word a line.

    Raises:
        ValueError: There is no such file, or no word in it.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            text = "".join(decoded(stream, str(file))).removeprefix("\ufeff")
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}); give a list of words, one a line") from error
    rows: Iterable[Sequence[str]]
    if file.suffix == ".json":
        try:
            found = json.loads(text)
            rows = [(row["word"], str(row["count"])) for row in (found["words"] if isinstance(found, dict) else found)]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: holds no lexicon ({error}); give the words.json of one, or .txt") from error
    elif file.suffix == ".csv":
        rows = list(csv.reader(text.splitlines()))
        rows = rows[1:] if rows and rows[0][0] == "word" else rows
    else:
        rows = [line.split() for line in text.splitlines()]
    words = {row[0]: _number(row[1]) if len(row) > 1 else 1.0 for row in rows if row and row[0]}
    if not words:
        raise ValueError(f"{file}: no word in it; give one a line, with its count behind a space if it is known")
    return words


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # a BOM is what spreadsheets know UTF-8 by
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def _without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}
