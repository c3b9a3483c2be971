"""What the miners left: runs of one kind to choose from, and their tables, each file read once until it changes."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.address import one
from dashboard.state import kept, table
from dashboard.words import Say, plain
from experiments.errors import ConfigError
from experiments.store.files import inside
from experiments.store.location import Store
from experiments.store.read import RunRecord, read_run
from mining.segment import Segmenter

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST_TABLE_MB = 2_000  # unpacked
LARGEST_SCORES_MB = 1_000  # unpacked too
SHOWN = 500  # rows of a table that are sent to the page
COMMANDS = {
    "lexicon": ("taolu mine lexicon", "taolu mine lexicon FILE --known jieba"),
    "rules": ("taolu mine apriori stdlib", "taolu mine apriori FILE"),
}
_BRACKETS = str.maketrans("", "", "[]'")  # of a list as a parameter holds it


def choose(store: Store, kind: str, file: str, key: str, say: Say) -> RunRecord | None:
    """The run of the kind that the visitor chose, at first the newest; None after saying what makes one.

    Args:
        store: where.
        kind: taolu.kind of the runs.
        file: that a run needs; runs without it are left out.
        key: field of the address.
        say: the words.
    """
    names = runs_with(store, kind, file)
    if not names:
        with st.container(border=True):
            st.subheader(say(f"{kind}_empty"))
            st.write(say("mine_empty"))
            for command in COMMANDS[kind]:
                st.code(command, language="bash")
        return None
    chosen = st.selectbox(say("mine_run"), [*names], format_func=names.__getitem__, **one(key, [*names]))
    return kept(store, read_run, chosen)


def runs_with(store: Store, kind: str, file: str) -> dict[str, str]:
    """Id -> name and what was mined, of the runs of the kind that left the file, the newest first."""
    runs = table(store)
    runs = runs[runs["kind"] == kind]
    found = {}
    for row in runs.to_dict("records"):
        if (store.run_folder(row["run_id"]) / file).is_file():
            sources = (row.get(name) for name in ("params.sources", "params.source"))
            mined = next((source for source in sources if isinstance(source, str)), "").translate(_BRACKETS)
            found[row["run_id"]] = f"{row['name'] or row['run_id'][:8]} · {mined[:80]}"
    return found


def read_table(folder: Path, name: str, texts: Collection[str] = (), numbers: Collection[str] = ()) -> pa.Table | None:
    """A run's Parquet table; None where it is broken, too large, or lacks a column of texts (or lists) or numbers."""
    import pyarrow.types as types

    found = _read(*_known(folder, name))
    if found is None:
        return None
    fields = {field.name: field.type for field in found.schema}
    is_right = all(name in fields and _is_text(fields[name]) for name in texts)
    is_number = (types.is_integer, types.is_floating, types.is_boolean)
    is_right &= all(name in fields and any(test(fields[name]) for test in is_number) for name in numbers)
    return found if is_right else None


def _is_text(kind: pa.DataType) -> bool:
    """Of texts, or of lists of items."""
    import pyarrow.types as types

    is_list = types.is_list(kind)
    kind = kind.value_type if is_list else kind
    return bool(types.is_string(kind) or (is_list and types.is_integer(kind)))


def read_or_say(
    folder: Path, name: str, say: Say, texts: Collection[str] = (), numbers: Collection[str] = ()
) -> pa.Table | None:
    """The same, with a word to the visitor where it is None."""
    found = read_table(folder, name, texts, numbers)
    if found is None:
        st.warning(say("broken_file", name=plain(name)))
    return found


def read_segmenter(folder: Path) -> Segmenter | None:
    """By the scores of a lexicon's run; None where there are none, or they are broken or too large."""
    return _segmenter(*_known(folder, "scores.npz"))


def _known(folder: Path, name: str) -> tuple[str, int, int]:
    """A file's path, and what changes when it does; no path where it lies outside or is not there."""
    try:
        path = inside(folder, name)
        stat = path.stat()
    except (OSError, ConfigError):
        return "", 0, 0
    return str(path), stat.st_mtime_ns, stat.st_size


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(path: str, _changed: int, _size: int) -> pa.Table | None:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            if sum(file.metadata.row_group(at).total_byte_size for at in groups) > LARGEST_TABLE_MB * 1_000_000:
                return None
            found: pa.Table = file.read().combine_chunks()
    except (OSError, pa.ArrowException, NotImplementedError):
        return None
    return found


@st.cache_resource(max_entries=4, show_spinner=False)
def _segmenter(path: str, _changed: int, _size: int) -> Segmenter | None:
    try:
        with zipfile.ZipFile(path) as packed:  # what is none NumPy leaves open
            if sum(part.file_size for part in packed.infolist()) > LARGEST_SCORES_MB * 1_000_000:
                return None
        return Segmenter.load(path)
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
