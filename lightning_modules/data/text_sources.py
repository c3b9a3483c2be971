"""Documents from files of any size, piece by piece: .txt, .jsonl, .parquet, folders of them, or the Hub."""

import codecs
import difflib
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from lightning_modules.parts import did_you_mean

DocumentUnit = Literal["file", "paragraph", "line"]
SUFFIXES = (".txt", ".jsonl", ".parquet")
FORMS = "a .txt, .jsonl or .parquet file, a folder of them, or hub:OWNER/NAME"
HELD_OUT = ("validation", "valid", "val", "test")  # the first found is the validation part
PIECE = 2**20  # bytes read at once, and the most characters of a piece of a long document
HUB = "hub:"


class Piece(NamedTuple):
    """A document or, of a long one, a part that ends at a line's end where it can."""

    text: str
    prompt: str = ""  # before the text, and not trained on
    label: int | str | None = None
    is_first: bool = True  # of its document


class TextSource(NamedTuple):
    """Where documents come from; both functions read anew each time they are called."""

    where: str
    digest: str
    train: Callable[[], Iterator[Piece]]
    validation: Callable[[], Iterator[Piece]] | None  # None: a part of `train` has to be held out


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        document: What of a .txt file is one document.
        text_key: Key or column of the text.
        label_key: Key or column of a document's class; None = it has none.
    """

    document: DocumentUnit = "file"
    text_key: str = "text"
    label_key: str | None = None

    def check(self) -> None:
        """ValueError for a unit there is not."""
        if self.document not in get_args(DocumentUnit):
            allowed = get_args(DocumentUnit)
            raise ValueError(
                f"data.document = '{self.document}': unknown unit{did_you_mean(self.document, allowed)};"
                f" allowed: {', '.join(allowed)}"
            )


def open_source(path: str, reading: Reading) -> TextSource:
    """The documents at a path.

    A folder with files train* and validation* (or valid*, val*, test*) holds both parts.

    Raises:
        ValueError: Nothing there, or nothing that can be read; the file's name, and where in it, stand in front.
    """
    if path.startswith(HUB):
        return _hub_source(path.removeprefix(HUB), reading)
    found = Path(path).expanduser()
    train, held_out = _files(found)
    key = [hashlib.sha256(repr(reading).encode()).hexdigest()]
    for file in (*train, *held_out):
        with file.open("rb") as stream:
            key.append(f"{file in held_out}{hashlib.file_digest(stream, 'sha256').hexdigest()}")
    return TextSource(
        str(found.resolve()),
        hashlib.sha256("\n".join(key).encode()).hexdigest(),
        lambda: _read(train, reading),
        (lambda: _read(held_out, reading)) if held_out else None,
    )


def texts(pieces: Iterable[Piece]) -> Iterator[str]:
    """The text of each piece, with its prompt."""
    return (piece.prompt + piece.text for piece in pieces)


def _files(path: Path) -> tuple[list[Path], list[Path]]:
    """Files of the training part and, where they say so by name, of the validation part."""
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f" (did you mean '{path.with_name(close[0])}'?)" if close else ""
        raise ValueError(f"data.path = '{path}': no such file or folder{hint}; give {FORMS}")
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ValueError(f"data.path = '{path}': unknown kind of file '{path.suffix}'; give {FORMS}")
        return [path], []
    files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise ValueError(f"data.path = '{path}': no {', '.join(SUFFIXES)} in this folder; give {FORMS}")
    for name in HELD_OUT:
        held_out = [file for file in files if file.name.startswith(name)]
        train = [file for file in files if file.name.startswith("train")]
        if held_out and train:
            return train, held_out
    return files, []


def _read(files: Iterable[Path], reading: Reading) -> Iterator[Piece]:
    for file in files:
        if file.suffix == ".txt":
            yield from _read_text(file, reading.document)
        elif file.suffix == ".jsonl":
            yield from _read_jsonl(file, reading)
        else:
            yield from _read_parquet(file, reading)


def _read_text(path: Path, unit: DocumentUnit) -> Iterator[Piece]:
    if unit == "file":
        is_first = True
        for text in _at_lines(_decoded(path)):
            yield Piece(text, is_first=is_first)
            is_first = False
        return
    held: list[str] = []
    for line in _lines(_decoded(path)):
        if unit == "line" and line.strip():
            yield Piece(line)
        elif line.strip():
            held.append(line)
        elif held:
            yield Piece("\n".join(held))
            held = []
    if held:
        yield Piece("\n".join(held))


def _decoded(path: Path) -> Iterator[str]:
    """The file's text, `PIECE` bytes at a time; ValueError at the first byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with path.open("rb") as stream:
        while True:
            place = stream.tell() - len(decoder.getstate()[0])
            content = stream.read(PIECE)
            try:
                yield decoder.decode(content, final=not content)
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise ValueError(
                    f"{path}: byte {place + error.start} (0x{byte:02x}) is not UTF-8; convert the file, as with"
                    f" iconv -f GB18030 -t UTF-8"
                ) from error
            if not content:
                return


