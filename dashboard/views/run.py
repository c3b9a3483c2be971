"""One run: what it is, how it went, what it left behind. `?run=ID` in the address says which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard import artifacts, charts
from dashboard.state import points, table
from dashboard.views.runs import empty
from dashboard.words import STATUS, VERDICTS, Say, ago, plain, size_text, span
from experiments.store.location import Store
from experiments.store.read import RunRecord, find_run, read_run
from experiments.store.relatives import EVALUATION, FORK, Relative, read_relatives
from experiments.store.verdicts import read_evidence

if TYPE_CHECKING:
    import pandas as pd

MOST_CHARTS = 8
MOST_CHILDREN = 4  # named on a line; the newest
PATHS = "paths.npz"
EVIDENCE, PLOT = "evidence.json", "plot.png"
_ID_LENGTH = 32
_MOST_LINES, _MOST_FILES = 400, 1_000


def page(store: Store, say: Say) -> None:
    """The page: header, then a tab each for curves, config, images, console and files, evidence and paths if any."""
    runs = table(store)
    if "run" not in st.query_params:
        if runs.empty:
            st.title(say("run"))
            empty(say)
            return
        st.query_params["run"] = runs["run_id"].iloc[0]  # the newest
    handle = st.query_params["run"]
    run = read_run(store, handle if len(handle) == _ID_LENGTH else find_run(store, handle))  # an id: deleted runs too
    _header(store, run, say)
    _failure(run, say)
    draw = {"curves": _curves, "config": _config, "images": _images}
    if (run.folder / EVIDENCE).is_file():
        draw = {"evidence": _evidence} | draw
    if (run.folder / PATHS).is_file():
        draw["paths"] = _paths
    draw |= {"console": _console, "files": _files}
    tabs = st.tabs([say(name) for name in draw], key="tab", bind="query-params")
    for draw_tab, tab in zip(draw.values(), tabs, strict=True):
        if tab.open:
            with tab:
                draw_tab(store, run, say)


def _header(store: Store, run: RunRecord, say: Say) -> None:
    st.set_page_config(page_title=f"{run.name or run.run_id[:8]} · taolu")
    st.title(plain(run.name or run.run_id))
    icon, _, color = STATUS.get(run.status, STATUS["SCHEDULED"])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(say(run.status) if run.status in STATUS else plain(run.status), icon=icon, color=color)
        if run.deleted:
            st.badge(say("deleted"), icon=":material/delete:", color="gray")
        st.badge(plain(run.experiment), icon=":material/science:", color="gray")
        st.badge(plain(run.kind), icon=":material/category:", color="gray")
        st.badge(run.run_id[:8], icon=":material/tag:", color="gray", help=run.run_id)
    st.caption(" · ".join(_times(run, say)))
    for line in _relatives(store, run, say):
        st.markdown(line)
    if run.note:
        st.text(run.note[:2_000])
    command = artifacts.read_tail(run.folder, "command.txt", 4_096)
    if command:
        st.code(command, language="bash", wrap_lines=True)


def _relatives(store: Store, run: RunRecord, say: Say) -> Iterator[str]:
    """The run it began from, its forks and its evaluations, a line each; names lead to their pages."""
    found = read_relatives(store, run)
    if found.parent:
        yield say(f"{found.parent.relation}_of", run=_link(found.parent, say))
    for relation in (FORK, EVALUATION):
        children = found.of(relation)
        links = [_link(child, say) for child in children[:MOST_CHILDREN]]
        if len(children) > MOST_CHILDREN:
            links.append(say("and_more", n=len(children) - MOST_CHILDREN))
        if links:
            yield say(f"{relation}s", runs=" · ".join(links))


def _link(run: Relative, say: Say) -> str:
    address = urlencode({**st.query_params, "run": run.run_id})
    step = "" if run.step is None else f" ({say('step')} {run.step})"
    return f"[{plain(run.name or run.run_id[:8])}](?{address}){step}"


def _times(run: RunRecord, say: Say) -> list[str]:
    if run.started is None:
        return []
    now = datetime.now(UTC)
    started = f"{run.started.astimezone(_zone()):%Y-%m-%d %H:%M:%S}"
    parts = [f"{say('started')} {ago(say, run.started, now)} ({plain(started)})"]
    if run.seconds is not None:
        parts.append(f"{say('duration')} {span(say, run.seconds)}")
    elif run.status == "RUNNING":
        parts.append(say("so_far", span=span(say, (now - run.started).total_seconds())))
    return parts


def _zone() -> ZoneInfo:
    """The reader's time zone, as the browser tells it."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def _failure(run: RunRecord, say: Say) -> None:
    if run.status != "FAILED":
        return
    trace = artifacts.read_tail(run.folder, "traceback.txt")
    if not trace:
        st.warning(say("no_traceback"), icon=":material/error:")
        return
    st.error(f"**{say('failure')}:** {plain(trace.splitlines()[-1], 400)}", icon=":material/error:")
    with st.expander("traceback.txt"):
        st.code(trace, language=None, wrap_lines=True)


def _evidence(store: Store, run: RunRecord, say: Say) -> None:
    """What a claim's probe measured: the plot, then the numbers."""
    evidence = read_evidence(store, run.run_id)
    if evidence is None:
        st.warning(say("no_evidence"))
        return
    verdict = str(evidence.get("verdict", ""))
    st.badge(say(verdict) if verdict in VERDICTS else plain(verdict), color=VERDICTS.get(verdict, "gray"))
    st.text(f"{evidence.get('statement', '')}\n{evidence.get('statement_zh', '')}")
    plot = artifacts.read_image(run.folder, PLOT)
    if plot is not None:
        st.image(plot, width=720, alt=str(evidence.get("statistic", "")))
    with st.expander(EVIDENCE):
        st.json(evidence)


