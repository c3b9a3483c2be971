"""BERT's WordPiece as GPT2_ML uses it: lower case, every Chinese character alone, no [CLS], [SEP] or other additions.

Source: Devlin et al. 2019 and their public tokenizer, rule by rule; the fast tokenizers of Hugging Face differ from it
on a final sigma, unassigned characters and part of CJK extension E.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_modules.data.tokenizer_files import digest, save_settings

CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
UNKNOWN = "[UNK]"
SPECIAL = frozenset({"[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]"})
LONGEST_WORD = 200  # characters; what is longer is [UNK] as a whole
CACHE_WORDS = 200_000  # words whose pieces are remembered before all are forgotten


class WordPiece:
    """Pieces of a BERT vocabulary; characters that no piece covers become [UNK].

    A literal "[SEP]" in a text is three pieces like any other word in brackets, so no text can write a control token.

    Attributes: `vocabulary_size`, `digest`, and `end_id`, which is None: the public model never learnt an end.

    Args:
        vocabulary: The pieces in the order of their ids; those within a word begin with ##.

    Raises:
        ValueError: No [UNK], or a piece twice.

    >>> pieces = WordPiece(["[PAD]", "[UNK]", "今", "天", "gp", "##t", "[", "]", "sep"])
    >>> pieces.encode("今天 GPT[SEP]"), pieces.decode([2, 3, 4, 5])
    ([2, 3, 4, 5, 6, 8, 7], '今天gpt')
    """

    kind = "wordpiece"
    end_id: int | None = None

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self.ids = {piece: number for number, piece in enumerate(self.vocabulary)}
        if len(self.ids) < len(self.vocabulary):
            twice = next(piece for number, piece in enumerate(self.vocabulary) if self.ids[piece] != number)
            raise ValueError(f"WordPiece vocabulary: '{twice}' stands in it twice; each piece must have one line")
        if UNKNOWN not in self.ids:
            raise ValueError(
                f"WordPiece vocabulary of {len(self.vocabulary)} pieces: no '[UNK]'; give BERT's vocab.txt, one piece"
                " a line in the order of their ids"
            )
        self.vocabulary_size = len(self.vocabulary)
        self.digest = digest(self.kind, *self.vocabulary)
        self._unknown = self.ids[UNKNOWN]
        self._plain = _Plain()
        self._words: dict[str, tuple[int, ...]] = {}

    @classmethod
    def read(cls, path: Path) -> "WordPiece":
        """The tokenizer of a vocab.txt; ValueError with its name where it is missing or not UTF-8."""
        try:
            content = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror}); give BERT's vocab.txt") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: byte {error.start} is not UTF-8; give BERT's vocab.txt") from error
        # not splitlines(), which also breaks at U+2028 and its like; the last line may lack its newline
        lines = content.removesuffix("\n").split("\n")
        try:
            return cls([line.strip() for line in lines])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of a text."""
        ids: list[int] = []
        known = self._words
        for word in text.translate(self._plain).split():
            found = known.get(word)
            ids += self._pieces_of(word) if found is None else found
        return ids

    def encode_with_bytes(self, text: str) -> tuple[list[int], list[int]]:
        """Ids, and the UTF-8 bytes of the text that each piece stands for; these sum to those of the text.

        A word's bytes are its first piece's, spaces belong to the piece before them (the first ones to the first
        piece).
        """
        ids: list[int] = []
        n_bytes: list[int] = []
        carried = 0
        for run in _RUNS.findall(text):
            pieces = self.encode(run)
            size = len(run.encode())
            if pieces:
                ids += pieces
                n_bytes += [carried + size] + [0] * (len(pieces) - 1)
                carried = 0
            elif n_bytes:
                n_bytes[-1] += size
            else:
                carried += size
        return ids, n_bytes

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids: ## pieces joined, a space between two words in letters, [UNK] and its like left out."""
        text = ""
        for number in ids:
            piece = self.vocabulary[number] if 0 <= number < self.vocabulary_size else UNKNOWN
            if piece in SPECIAL:
                continue
            if piece.startswith("##") and len(piece) > 2:
                text += piece[2:]
            else:
                text += " " + piece if text and _in_letters(text[-1]) and _in_letters(piece[0]) else piece
        return text

    def save(self, folder: Path) -> None:
        """Writes vocab.txt, and the files with which transformers' AutoTokenizer opens the folder."""
        from lightning_modules.checkpoints.wordpiece import wordpiece  # needed here alone

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocab.txt").write_text("\n".join(self.vocabulary) + "\n", encoding="utf-8", newline="\n")
        wordpiece(self.vocabulary).save(str(folder / "tokenizer.json"))
        # Without the settings unk_token and its like, which would make control tokens of a text's literal "[UNK]".
        save_settings(folder, {"kind": self.kind}, tokenizer_class="PreTrainedTokenizerFast")

    def _pieces_of(self, word: str) -> tuple[int, ...]:
        """Ids of a run of characters without spaces, remembered."""
        ids: list[int] = []
        for part in _split_punctuation(_without_accents(word.lower())):
            ids += self._longest_first(part)
        if len(self._words) >= CACHE_WORDS:
            self._words.clear()
        self._words[word] = tuple(ids)
        return self._words[word]

    def _longest_first(self, word: str) -> list[int]:
        if len(word) > LONGEST_WORD:
            return [self._unknown]
        ids, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                found = self.ids.get(("##" if start else "") + word[start:end])
                if found is not None:
                    break
            else:
                return [self._unknown]  # the whole word, as the public code does
            ids.append(found)
            start = end
        return ids


class _Plain(dict[int, str]):
    """What a character becomes before words are cut: nothing, a space, itself between spaces, or itself."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character in "\t\n\r" or category == "Zs":
            plain = " "
        elif code in (0, 0xFFFD) or category in ("Cc", "Cf"):
            plain = ""
        elif any(first <= code <= last for first, last in CJK):
            plain = f" {character} "
        else:
            plain = character
        self[code] = plain
        return plain


_ALONE = "".join(f"{chr(first)}-{chr(last)}" for first, last in CJK)
_SPACES = (
    "\\t\\n\\r \\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"  # not the controls that \\s also matches
)
_RUNS = re.compile(f"[{_ALONE}]|[{_SPACES}]+|[^{_ALONE}{_SPACES}]+")  # what encode() never joins


def _without_accents(word: str) -> str:
    return "".join(each for each in unicodedata.normalize("NFD", word) if unicodedata.category(each) != "Mn")


def _split_punctuation(word: str) -> list[str]:
    """The word cut before and after every punctuation mark, marks kept; also at spaces that NFD brought."""
    marked = "".join(f" {each} " if _is_punctuation(each) else each for each in word)
    return marked.split()


def _is_punctuation(character: str) -> bool:
    # ASCII's $ + < = > ^ ` | ~ are no punctuation to Unicode
    code = ord(character)
    return (
        33 <= code <= 47
        or 58 <= code <= 64
        or 91 <= code <= 96
        or 123 <= code <= 126
        or (unicodedata.category(character).startswith("P"))
    )


def _in_letters(character: str) -> bool:
    return character.isalnum() and not any(first <= ord(character) <= last for first, last in CJK)