def _at_lines(chunks: Iterable[str]) -> Iterator[str]:
    """The same text in pieces that end before a newline and a character that is no space.

    There no tokenizer here joins what stands on both sides.
    """
    held = ""
    for chunk in chunks:
        held += chunk
        end = held.rfind("\n", 1, len(held) - 1)
        while end > 0 and held[end + 1].isspace():
            end = held.rfind("\n", 1, end)
        if end > 0:
            yield held[:end]
            held = held[end:]
        elif len(held) > 4 * PIECE:  # a line without end
            yield held
            held = ""
    if held:
        yield held


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    held = ""
    for chunk in chunks:
        *lines, held = (held + chunk).split("\n")
        yield from (line.removesuffix("\r") for line in lines)
    if held:
        yield held


def _read_jsonl(path: Path, reading: Reading) -> Iterator[Piece]:
    for number, line in enumerate(_lines(_decoded(path)), 1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where}: no JSON ({error}); each line must be one object") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where}: is no JSON object; each line must be one, as {{{reading.text_key!r}: ...}}")
        yield from _document(row, reading, where)


def _read_parquet(path: Path, reading: Reading) -> Iterator[Piece]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            yield from _read_batches(table.iter_batches(batch_size=1000), str(path), reading)
    except (OSError, pyarrow.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path}: not a whole parquet file ({reason}); fetch it again") from error


def _read_batches(batches: Iterable[Any], where: str, reading: Reading) -> Iterator[Piece]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield from _document(row, reading, f"{where}: row {number}")
            number += 1


def _document(row: dict[str, Any], reading: Reading, where: str) -> Iterator[Piece]:
    """The pieces of the document in a row: its text, or its completion after its prompt."""
    is_pair = reading.text_key not in row and {"prompt", "completion"} <= row.keys()
    keys = ["prompt", "completion"] if is_pair else [reading.text_key]
    for key in (*keys, *([reading.label_key] if reading.label_key else ())):
        if key not in row:
            raise ValueError(
                f"{where}: no key '{key}'; found: {', '.join(map(str, row)) or 'none'}; set data.text_key, or give"
                " 'prompt' and 'completion'"
            )
    for key in keys:
        if not isinstance(row[key], str):
            raise ValueError(f"{where}: '{key}' is {type(row[key]).__name__}, and must be text")
        try:
            row[key].encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{where}: '{key}' holds half a surrogate pair at {error.start}; repair it") from error
    label = row[reading.label_key] if reading.label_key else None
    if reading.label_key and not isinstance(label, int | str):
        raise ValueError(f"{where}: '{reading.label_key}' is {type(label).__name__}; a class is a number or a name")
    *prompt, text = (row[key] for key in keys)
    if not text:
        return
    if is_pair or label is not None:  # whole: it has to fit into one block
        yield Piece(text, prompt[0] if prompt else "", label)
        return
    for number, piece in enumerate(_at_lines(text[start : start + PIECE] for start in range(0, len(text), PIECE))):
        yield Piece(piece, is_first=number == 0)


def _hub_source(repo_id: str, reading: Reading) -> TextSource:
    """The train and the validation (or test) part of a set on the Hub, in the cache of the library `datasets`."""
    import datasets  # slow to import

    # Offline it reports each of its retries; what they come to is said below, once.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    name, _, config = repo_id.partition(":")
    try:
        parts = datasets.load_dataset(name, config or None)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{name} could not be loaded from the Hugging Face Hub or its cache ({reason}); fetch its parquet files on"
            " another machine, put them into one folder and give --data.path FOLDER"
        ) from error
    if "train" not in parts:
        raise ValueError(f"{name}: no part 'train'; found: {', '.join(parts)}; give its files with --data.path FOLDER")
    held_out = next((part for part in HELD_OUT if part in parts), None)

    def read(part: str) -> Iterator[Piece]:
        return _read_batches(parts[part].data.table.to_batches(1000), f"{part} of {name}", reading)

    # `datasets` fingerprints the rows it reads
    key = "\n".join([repr(reading), repo_id, *(parts[part]._fingerprint for part in ("train", held_out) if part)])
    return TextSource(
        f"https://huggingface.co/datasets/{name}",
        hashlib.sha256(key.encode()).hexdigest(),
        lambda: read("train"),
        (lambda: read(held_out)) if held_out else None,
    )
