"""The files a run left, and a look into one of them."""

from __future__ import annotations

import streamlit as st

from dashboard import artifacts
from dashboard.address import one
from dashboard.words import Say, plain, size_text
from experiments.store.read import RunRecord

MOST_FILES = 1_000
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".patch": "diff", ".sh": "bash"}


def draw(run: RunRecord, say: Say) -> None:
    """The tab: a table of all files, then a preview of the one that is chosen."""
    files = artifacts.file_table(run.folder)
    if files.empty:
        st.info(say("no_files"))
        return
    st.caption(say("files_total", n=len(files), size=size_text(int(files["size"].sum()))))
    shown = files.head(MOST_FILES)
    left, right = st.columns([2, 3])
    left.dataframe(
        shown,
        hide_index=True,
        height=min(38 + 35 * len(shown), 460),
        column_config={"file": say("file"), "size": st.column_config.NumberColumn(say("size"), format="bytes")},
    )
    if len(files) > MOST_FILES:
        left.caption(say("files_shown", n=MOST_FILES))
    left.caption(say("in_folder"))
    left.code(str(run.folder), language=None, wrap_lines=True)
    with right:
        names = ["", *shown["file"]]
        name = st.selectbox(
            say("preview"), names, format_func=lambda file: file or say("choose_file"), **one("file", names)
        )
        if name:
            _preview(run, name, say)


def _preview(run: RunRecord, name: str, say: Say) -> None:
    """A picture, rows of a table, the shapes of arrays, or the beginning of a text; nothing else is opened."""
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    if suffix == ".png":
        image = artifacts.read_image(run.folder, name)
        if image is None:
            st.warning(say("image_refused", name=plain(name), most=artifacts.LARGEST_IMAGE_MB))
        else:
            st.image(image, alt=plain(name))
        return
    if suffix == ".npz":
        shapes = artifacts.read_shapes(run.folder, name)
        if shapes is None:
            st.warning(say("broken_file", name=plain(name)))
        else:
            st.dataframe(shapes, hide_index=True, column_config={key: say(key) for key in shapes.columns})
        return
    if suffix == ".parquet":
        _table(run, name, say)
        return
    text = artifacts.read_head(run.folder, name)
    if text is None:
        st.warning(say("not_previewed", name=plain(name)))
        return
    st.code(text, language=_LANGUAGES.get(suffix), height=520 if text.count("\n") > 22 else "content")
    if len(text.encode()) >= artifacts.PREVIEW_BYTES:
        st.caption(say("cut_preview", most=artifacts.PREVIEW_BYTES // 1000))


def _table(run: RunRecord, name: str, say: Say) -> None:
    """The first rows of a table."""
    found = artifacts.read_rows(run.folder, name)
    if found is None:
        st.warning(say("broken_file", name=plain(name)))
        return
    rows, total = found
    st.dataframe(rows, hide_index=True)
    if total > len(rows):
        st.caption(say("table_head", n=len(rows), total=total))
