"""Text for language models: Python's own documentation, or anybody's files."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_modules.data.baselines import witten_bell_bits_per_byte, xz_bits_per_byte
from lightning_modules.data.loader import Epoch, EpochLoader, TensorLoader, check_batch_size, whole_batches
from lightning_modules.data.sampling import Sampling, checked_sampling, process
from lightning_modules.data.text_blocks import BestFit, Blocks, OneDocument, Sequential, batch_of
from lightning_modules.data.text_corpus import Part, open_corpus, parts_of
from lightning_modules.data.text_sources import HUB, DocumentUnit, Piece, Reading, TextSource, open_source
from lightning_modules.data.text_split import hold_out, without_shared_blocks
from lightning_modules.data.tokenizer_files import digest
from lightning_modules.parts import did_you_mean

Packing = Literal["sequential", "best_fit"]
BASELINE_BYTES = 2**22  # of the training part, up to which n-grams are counted: 10 s and 1 GB
PYDOC_FRACTION = 0.1


class TextSet(pl.LightningDataModule):
    """Documents as batches of `batch_of`: dicts of tensors (B, T); subclasses say where to read them.

    Attributes: `name`, `source`, `tokenizer`, `vocabulary_size`, `block_size`; `n_train` and `n_val`, blocks;
    `n_train_tokens`, `n_val_tokens`; `n_val_bytes`, of the predicted tokens of the validation part; `text_digest`;
    `digest`, which changes with whatever a model sees; and `n_classes` and `class_names`, where documents have labels.

    Args:
        source: Of the documents.
        name: What to call the set in messages and records.
        batch_size: Blocks a process and step.
        sampling: Order of the training blocks.
        block_size: T.
        tokenizer: A name of `build_tokenizer`.
        vocabulary_size: Of a BPE.
        packing: How documents fill blocks; None = documents with a prompt are kept whole, others are not.
        validation_fraction: Share that validates where the source has no validation part.
        cache_dir: Of the tokens.
        seed: Of the order, and of where an epoch is cut.
    """

    name: str

    def __init__(
        self,
        source: TextSource,
        *,
        name: str,
        batch_size: int,
        sampling: Sampling,
        block_size: int,
        tokenizer: str,
        vocabulary_size: int,
        packing: Packing | None,
        validation_fraction: float,
        cache_dir: str | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.name, self.batch_size, self.block_size, self.seed = name, batch_size, block_size, seed
        self.sampling: Sampling = checked_sampling(sampling)
        _check(batch_size, block_size, packing, validation_fraction)
        self._read, self._fraction = source, validation_fraction
        corpus = open_corpus(source, name, tokenizer, vocabulary_size, validation_fraction, cache_dir)
        self.tokenizer = corpus.tokenizer
        self.vocabulary_size = corpus.tokenizer.vocabulary_size
        if corpus.class_names is not None:
            self.class_names, self.n_classes = corpus.class_names, len(corpus.class_names)
        self._train, self._validation, self._cache = corpus.train, corpus.validation, corpus.folder
        has_prompts = self._train.prompts.any() or self._validation.prompts.any()
        packing = packing or ("best_fit" if has_prompts else "sequential")
        self._train_blocks = _blocks(self._train, f"training part of {name}", block_size, packing, seed)
        self._val_blocks = _blocks(self._validation, f"validation part of {name}", block_size, packing, None)
        self.n_train, self.n_val = self._train_blocks.n, self._val_blocks.n
        self.n_train_tokens, self.n_val_tokens = len(self._train.tokens), len(self._validation.tokens)
        self.n_val_bytes = _predicted_bytes(self._validation)
        self.source, self.text_digest = source.where, source.digest[:16]
        split = "" if source.validation else str(validation_fraction)
        self.digest = digest(self.text_digest, self.tokenizer.digest, str(block_size), packing, split)
        check_batch_size(batch_size, self.n_train, f"training blocks of {name}")

    def train_dataloader(self) -> "TextLoader":
        """Batches of the training blocks in the order that `sampling` names."""
        limit = 1.0 if self.trainer is None else self.trainer.limit_train_batches
        order = TensorLoader(
            (torch.arange(self.n_train),), self.batch_size, sampling=self.sampling, seed=self.seed, limit=limit
        )
        return TextLoader(self._train, self._train_blocks, self.block_size, order)

    def val_dataloader(self) -> "TextLoader":
        """Batches of every validation block once, in the order of the text."""
        order = TensorLoader((torch.arange(self.n_val),), self.batch_size, sampling=None)
        return TextLoader(self._validation, self._val_blocks, self.block_size, order)

    def batches_in_epoch(self, epoch: int, n_processes: int | None = None) -> int:
        """Training batches of an epoch, of every epoch alike, on each process; ValueError where there is none.

        Args:
            epoch: From 0.
            n_processes: That share the blocks; None = as many as there are now.
        """
        return whole_batches(self.n_train, self.batch_size, n_processes or process()[1])

    def baselines(self) -> dict[str, float]:
        """Bits per byte of the validation text under n-grams and under xz, by metric; seconds a megabyte.

        Kept beside the tokens. Nothing where the training part is larger than `BASELINE_BYTES`.
        """
        kept = self._cache / "baselines.json"
        if kept.is_file():
            found: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
            return found
        train, validation = (_content(pieces()) for pieces in parts_of(self._read, self.name, self._fraction))
        if train is None or validation is None:
            return {}
        found = {
            "baseline/witten_bell_bits_per_byte": witten_bell_bits_per_byte(train, validation),
            "baseline/xz_bits_per_byte": xz_bits_per_byte(train, validation),
        }
        unfinished = kept.with_suffix(f".{os.getpid()}")  # another process sees all of it or nothing
        unfinished.write_text(json.dumps(found), encoding="utf-8")
        unfinished.replace(kept)
        return found


class Pydoc(TextSet):
    """The help on topics that Python carries with it: half a megabyte of English, without a download.

    The 79 topics in the order of their names are the documents. The end of the text validates; what of the training
    part stands in it too, paragraph by paragraph, is left out. The text is that of the Python at hand: `digest` tells
    versions apart.

    Args:
        batch_size: Blocks a process and step.
        sampling: Order of the training blocks: shuffled each epoch, or drawn each step with or without replacement.
        block_size: Tokens of a block.
        tokenizer: bytes; characters; bpe = byte-level BPE learnt from the training part; wordpiece:VOCAB.TXT;
            words:FILE or viterbi:FILE = a lexicon's longest or likeliest words; or the folder of a saved tokenizer.
        vocabulary_size: Tokens of the bpe; other tokenizers have their own number.
        deduplicate: Whether paragraphs of 50 bytes or more that also validate are left out of the training part.
        cache_dir: Folder for the tokens. By default taolu/tokens in the user's cache.
        seed: Of the order of the training blocks, and of where an epoch is cut.
    """

    def __init__(
        self,
        batch_size: int = 16,
        sampling: Sampling = "shuffled",
        block_size: int = 128,
        tokenizer: str = "bpe",
        vocabulary_size: int = 1024,
        deduplicate: bool = True,
        cache_dir: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            pydoc_source(deduplicate=deduplicate),
            name="pydoc",
            batch_size=batch_size,
            sampling=sampling,
            block_size=block_size,
            tokenizer=tokenizer,
            vocabulary_size=vocabulary_size,
            packing="sequential",
            validation_fraction=PYDOC_FRACTION,
            cache_dir=cache_dir,
            seed=seed,
        )


class Text(TextSet):
    """Your own text: .txt, .jsonl or .parquet files of any size, or a set of the Hugging Face Hub.

    Tokens are kept on disk and read from there, so the text may be larger than memory. A folder with files train* and
    validation* (or val*, test*) holds both parts; else a share is held out: the end of a text of fewer than 20
    documents, whole documents by their hash otherwise, so that equal ones never stand on both sides. Rows with `prompt`
    and `completion` in place of a text are trained on the completion alone.

    Args:
        path: A file, a folder, or hub:OWNER/NAME.
        batch_size: Blocks a process and step.
        sampling: Order of the training blocks: shuffled each epoch, or drawn each step with or without replacement.
        block_size: Tokens of a block.
        tokenizer: bytes; characters; bpe = byte-level BPE learnt from the training part; wordpiece:VOCAB.TXT (for
            GPT2_ML); words:FILE or viterbi:FILE = a lexicon's longest or likeliest words; or the folder of a saved one.
        vocabulary_size: Tokens of the bpe; other tokenizers have their own number.
        packing: sequential = documents are one stream, cut into blocks; best_fit = documents are kept whole where they
            fit a block, the rest is padding. By default best_fit for prompts and completions.
        document: What of a .txt file is one document: file, paragraph (between blank lines) or line.
        text_key: Key or column of the text in .jsonl, .parquet and sets of the Hub.
        label_key: Key or column of a document's class, for models that classify; then each document has a block.
        validation_fraction: Share that validates where no validation part is given.
        cache_dir: Folder for the tokens. By default taolu/tokens in the user's cache.
        seed: Of the order of the training blocks, and of where an epoch is cut.
    """

    def __init__(
        self,
        path: str,
        batch_size: int = 16,
        sampling: Sampling = "shuffled",
        block_size: int = 128,
        tokenizer: str = "bpe",
        vocabulary_size: int = 8192,
        packing: Packing | None = None,
        document: DocumentUnit = "file",
        text_key: str = "text",
        label_key: str | None = None,
        validation_fraction: float = 0.1,
        cache_dir: str | None = None,
        seed: int = 0,
    ) -> None:
        reading = Reading(document, text_key, label_key)
        reading.check()
        super().__init__(
            open_source(path, reading),
            name=path.removeprefix(HUB) if path.startswith(HUB) else Path(path).expanduser().resolve().stem,
            batch_size=batch_size,
            sampling=sampling,
            block_size=block_size,
            tokenizer=tokenizer,
            vocabulary_size=vocabulary_size,
            packing=packing,
            validation_fraction=validation_fraction,
            cache_dir=cache_dir,
            seed=seed,
        )


class TextLoader(EpochLoader[dict[str, Tensor]]):
    """The batches of `batch_of`, of the blocks that another loader names.

    Args:
        part: Where the tokens lie.
        blocks: Which tokens make a block.
        block_size: T.
        order: Of the numbers of the blocks.
    """

    def __init__(self, part: Part, blocks: Blocks, block_size: int, order: TensorLoader) -> None:
        super().__init__(Epoch(), order.limit)
        self.part, self.blocks, self.block_size, self.order = part, blocks, block_size, order
        self.batch_size = order.batch_size

    def __len__(self) -> int:
        return len(self.order)

    def batches(self, epoch: int, start: int) -> Iterator[dict[str, Tensor]]:
        """The batches of `epoch` from index `start` on."""
        for (numbers,) in self.order.batches(epoch, start):
            yield batch_of(self.part, [self.blocks(block, epoch) for block in numbers.tolist()], self.block_size)


def pydoc_source(*, deduplicate: bool = True) -> TextSource:
    """The topics of Python's help, the last tenth of their characters held out.

    Args:
        deduplicate: Whether paragraphs that also validate are left out of the training part.
    """
    from pydoc_data.topics import topics  # 0.7 MB, of no use to other data

    documents = [Piece(topics[name]) for name in sorted(topics)]
    content = "\n\n".join(document.text for document in documents)

    def read(part: int) -> Iterator[Piece]:
        train, validation = hold_out(lambda: iter(documents), PYDOC_FRACTION, "pydoc", whole=False)
        if part == 0 and deduplicate:
            return without_shared_blocks(train(), validation())
        return (train, validation)[part]()

    key = f"{PYDOC_FRACTION} {deduplicate}\n{content}"
    version = ".".join(map(str, sys.version_info[:3]))
    return TextSource(
        f"pydoc_data.topics of Python {version}",
        hashlib.sha256(key.encode()).hexdigest(),
        lambda: read(0),
        lambda: read(1),
    )


def _check(batch_size: int, block_size: int, packing: str | None, validation_fraction: float) -> None:
    check_batch_size(batch_size, None, "")
    if block_size < 2:
        raise ValueError(f"data.block_size = {block_size}: must be at least 2: one token and the one after it")
    if packing is not None and packing not in get_args(Packing):
        allowed = get_args(Packing)
        raise ValueError(
            f"data.packing = '{packing}': unknown packing{did_you_mean(packing, allowed)};"
            f" allowed: {', '.join(allowed)}"
        )
    if not 0 < validation_fraction < 1:
        raise ValueError(
            f"data.validation_fraction = {validation_fraction}: must lie in (0, 1); 0.1 keeps 10 % to validate on"
        )


def _blocks(part: Part, where: str, block_size: int, packing: Packing, seed: int | None) -> Blocks:
    """The blocks of a part; ValueError where it is too short, or a prompt leaves nothing to predict."""
    longest = int(part.prompts.argmax())
    if part.prompts[longest] >= block_size:
        raise ValueError(
            f"{where}: the prompt of document {longest} has {part.prompts[longest]} tokens, and a block"
            f" {block_size}; raise data.block_size or shorten it"
        )
    if part.labels is not None:
        return OneDocument(part.starts, block_size)
    if packing == "best_fit":
        return BestFit(part.starts, block_size)
    if seed is not None and len(part.tokens) < block_size:
        raise ValueError(
            f"{where}: {len(part.tokens)} tokens are less than one block of {block_size}; give more text or a smaller"
            " data.block_size"
        )
    return Sequential(part.starts, block_size, seed)


def _predicted_bytes(part: Part) -> int:
    """Bytes of every token but a document's first and its prompt's."""
    if part.n_bytes is None:
        return 0
    # sums without an array of the part's length, which may be larger than memory
    untrained = np.minimum(np.maximum(1, part.prompts), np.diff(part.starts))
    firsts = part.starts[:-1][untrained == 1]
    n_untrained = int(part.n_bytes[firsts].sum(dtype=np.int64))
    for document in np.flatnonzero(untrained > 1):
        first = part.starts[document]
        n_untrained += int(part.n_bytes[first : first + untrained[document]].sum(dtype=np.int64))
    return int(part.n_bytes.sum(dtype=np.int64)) - n_untrained


def _content(pieces: Iterable[Piece]) -> bytes | None:
    """The documents with blank lines between them; None where they are too much for a baseline."""
    content = bytearray()
    for piece in pieces:
        content += ("\n\n" * (piece.is_first and bool(content)) + piece.prompt + piece.text).encode()
        if len(content) > BASELINE_BYTES:
            return None
    return bytes(content)
