"""One run: what it is, how it went, what it left behind. `?run=ID` in the address says which."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard import artifacts, charts
from dashboard.address import flag, many, number, one
from dashboard.curves import Line, View, curve_figure
from dashboard.links import go
from dashboard.live import refreshed
from dashboard.marking import mark
from dashboard.palette import colors
from dashboard.state import kept, points, table
from dashboard.tabs import CHART, draw_open_tab, files, system
from dashboard.tabs.selection import MODELS, MOST_RUNS
from dashboard.tabs.window import draw_chart, draw_whole_range, window
from dashboard.views.runs import empty
from dashboard.words import STATUS, VERDICTS, Say, ago, plain, span
from experiments.store.location import Store
from experiments.store.read import RunRecord, find_run, read_run
from experiments.store.relatives import EVALUATION, FORK, Relative, Relatives, read_relatives
from experiments.store.verdicts import read_evidence

if TYPE_CHECKING:
    import pandas as pd
    from streamlit.navigation.page import StreamlitPage

MOST_CHARTS = 8
MOST_CHILDREN = 4  # named on a line; the newest
PATHS = "paths.npz"
EVIDENCE, PLOT = "evidence.json", "plot.png"
USES = "taolu.uses"  # tag: ids of runs that this one needs
_ID = re.compile(r"[0-9a-f]{32}")
_ID_LENGTH = 32
_MOST_LINES = 400


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page: what the run is, then a tab each for what it left; drawn again while it goes on."""
    runs = table(store)
    handle = st.query_params.get("run")
    if handle is None:
        if runs.empty:
            st.title(say("run"))
            empty(say)
            return
        models = runs[runs["kind"].isin(MODELS)]
        handle = str((runs if models.empty else models)["run_id"].iloc[0])  # the newest that trained
    # an id: deleted runs too
    run_id = handle if len(handle) == _ID_LENGTH else kept(store, find_run, handle)
    name = kept(store, read_run, run_id).name or run_id[:8]
    st.set_page_config(page_title=f"{name} · taolu")
    st.title(plain(name))
    refreshed(store, partial(_body, store, run_id, say, pages), [run_id])


