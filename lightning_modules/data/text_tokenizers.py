"""Tokenizers of text: bytes, characters, and byte-level BPE; which one a config or a folder names."""

from collections.abc import Callable, Iterable
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any, Protocol

from lightning_modules.data.text_lexicon import N_BYTES, Words, read_lexicon
from lightning_modules.data.tokenizer_files import SETTINGS, digest, read_settings, save_settings
from lightning_modules.data.wordpiece import WordPiece
from lightning_modules.parts import did_you_mean

END = "<|endoftext|>"  # GPT-2's
TRAINING_CHARACTERS = 2**28  # of the training part that BPE learns from; more changes its merges little
ALLOWED = "bytes, characters, bpe, wordpiece:VOCAB.TXT, words:FILE, viterbi:FILE, or a folder with a saved tokenizer"
NAMES = ("bytes", "characters", "bpe", "wordpiece", "words", "viterbi")


class Tokenizer(Protocol):
    """What the text data and its models ask of a tokenizer.

    `digest` changes with whatever changes the ids; `end_id` ends a document, where the tokenizer has such a token.
    """

    vocabulary_size: int
    end_id: int | None
    digest: str

    def encode(self, text: str) -> list[int]:
        """Ids of a text; no id is added at either end."""
        ...

    def encode_with_bytes(self, text: str) -> tuple[list[int], list[int]]:
        """Ids, and how many UTF-8 bytes of the text each stands for, in order; these sum to those of the text."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what `load_tokenizer` opens."""
        ...


