"""The words of a lexicon as a tokenizer: the longest word at every place, or the likeliest cut."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_modules.data.tokenizer_files import digest, save_settings

N_BYTES = 256


class Words:
    """The words of a lexicon; a character that begins none becomes its UTF-8 bytes, so every text can be written.

    Ids are the 256 bytes, the words in the order given, and the end of a document.

    Args:
        words: The lexicon, each word once.
        counts: How often each word occurs: a text is then cut where the product of the words' probabilities is
            largest (Viterbi). None = at every place the longest word.

    Raises:
        ValueError: A word twice, an empty lexicon, or counts that are not positive.

    >>> longest, likeliest = Words(["ab", "abc", "cd"]), Words(["ab", "abc", "cd"], [50, 1, 50])
    >>> longest.encode("abcd"), likeliest.encode("abcd")
    ([257, 100], [256, 258])
    """

    kind = "words"

    def __init__(self, words: Sequence[str], counts: Sequence[float] | None = None) -> None:
        self.words = tuple(words)
        self.counts = None if counts is None else tuple(counts)
        self.ids = {word: N_BYTES + number for number, word in enumerate(self.words)}
        if not self.words or "" in self.ids or len(self.ids) < len(self.words):
            twice = next((word for number, word in enumerate(self.words) if self.ids[word] != N_BYTES + number), "")
            raise ValueError(
                f"lexicon of {len(self.words)} words"
                + (f": '{twice}' stands in it twice" if twice else ": has no words, or an empty one")
                + "; give one word a line"
            )
        if self.counts is not None and min(self.counts) <= 0:
            raise ValueError(f"lexicon: count {min(self.counts)} of '{self._rarest()}'; counts must be positive")
        self.vocabulary_size = N_BYTES + len(self.words) + 1
        self.end_id: int | None = self.vocabulary_size - 1
        self.digest = digest(self.kind, *self.words, str(self.counts))
        self.longest = max(map(len, self.words))
        total = sum(self.counts or (1,))
        self._cost = {word: math.log(total / count) for word, count in zip(self.words, self.counts or (), strict=False)}
        self._unknown_cost = math.log(total) + math.log(N_BYTES)  # beyond the rarest word's, for each byte

    def encode(self, text: str) -> list[int]:
        """Ids of the words, and of the bytes between them."""
        ids: list[int] = []
        for word in self._cut(text):
            found = self.ids.get(word)
            ids += word.encode() if found is None else (found,)
        return ids

    def encode_with_bytes(self, text: str) -> tuple[list[int], list[int]]:
        """Ids, and the bytes of each word or 1."""
        ids = self.encode(text)
        return ids, [1 if number < N_BYTES else len(self.words[number - N_BYTES].encode()) for number in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """The text; bytes that are no UTF-8 become the replacement character."""
        content = bytearray()
        for number in ids:
            if number < N_BYTES:
                content.append(number)
            elif number != self.end_id:
                content += self.words[number - N_BYTES].encode()
        return content.decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Writes the settings, the words among them."""
        save_settings(folder, {"kind": self.kind, "words": self.words, "counts": self.counts})

    def _rarest(self) -> str:
        return min(zip(self.counts or (), self.words, strict=False))[1]

    def _cut(self, text: str) -> list[str]:
        return self._longest(text) if self.counts is None else self._likeliest(text)

    def _longest(self, text: str) -> list[str]:
        found, start = [], 0
        while start < len(text):
            for end in range(min(len(text), start + self.longest), start, -1):
                if text[start:end] in self.ids:
                    break
            found.append(text[start:end])  # one character, where no word begins
            start = end
        return found

    def _likeliest(self, text: str) -> list[str]:
        """Viterbi's shortest path from the text's end, so that it is read off from its start."""
        best, lengths = [0.0] * (len(text) + 1), [1] * len(text)
        for start in range(len(text) - 1, -1, -1):
            best[start] = best[start + 1] + self._unknown_cost * len(text[start].encode())
            for end in range(start + 1, min(len(text), start + self.longest) + 1):
                cost = self._cost.get(text[start:end])
                if cost is not None and cost + best[end] < best[start]:
                    best[start], lengths[start] = cost + best[end], end - start
        found, start = [], 0
        while start < len(text):
            found.append(text[start : start + lengths[start]])
            start += lengths[start]
        return found


def read_lexicon(path: Path, *, with_counts: bool = False) -> Words:
    """The words of a file: one a line, perhaps with a count behind it, or a parquet table with `word` and `count`.

    Args:
        path: A .parquet file, or a text file in UTF-8.
        with_counts: Whether the counts are used, which then must be there.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such word list; give a text file with one word a line, or words.parquet")
    words, counts = _parquet_words(path) if path.suffix == ".parquet" else _listed_words(path)
    if with_counts and counts is None:
        raise ValueError(f"{path}: has no counts, which data.tokenizer = viterbi needs; use words:{path}")
    try:
        return Words(words, counts if with_counts else None)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parquet_words(path: Path) -> tuple[list[str], list[float] | None]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path}: not a whole parquet file ({reason}); write it again") from error
    if "word" not in table.column_names:
        raise ValueError(f"{path}: no column 'word'; found: {', '.join(table.column_names)}; rename it")
    counts = table.column("count").to_pylist() if "count" in table.column_names else None
    return table.column("word").to_pylist(), counts


def _listed_words(path: Path) -> tuple[list[str], list[float] | None]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; convert it") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    words = [fields[0] for _, fields in rows]
    if not any(len(fields) > 1 for _, fields in rows):
        return words, None
    counts = []
    for number, (word, *fields) in rows:  # what jieba's dictionaries add behind the count is left out
        try:
            counts.append(float(fields[0]))
        except (IndexError, ValueError) as error:
            raise ValueError(f"{path}: line {number}: '{word}' has no count; write word, space, number") from error
    return words, counts