def _body(store: Store, run_id: str, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    run = kept(store, read_run, run_id)
    _header(store, run, say, pages)
    _failure(run, say)
    draws: dict[str, Callable[[], None]] = {
        "curves": partial(_curves, store, run, say),
        "config": partial(_config, run, say),
        "images": partial(_images, run, say),
    }
    if (run.folder / EVIDENCE).is_file():
        draws = {"evidence": partial(_evidence, store, run, say)} | draws
    if (run.folder / PATHS).is_file():
        draws["paths"] = partial(_paths, run, say)
    draws |= {
        "console": partial(_console, run, say),
        "system": partial(_system, store, run, say),
        "files": partial(files.draw, run, say),
    }
    draw_open_tab(say, draws)


def _header(store: Store, run: RunRecord, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    icon, _, color = STATUS.get(run.status, STATUS["SCHEDULED"])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(say(run.status) if run.status in STATUS else plain(run.status), icon=icon, color=color)
        if run.deleted:
            st.badge(say("deleted"), icon=":material/delete:", color="gray")
        st.badge(plain(run.experiment), icon=":material/science:", color="gray")
        st.badge(plain(run.kind), icon=":material/category:", color="gray")
        st.badge(run.run_id[:8], icon=":material/tag:", color="gray", help=run.run_id)
    st.caption(" · ".join(_times(run, say)))
    found = kept(store, _relatives_of, run.run_id)
    for line in _relatives(found, say):
        st.markdown(line)
    runs = table(store)
    for line in _uses(run, runs, say):
        st.markdown(line)
    if run.note:
        st.text(run.note[:2_000])
    _commands(store, run, say)
    if not run.deleted:
        near = [each.run_id for each in (*([found.parent] if found.parent else []), *found.children)]
        with st.container(horizontal=True, vertical_alignment="center"):
            mark(store, runs[runs["run_id"] == run.run_id], say)
            if "compare" in pages:
                word = say("compare_relatives" if near else "compare_this")
                if st.button(word, icon=":material/stacked_line_chart:"):
                    go(pages["compare"], runs=[run.run_id, *near][:MOST_RUNS])


def _commands(store: Store, run: RunRecord, say: Say) -> None:
    """The command that made the run, and those that repeat it or go on from it: to be copied."""
    command = artifacts.read_tail(run.folder, "command.txt", 4_096)
    if command:
        st.code(command, language="bash", wrap_lines=True)
    found = dict(_next_commands(store, run))
    for place, (word, line) in zip(st.columns(len(found) or 1), found.items(), strict=False):
        place.caption(say(word))
        place.code(line, language="bash", wrap_lines=True)


def _next_commands(store: Store, run: RunRecord) -> Iterator[tuple[str, str]]:
    """What is not sure to be refused: word -> command."""
    if run.tags.get("taolu.door") == "fit" or not (run.folder / "config.yaml").is_file():
        return
    where = f" --store {shlex.quote(str(store.folder))}" if store.database else ""
    yield "again", f"taolu rerun {run.run_id[:8]}{where}"
    if (run.folder / "checkpoints" / "last.ckpt").is_file():
        yield "go_on", f"taolu resume {run.run_id[:8]}{where}"


def _relatives_of(store: Store, run_id: str) -> Relatives:
    return read_relatives(store, read_run(store, run_id))


def _relatives(found: Relatives, say: Say) -> Iterator[str]:
    """The run it began from, its forks and its evaluations, a line each; names lead to their pages."""
    if found.parent:
        yield say(f"{found.parent.relation}_of", run=_link(found.parent, say))
    for relation in (FORK, EVALUATION):
        children = found.of(relation)
        if children:
            yield say(f"{relation}s", runs=_few([_link(child, say) for child in children], say))


def _uses(run: RunRecord, runs: pd.DataFrame, say: Say) -> Iterator[str]:
    """The runs whose results this one used, and those that used its own."""
    names = dict(zip(runs["run_id"], runs["name"], strict=True))
    used = list(dict.fromkeys(_ID.findall(run.tags.get(USES, ""))))
    tag = f"tags.{USES}"
    users: list[str] = []
    if tag in runs:
        users = [*runs.loc[runs[tag].str.contains(run.run_id, na=False, regex=False), "run_id"]]
    for word, ids in (("uses", used), ("used_by", users)):
        links = [_link(Relative(run_id, names.get(run_id, ""), "", None), say) for run_id in ids]
        if links:
            yield say(word, runs=_few(links, say))


def _few(links: Sequence[str], say: Say) -> str:
    more = len(links) - MOST_CHILDREN
    return " · ".join([*links[:MOST_CHILDREN], *([say("and_more", n=more)] if more > 0 else [])])


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
    first = (learned or list(groups))[:MOST_CHARTS]
    left, middle, right = st.columns([5, 2, 1], vertical_alignment="bottom")
    hint = say("charts_hint", shown=len(first), total=len(groups), most=MOST_CHARTS)
    chosen = left.multiselect(
        say("charts"), list(groups), max_selections=MOST_CHARTS, help=hint, **many("charts", list(groups), first)
    )
    smoothing = middle.slider(say("smoothing"), 0.0, 0.99, step=0.01, **number("smooth", 0.0, 0.0, 0.99))
    log_y = right.toggle(say("log_y"), **flag("logy"))
    draw_whole_range(say)
    low, high = window()
    view = View(say("step"), smoothing=smoothing, log_y=log_y, low=low, high=high, height=280)
    columns = st.columns(2)
    for i, name in enumerate(chosen):
        with columns[i % 2]:
            _chart(run, values[values["key"].isin(groups[name])], name, view)
    with st.expander(say("values"), expanded=not chosen):
        _values(values, say)


def _chart(run: RunRecord, values: pd.DataFrame, name: str, view: View) -> None:
    """A quantity of the run in the run's own colour; stages differ in their dashes."""
    color = colors([run.run_id])[run.run_id]
    lines = []
    for key, rows in values.groupby("key", sort=True):
        stage = str(key).partition("/")[0] if charts.quantity(str(key)) != key else ""
        x, y = rows["step"].to_numpy(float), rows["value"].to_numpy(float)
        lines.append(Line(stage or str(key), run.run_id, color, stage, x, y))
    view = replace(view, has_legend=len(lines) > 1 or lines[0].name != name)
    draw_chart(curve_figure(lines, name, view), f"chart {name}")


def _system(store: Store, run: RunRecord, say: Say) -> None:
    values = points(store, run.run_id)
    groups = charts.group_metrics(values["key"].unique())
    draw_whole_range(say)
    low, high = window()
    view = View(say("step"), low=low, high=high, height=240)
    system.draw(run, groups, lambda name: _chart(run, values[values["key"].isin(groups[name])], name, view), say)


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


def _config(run: RunRecord, say: Say) -> None:
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


def _images(run: RunRecord, say: Say) -> None:
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
    return int(st.select_slider(label, order, **one(f"{kind} {name}", order, order[-1])))


def _paths(run: RunRecord, say: Say) -> None:
    arrays = artifacts.read_arrays(run.folder, PATHS)
    if arrays is None or not arrays.keys() >= charts.PATH_ARRAYS:
        st.warning(say("no_paths", most=artifacts.LARGEST_ARRAYS_MB))
        return
    left, right = st.columns(2)
    words = {name: say(name) for name in ("path_title", "map_title", "optimizer", "equation", "minimum", "time")}
    left.plotly_chart(charts.path_chart(arrays, words), key="path chart", config=CHART)
    if "basin" in arrays:
        right.plotly_chart(charts.basin_chart(arrays, words), key="basin chart", config=CHART)
        right.caption(say("map_hint"))


def _console(run: RunRecord, say: Say) -> None:
    text = artifacts.read_tail(run.folder, "console.log")
    if not text:
        st.info(say("no_console"))
        return
    lines = text.splitlines()[-_MOST_LINES:]
    st.caption(say("console_tail", n=len(lines)))
    st.code("\n".join(lines), language=None, height=520 if len(lines) > 25 else "content")