class Bytes:
    """The UTF-8 bytes of a text; id 256 ends a document.

    >>> Bytes().encode("é!"), Bytes().decode([195, 169, 33, 256])
    ([195, 169, 33], 'é!')
    """

    kind = "bytes"
    vocabulary_size = N_BYTES + 1
    end_id: int | None = N_BYTES
    digest = "bytes"

    def encode(self, text: str) -> list[int]:
        """The bytes themselves."""
        return list(text.encode())

    def encode_with_bytes(self, text: str) -> tuple[list[int], list[int]]:
        """The bytes, and a 1 for each."""
        ids = self.encode(text)
        return ids, [1] * len(ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text; bytes that are no UTF-8 become the replacement character."""
        return bytes(number for number in ids if number < N_BYTES).decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Writes the settings, all there is."""
        save_settings(folder, {"kind": self.kind})


class Characters:
    """Unicode characters; id 0 is any that the vocabulary lacks, id 1 ends a document.

    Args:
        vocabulary: The characters, in the order of their ids from 2 on.

    >>> Characters("abc").encode("cab?"), Characters("abc").decode([4, 2, 0, 1])
    ([4, 2, 3, 0], 'ca\ufffd')
    """

    kind = "characters"
    end_id: int | None = 1

    def __init__(self, vocabulary: str) -> None:
        self.vocabulary = vocabulary
        self.ids = {character: number for number, character in enumerate(vocabulary, 2)}
        self.vocabulary_size = len(vocabulary) + 2
        self.digest = digest(self.kind, vocabulary)

    def encode(self, text: str) -> list[int]:
        """One id a character."""
        return [self.ids.get(character, 0) for character in text]

    def encode_with_bytes(self, text: str) -> tuple[list[int], list[int]]:
        """One id a character, and its bytes."""
        return self.encode(text), [len(character.encode()) for character in text]

    def decode(self, ids: Iterable[int]) -> str:
        """The text; the replacement character for what the vocabulary lacks."""
        return "".join("\ufffd" if number == 0 else self.vocabulary[number - 2] for number in ids if number != 1)

    def save(self, folder: Path) -> None:
        """Writes the settings, the characters among them."""
        save_settings(folder, {"kind": self.kind, "vocabulary": self.vocabulary})


class FastTokenizer:
    """A tokenizer of the library `tokenizers`: our byte-level BPE, or any that came with a model.

    The text of a special token, as <|endoftext|>, is text like any other.

    Args:
        fast: A `tokenizers.Tokenizer`.
        end: The token that ends a document; None = it has none.

    Raises:
        ValueError: `end` is no token of it.
    """

    kind = "bpe"

    def __init__(self, fast: Any, end: str | None = END) -> None:
        self.fast = fast
        self.fast.encode_special_tokens = True
        self.fast.no_padding()
        self.fast.no_truncation()
        self.vocabulary_size: int = fast.get_vocab_size()
        self.end = end
        self.end_id: int | None = None if end is None else fast.token_to_id(end)
        if end is not None and self.end_id is None:
            raise ValueError(f"tokenizer: its end token '{end}' is not in its vocabulary; name another in {SETTINGS}")
        self.digest = digest(self.kind, fast.to_str(), end or "")

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        ids: list[int] = self.fast.encode(text, add_special_tokens=False).ids
        return ids

    def encode_with_bytes(self, text: str) -> tuple[list[int], list[int]]:
        """Ids, and the bytes from a token's first character to the next token's.

        Of the tokens that share a character the last one gets its bytes.
        """
        encoding = self.fast.encode(text, add_special_tokens=False)
        if not encoding.ids:
            return [], []
        places = [0, *accumulate(len(character.encode()) for character in text)]  # in bytes, of each character
        firsts = [0, *accumulate((first for first, _ in encoding.offsets[1:]), max), len(text)]
        return encoding.ids, [places[last] - places[first] for first, last in pairwise(firsts)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text, without special tokens."""
        text: str = self.fast.decode(list(ids), skip_special_tokens=True)
        return text

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json and the settings with which transformers' AutoTokenizer opens the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.fast.save(str(folder / "tokenizer.json"))
        others = {} if self.end is None else {"eos_token": self.end}
        save_settings(folder, {"kind": self.kind}, tokenizer_class="PreTrainedTokenizerFast", **others)


def build_tokenizer(spec: str, vocabulary_size: int, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """The tokenizer that a config names.

    Args:
        spec: A name of `ALLOWED`, those with a file as name:file.
        vocabulary_size: Tokens of a BPE, the end among them.
        texts: The training part, for what is learnt from it: characters and BPE.

    Raises:
        ValueError: An unknown name, a file or folder that is missing or unfit, a vocabulary too small.
    """
    name, _, file = spec.partition(":")
    if name in ("wordpiece", "words", "viterbi"):
        if not file:
            raise ValueError(f"data.tokenizer = '{spec}': needs a file, as in {name}:PATH; allowed: {ALLOWED}")
        path = Path(file).expanduser()
        return WordPiece.read(path) if name == "wordpiece" else read_lexicon(path, with_counts=name == "viterbi")
    if spec == "bytes":
        return Bytes()
    if spec == "characters":
        return Characters("".join(sorted(set().union(*map(set, texts())))))
    if spec == "bpe":
        return train_bpe(texts(), vocabulary_size)
    if Path(spec).expanduser().is_dir():
        return load_tokenizer(Path(spec).expanduser())
    raise ValueError(f"data.tokenizer = '{spec}': unknown tokenizer{did_you_mean(name, NAMES)}; allowed: {ALLOWED}")


def train_bpe(texts: Iterable[str], vocabulary_size: int) -> FastTokenizer:
    """Byte-level BPE learnt from texts: 256 bytes, the end of a document, and merges of the most frequent pairs.

    Args:
        texts: Up to `TRAINING_CHARACTERS` characters of them count.
        vocabulary_size: Tokens in all, at least 257; fewer come out where no pair is left to merge.

    Source: Sennrich et al. 2016, over bytes as Radford et al. 2019.
    """
    import tokenizers  # 0.1 s

    if vocabulary_size < N_BYTES + 1:
        raise ValueError(
            f"data.vocabulary_size = {vocabulary_size}: a byte-level BPE has at least {N_BYTES + 1} tokens (256 bytes"
            " and the end of a document); 1024 suits half a megabyte of text"
        )
    fast = tokenizers.Tokenizer(tokenizers.models.BPE())
    fast.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(_first_characters(texts, TRAINING_CHARACTERS), trainer)
    return FastTokenizer(fast)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder: one that `save` wrote, a tokenizer.json, GPT-2's vocab.json, or a BERT vocab.txt."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give one that a tokenizer was saved in")
    settings = read_settings(folder)
    own = settings.get("taolu", {})
    kind = own.get("kind")
    if kind == Bytes.kind:
        return Bytes()
    if kind == Characters.kind:
        return Characters(own["vocabulary"])
    if kind == Words.kind:
        return Words(own["words"], own["counts"])
    if kind == WordPiece.kind or (kind is None and not _fast_files(folder) and (folder / "vocab.txt").is_file()):
        return WordPiece.read(folder / "vocab.txt")
    return _load_fast(folder, settings)


def _load_fast(folder: Path, settings: dict[str, Any]) -> FastTokenizer:
    import tokenizers

    try:
        if (folder / "tokenizer.json").is_file():
            fast = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif _fast_files(folder):
            model = tokenizers.models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
            fast = tokenizers.Tokenizer(model)
            fast.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
            fast.decoder = tokenizers.decoders.ByteLevel()
        else:
            raise ValueError("no tokenizer.json, vocab.json with merges.txt, or vocab.txt in it")
    except Exception as error:
        # the library raises bare Exceptions for files it cannot read
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{folder}: no tokenizer there ({reason}); give a folder that one was saved in") from error
    end = settings.get("eos_token", END if fast.token_to_id(END) is not None else None)
    return FastTokenizer(fast, end["content"] if isinstance(end, dict) else end)


def _fast_files(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    )


def _first_characters(texts: Iterable[str], limit: int) -> Iterable[str]:
    left = limit
    for text in texts:
        if left <= 0:
            return
        yield "".join(islice(text, left)) if len(text) > left else text
        left -= len(text)