def _curves(store: Store, run: RunRecord, say: Say) -> None:
    values = points(store, run.run_id)
    if values.empty:
        st.info(say("no_curves"))
        return
    groups = charts.group_metrics(values["key"].unique())
    learned = [name for name in groups if not name.startswith(charts.BACKGROUND)]
    chosen = (learned or list(groups))[:MOST_CHARTS]
    if len(groups) > len(chosen):
        hint = say("charts_hint", shown=len(chosen), total=len(groups), most=MOST_CHARTS)
        chosen = st.multiselect(
            say("charts"), list(groups), default=chosen, max_selections=MOST_CHARTS, help=hint, key="charts",
            bind="query-params",
        )  # fmt: skip
    columns = st.columns(2)
    for i, name in enumerate(chosen):
        figure = charts.curve_chart(values[values["key"].isin(groups[name])], name, step_word=say("step"))
        columns[i % 2].plotly_chart(figure, key=f"chart {name}", config={"displaylogo": False, "displayModeBar": False})
    with st.expander(say("values"), expanded=not chosen):
        _values(values, say)


def _values(values: pd.DataFrame, say: Say) -> None:
    number = st.column_config.NumberColumn
    st.dataframe(
        charts.value_table(values),
        hide_index=True,
        column_config={
            "metric": say("metric"),
            **{name: number(say(name), format="%.6g") for name in ("last", "smallest", "largest")},
            **{name: number(say(name), format="%d") for name in ("points", "not_finite")},
        },
    )


def _config(store: Store, run: RunRecord, say: Say) -> None:
    left, right = st.columns(2)
    config = artifacts.read_tail(run.folder, "config.yaml", 262_144)
    left.subheader("config.yaml")
    if config:
        left.code(config, language="yaml")
    else:
        left.info(say("no_config"))
    right.subheader(say("parameters"))
    if run.params:
        _pairs(right, run.params, say("parameter"), say)
    else:
        right.info(say("no_parameters"))
    tags = {key: value for key, value in run.tags.items() if not key.startswith("mlflow.")}
    if tags:
        right.subheader(say("tags"))
        _pairs(right, tags, say("tag"), say)


def _pairs(place: st.delta_generator.DeltaGenerator, pairs: dict[str, str], head: str, say: Say) -> None:
    import pandas as pd

    frame = pd.DataFrame(sorted(pairs.items()), columns=["key", "value"])
    place.dataframe(frame, hide_index=True, column_config={"key": head, "value": say("value")})


def _images(store: Store, run: RunRecord, say: Say) -> None:
    pictures, texts = artifacts.media(run.folder), artifacts.media(run.folder, ".json")
    if not pictures and not texts:
        st.info(say("no_images"))
        return
    for name, steps in sorted(texts.items()):
        with st.container(border=True):
            step = _step(name, steps, say, "text")
            for prompt, text in artifacts.read_texts(run.folder, steps[step]):
                st.caption(plain(prompt))
                st.code(text, language=None, wrap_lines=True)
    columns = st.columns(2)
    for i, (name, steps) in enumerate(sorted(pictures.items())):
        with columns[i % 2].container(border=True):
            step = _step(name, steps, say, "picture")
            image = artifacts.read_image(run.folder, steps[step])
            if image is None:
                st.warning(say("image_refused", name=plain(steps[step]), most=artifacts.LARGEST_IMAGE_MB))
            else:
                st.image(image, caption=f"{say('step')} {step}", alt=f"{plain(name)} {step}")


def _step(name: str, steps: Iterable[int], say: Say, kind: str) -> int:
    """The step that is chosen, the last one at first, under the name of a text or picture."""
    st.subheader(plain(name))
    order = sorted(steps)
    if len(order) == 1:
        return order[0]
    label = say("image_step", name=plain(name))
    return int(st.select_slider(label, order, value=order[-1], key=f"step {kind} {name}"))


def _paths(store: Store, run: RunRecord, say: Say) -> None:
    arrays = artifacts.read_arrays(run.folder, PATHS)
    if arrays is None or not arrays.keys() >= charts.PATH_ARRAYS:
        st.warning(say("no_paths", most=artifacts.LARGEST_ARRAYS_MB))
        return
    left, right = st.columns(2)
    config = {"displaylogo": False, "displayModeBar": False}
    words = {name: say(name) for name in ("path_title", "map_title", "optimizer", "equation", "minimum", "time")}
    left.plotly_chart(charts.path_chart(arrays, words), key="path chart", config=config)
    if "basin" in arrays:
        right.plotly_chart(charts.basin_chart(arrays, words), key="basin chart", config=config)
        right.caption(say("map_hint"))


def _console(store: Store, run: RunRecord, say: Say) -> None:
    text = artifacts.read_tail(run.folder, "console.log")
    if not text:
        st.info(say("no_console"))
        return
    lines = text.splitlines()[-_MOST_LINES:]
    st.caption(say("console_tail", n=len(lines)))
    st.code("\n".join(lines), language=None, height=520 if len(lines) > 25 else "content")


def _files(store: Store, run: RunRecord, say: Say) -> None:
    files = artifacts.file_table(run.folder)
    if files.empty:
        st.info(say("no_files"))
        return
    st.caption(say("files_total", n=len(files), size=size_text(int(files["size"].sum()))))
    st.dataframe(
        files.head(_MOST_FILES),
        hide_index=True,
        column_config={"file": say("file"), "size": st.column_config.NumberColumn(say("size"), format="bytes")},
    )
    if len(files) > _MOST_FILES:
        st.caption(say("files_shown", n=_MOST_FILES))
    st.caption(say("in_folder"))
    st.code(str(run.folder), language=None)
