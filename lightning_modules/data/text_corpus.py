"""Text as tokens on disk: split and encoded once, then memory maps under the digest of text, split and tokenizer."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_modules.data.text_sources import Piece, TextSource, texts
from lightning_modules.data.text_split import Pieces, hold_out, is_clean
from lightning_modules.data.text_tokenizers import Tokenizer, build_tokenizer, load_tokenizer
from lightning_modules.data.tokenizer_files import digest

FORMAT = "1"  # of the cache; another number leaves the old folders unread
LEARNT = ("characters", "bpe")  # tokenizers that depend on the training part
CLEAN_BYTES = 2**26  # of the training part, up to which places seen in training are looked for

Ints = npt.NDArray[np.int64]


class Part(NamedTuple):
    """The documents of a part, one behind the other: N tokens of n documents."""

    tokens: npt.NDArray[np.unsignedinteger]  # (N,), a memory map
    starts: Ints  # (n + 1,), of each document, and N
    prompts: Ints  # (n,), tokens at a document's start that are not trained on
    labels: Ints | None  # (n,)
    n_bytes: npt.NDArray[np.unsignedinteger] | None  # (N,), a memory map; of the validation part
    clean: npt.NDArray[np.bool_] | None  # (N,), of the validation part of a text that is not too large


class Corpus(NamedTuple):
    """Both parts, what they were encoded with, and where they lie."""

    train: Part
    validation: Part
    tokenizer: Tokenizer
    class_names: list[str] | None  # by label; None without labels
    folder: Path


def open_corpus(
    source: TextSource, name: str, tokenizer: str, vocabulary_size: int, fraction: float, cache_dir: str | None
) -> Corpus:
    """The corpus of a source, from the cache or encoded into it; other processes wait meanwhile.

    Args:
        source: Of the documents.
        name: What to call it in messages.
        tokenizer: A name of `build_tokenizer`.
        vocabulary_size: Of a BPE.
        fraction: Share that validates where the source has no validation part.
        cache_dir: None = tokens/ in taolu's folder of the user's cache.

    Raises:
        ValueError: No text in a part; what the tokenizer refuses.
    """
    from filelock import FileLock

    root = Path(cache_dir).expanduser() if cache_dir else _user_cache()
    fixed = None if tokenizer in LEARNT else build_tokenizer(tokenizer, vocabulary_size, lambda: ())
    spelled = f"{tokenizer}:{vocabulary_size if tokenizer == 'bpe' else ''}" if fixed is None else fixed.digest
    key = digest(FORMAT, source.digest, spelled, "" if source.validation else str(fraction))
    folder = root / key
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{key}.lock"):
        if not folder.exists():
            unfinished = root / f"{key}.part"
            shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
            unfinished.mkdir()
            try:
                _encode_source(source, name, (tokenizer, vocabulary_size), fraction, unfinished)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
            unfinished.rename(folder)
    names = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    used = fixed or load_tokenizer(folder / "tokenizer")
    train, validation = (_open_part(folder / part, _kind(used)) for part in ("train", "validation"))
    return Corpus(train, validation, used, names, folder)


def parts_of(source: TextSource, name: str, fraction: float) -> tuple[Pieces, Pieces]:
    """What reads the training and the validation documents."""
    if source.validation is not None:
        return source.train, source.validation
    return hold_out(source.train, fraction, name)


def _kind(tokenizer: Tokenizer) -> type[np.uint16 | np.uint32]:
    """The smallest type for its ids."""
    return np.uint16 if tokenizer.vocabulary_size <= 2**16 else np.uint32


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "taolu" / "tokens"


def _encode_source(source: TextSource, name: str, spec: tuple[str, int], fraction: float, folder: Path) -> None:
    train, validation = parts_of(source, name, fraction)
    tokenizer = build_tokenizer(*spec, lambda: texts(train()))
    tokenizer.save(folder / "tokenizer")
    classes = _classes(train(), validation(), name)
    names = None if classes is None else [str(each) for each in classes]
    (folder / "classes.json").write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
    sizes = {}
    for part, pieces in (("train", train), ("validation", validation)):
        sizes[part] = _encode(pieces(), _Writer(folder / part, tokenizer, with_bytes=part == "validation"), classes)
        if not (folder / part / "tokens").stat().st_size:
            raise ValueError(f"{name}: holds no text in its {part} part; give a file with some")
    if sizes["train"] <= CLEAN_BYTES:
        _mark_clean(folder / "validation", is_clean(train(), validation()))


def _classes(train: Iterable[Piece], validation: Iterable[Piece], name: str) -> list[int | str] | None:
    """The labels of the training part in order; None where its first document has none."""
    labels: set[int | str] = set()
    for piece in train:
        if piece.label is None:
            return None
        labels.add(piece.label)
    for piece in validation:
        if piece.label not in labels:
            raise ValueError(f"{name}: class '{piece.label}' validates and is in no training document; give one")
    return sorted(labels, key=lambda label: (isinstance(label, str), label))


def _encode(pieces: Iterable[Piece], writer: "_Writer", classes: list[int | str] | None) -> int:
    """Writes a part as its documents are read; returns the bytes of its text."""
    numbers = {label: number for number, label in enumerate(classes or ())}
    labels = []
    with writer:
        for piece in pieces:
            if piece.is_first:
                writer.begin(piece.prompt)
                labels.append(numbers.get(piece.label, -1) if piece.label is not None else -1)
            writer.text(piece.text)
        writer.finish(labels)
    return writer.n_bytes


class _Writer:
    """Tokens of a part on their way to the disk.

    Args:
        folder: Made for them.
        tokenizer: Encodes.
        with_bytes: Whether the bytes of each token are written too.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, *, with_bytes: bool) -> None:
        folder.mkdir()
        self.folder, self.tokenizer, self.with_bytes = folder, tokenizer, with_bytes
        self.kind = _kind(tokenizer)
        self.n_tokens = self.n_bytes = self._carried = 0
        self.starts: list[int] = []
        self.prompts: list[int] = []

    def __enter__(self) -> "_Writer":
        self._tokens = (self.folder / "tokens").open("wb")
        self._sizes = (self.folder / "bytes").open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._tokens.close()
        self._sizes.close()

    def begin(self, prompt: str) -> None:
        """Ends the document before and begins one with its prompt."""
        self._end()
        self.starts.append(self.n_tokens)
        self.text(prompt)
        self.prompts.append(self.n_tokens - self.starts[-1])

    def text(self, text: str) -> None:
        """Encodes what comes next in the document."""
        if not text:
            return
        self.n_bytes += len(text.encode())
        if not self.with_bytes:
            self._write(self.tokenizer.encode(text), [])
            return
        ids, sizes = self.tokenizer.encode_with_bytes(text)
        if not ids:  # white space, to WordPiece
            self._carried += len(text.encode())
            return
        sizes[0] += self._carried
        self._carried = 0
        self._write(ids, sizes)

    def finish(self, labels: list[int]) -> None:
        """Ends the last document and writes where each stands that has a token: one of white space may have none."""
        self._end()
        starts = np.array([*self.starts, self.n_tokens], np.int64)
        has_tokens = np.diff(starts) > 0
        arrays = {"starts": np.append(starts[:-1][has_tokens], starts[-1])}
        arrays |= {"prompts": np.array(self.prompts)[has_tokens], "labels": np.array(labels)[has_tokens]}
        for key, numbers in arrays.items():
            np.save(self.folder / f"{key}.npy", numbers.astype(np.int64))

    def _end(self) -> None:
        if self.starts and self.tokenizer.end_id is not None:
            self._write([self.tokenizer.end_id], [0])

    def _write(self, ids: list[int], sizes: list[int]) -> None:
        np.array(ids, self.kind).tofile(self._tokens)
        self.n_tokens += len(ids)
        if self.with_bytes:
            np.array(sizes, np.uint32).tofile(self._sizes)


def _mark_clean(folder: Path, clean: npt.NDArray[np.bool_]) -> None:
    """Writes for each token whether all of its bytes are clean; one without bytes goes with the byte before it."""
    edges = np.concatenate([[0], np.fromfile(folder / "bytes", np.uint32).cumsum(dtype=np.int64)]).clip(max=len(clean))
    first, last = edges[:-1].copy(), edges[1:]
    first[first == last] -= 1
    n_seen = np.concatenate([[0], (~clean).cumsum()])
    np.save(folder / "clean.npy", n_seen[last] == n_seen[first.clip(min=0)])


def _open_part(folder: Path, kind: npt.DTypeLike) -> Part:
    starts, prompts, labels = (np.load(folder / f"{key}.npy") for key in ("starts", "prompts", "labels"))
    has_bytes = (folder / "bytes").stat().st_size > 0
    return Part(
        np.memmap(folder / "tokens", kind, mode="r"),
        starts,
        prompts,
        labels if (labels >= 0).all() else None,
        np.memmap(folder / "bytes", np.uint32, mode="r") if has_bytes else None,
        np.load(folder / "clean.npy") if (folder / "clean.npy").exists() else None,
    )
