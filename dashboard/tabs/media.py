"""Pictures and texts of the compared runs: a row a run, a column a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import streamlit as st

from dashboard import artifacts
from dashboard.address import number, one
from dashboard.tabs.selection import Selection
from dashboard.words import Say, plain

MOST_ROWS = 8  # runs shown; each picture is sent to the browser
MOST_COLUMNS = 6
FIRST_COLUMNS, FIRST_TEXTS = 4, 3
FIRST_NAME = "samples"  # shown before another is chosen, if as many runs have it


def draw_images(chosen: Selection, say: Say) -> None:
    """The tab of pictures: runs downwards, steps to the right, up to the step of the slider."""
    found = _found(chosen, ".png")
    if not found:
        st.info(say("no_images_compared"))
        return
    name, steps = _widgets(found, say, FIRST_COLUMNS)
    for run_id, files in found[name].items():
        st.markdown(f"**{plain(chosen.names[run_id])}**")
        for place, step in zip(st.columns(len(steps)), steps, strict=True):
            own = latest(files, step)
            if own is None:
                place.caption(say("none_here"))
            else:
                _picture(chosen, run_id, files[own], own, say, place)
    st.caption(say("same_noise"))


def _picture(
    chosen: Selection, run_id: str, file: str, step: int, say: Say, place: st.delta_generator.DeltaGenerator
) -> None:
    image = artifacts.read_image(chosen.store.run_folder(run_id), file)
    if image is None:
        place.warning(say("image_refused", name=plain(file), most=artifacts.LARGEST_IMAGE_MB))
    else:
        alt = f"{plain(chosen.names[run_id])} {step}"
        place.image(image, caption=f"{say('step')} {step}", alt=alt, width="stretch")


def draw_texts(chosen: Selection, say: Say) -> None:
    """The tab of texts: what each run made of one prompt, at some of its steps."""
    found = _found(chosen, ".json")
    if not found:
        st.info(say("no_texts_compared"))
        return
    name, steps = _widgets(found, say, FIRST_TEXTS)
    owns = {(run_id, step): latest(files, step) for run_id, files in found[name].items() for step in steps}
    texts = {
        (run_id, own): dict(artifacts.read_texts(chosen.store.run_folder(run_id), found[name][run_id][own]))
        for (run_id, _), own in owns.items()
        if own is not None
    }
    prompts = list(dict.fromkeys(prompt for each in texts.values() for prompt in each))
    if not prompts:
        st.info(say("no_texts_compared"))
        return
    prompt = st.selectbox(say("prompt"), prompts, format_func=lambda text: text[:120], **one("prompt", prompts))
    for run_id in found[name]:
        st.markdown(f"**{plain(chosen.names[run_id])}**")
        for place, step in zip(st.columns(len(steps)), steps, strict=True):
            own = owns[run_id, step]
            text = None if own is None else texts[run_id, own].get(prompt)
            if text is None:
                place.caption(say("none_here"))
            else:
                place.caption(f"{say('step')} {own}")
                place.code(text, language=None, wrap_lines=True)


def _found(chosen: Selection, suffix: str) -> dict[str, dict[str, dict[int, str]]]:
    """Name -> run -> step -> file, of the first MOST_ROWS runs that have any."""
    found: dict[str, dict[str, dict[int, str]]] = {}
    rows = 0
    for run_id in chosen.ids:
        media = artifacts.media(chosen.store.run_folder(run_id), suffix)
        rows += bool(media)
        if rows > MOST_ROWS:
            break
        for name, files in media.items():
            found.setdefault(name, {})[run_id] = files
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0] != FIRST_NAME, item[0])))


def _widgets(
    found: Mapping[str, Mapping[str, Mapping[int, str]]], say: Say, first_columns: int
) -> tuple[str, Sequence[int]]:
    """The name and the steps that are chosen."""
    names = list(found)
    left, middle, right = st.columns([2, 3, 1], vertical_alignment="bottom")
    name = left.selectbox(say("name"), names, **one("media", names))
    steps = sorted({step for files in found[name].values() for step in files})
    last = steps[-1]
    if len(steps) > 1:
        last = middle.select_slider(say("up_to_step"), steps, **one("upto", steps, last))
    count = right.number_input(say("columns"), 1, MOST_COLUMNS, **number("shown", first_columns, 1, MOST_COLUMNS))
    return name, spread([step for step in steps if step <= last], int(count))


def latest(steps: Iterable[int], step: int) -> int | None:
    """The last of the steps that is not after `step`; None where all are.

    >>> latest([0, 50], 60), latest([50], 49)
    (50, None)
    """
    return max((each for each in steps if each <= step), default=None)


def spread(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of the steps, evenly apart, the last one among them.

    >>> spread([0, 10, 20, 30, 40], 3), spread([0, 10], 3), spread([0, 10], 1)
    ([0, 20, 40], [0, 10], [10])
    """
    if len(steps) <= count:
        return list(steps)
    if count == 1:
        return [steps[-1]]
    return [steps[round(i * (len(steps) - 1) / (count - 1))] for i in range(count)]
