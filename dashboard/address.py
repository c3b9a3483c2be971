"""What a widget shows stands in the page's address: a copied link restores the view, and Back undoes a choice.

Each function gives the settings that tie a widget to a field of the address, its name the widget's key:

    st.selectbox(say("axis"), AXES, format_func=say, **one("x", AXES))

Streamlit's own `bind="query-params"` (1.67) is used for the language alone: it writes the shown, translated name of an
option into the address and adds no step to the browser's history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypedDict, TypeVar

import streamlit as st

T = TypeVar("T", bound=Hashable)


class Bound(TypedDict):
    """Settings of a widget whose value stands in the address."""

    key: str
    on_change: Callable[..., None]
    args: tuple[Any, ...]


def one(key: str, options: Sequence[T], default: T | None = None) -> Bound:
    """For selectbox, radio, select_slider, segmented_control: one of the options, at first the default or the first."""
    known = {str(option): option for option in options}
    first = default if default in options else next(iter(options), None)
    return _bound(key, lambda texts: known.get(texts[-1], first), first, lambda value: [str(value)])


def many(key: str, options: Sequence[T], default: Sequence[T] = ()) -> Bound:
    """For multiselect and pills: any of the options, a field each in the address; names that are none are left out."""
    known = {str(option): option for option in options}
    first = [option for option in default if option in options]

    def read(texts: list[str]) -> list[T]:
        found = [known[text] for text in dict.fromkeys(texts) if text in known]
        return found if found or texts == [""] else first

    return _bound(key, read, first, lambda value: [str(option) for option in value] or [""])


def flag(key: str, default: bool = False) -> Bound:
    """For toggle and checkbox."""
    return _bound(key, lambda texts: {"1": True, "0": False}.get(texts[-1], default), default, lambda on: [f"{on:d}"])


def text(key: str, default: str = "") -> Bound:
    """For text_input."""
    return _bound(key, lambda texts: texts[-1], default, lambda value: [value or ""])


def number(key: str, default: float, low: float, high: float) -> Bound:
    """For slider and number_input from `low` to `high`, which are of the type of `default`: all int, or all float."""

    def read(texts: list[str]) -> float:
        try:
            value = type(default)(texts[-1])
        except ValueError:
            return default
        return min(max(value, low), high) if math.isfinite(value) else default

    return _bound(key, read, default, lambda value: [f"{value:.12g}"])


def _bound(key: str, read: Callable[[list[str]], Any], default: Any, write: Callable[[Any], list[str]]) -> Bound:
    """The settings, after the widget was set to what the address says; an unknown value counts as the default."""
    texts = st.query_params.get_all(key)
    value = read(texts) if texts else default
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value
    return {"key": key, "on_change": _note, "args": (key, write, default)}


def _note(key: str, write: Callable[[Any], list[str]], default: Any) -> None:
    """Writes the value a visitor chose into the address; a default does not stand there."""
    value = st.session_state[key]
    if value == default:
        st.query_params.pop(key, None)
    else:
        st.query_params[key] = write(value)
