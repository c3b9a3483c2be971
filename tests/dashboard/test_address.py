from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest


def form() -> None:
    """A page with a widget of each kind."""
    import streamlit as st

    from dashboard.address import flag, many, number, one, text

    st.selectbox("axis", ["step", "time"], format_func=str.upper, **one("x", ["step", "time"], "time"))
    st.multiselect("runs", ["a", "b", "c"], **many("runs", ["a", "b", "c"], ["b", "none"]))
    st.toggle("log", **flag("log"))
    st.text_input("search", **text("q"))
    st.slider("smooth", 0.0, 1.0, step=0.05, **number("smooth", 0.5, 0.0, 1.0))
    st.number_input("page", 1, 9, **number("page", 1, 1, 9))


def opened(**address: str | list[str]) -> AppTest:
    app = AppTest.from_function(form, default_timeout=30)
    for key, value in address.items():
        app.query_params[key] = value
    return app.run()


def state(app: AppTest) -> list[object]:
    assert not app.exception
    widgets = (app.selectbox, app.multiselect, app.toggle, app.text_input, app.slider, app.number_input)
    return [kind[0].value for kind in widgets]


DEFAULT: list[object] = ["time", ["b"], False, "", 0.5, 1]


def test_a_bare_address_shows_the_defaults() -> None:
    assert state(opened()) == DEFAULT


def test_a_copied_address_restores_every_widget() -> None:
    app = opened(x="step", runs=["c", "a"], log="1", q="a b&c", smooth="0.25", page="3")
    assert state(app) == ["step", ["c", "a"], True, "a b&c", 0.25, 3]


@pytest.mark.parametrize("bad", ["", "nan", "x", "1e999", "<script>", "-1e9999"])
def test_unknown_values_fall_back_without_an_error(bad: str) -> None:
    found = state(opened(x=bad, log=bad, smooth=bad, page=bad, runs=["z", bad]))
    assert [found[0], *found[2:]] == [DEFAULT[0], *DEFAULT[2:]]
    assert found[1] == ["b"]


def test_numbers_out_of_range_are_brought_into_it() -> None:
    assert state(opened(smooth="7", page="-3"))[4:] == [1.0, 1]


def test_a_choice_is_written_and_a_default_is_not() -> None:
    app = opened()
    app.selectbox[0].select("step").run()
    app.multiselect[0].unselect("b").run()
    app.toggle[0].set_value(True).run()
    app.text_input[0].set_value("odd ü").run()
    app.slider[0].set_value(0.75).run()
    app.number_input[0].set_value(4).run()
    written = {"x": "step", "runs": "", "log": "1", "q": "odd ü", "smooth": "0.75", "page": "4"}
    assert dict(app.query_params) == written
    assert state(app) == ["step", [], True, "odd ü", 0.75, 4]
    app.selectbox[0].select("time").run()
    app.toggle[0].set_value(False).run()
    assert app.query_params.keys() == written.keys() - {"x", "log"}


def test_going_back_to_an_address_undoes_the_choice() -> None:
    app = opened(x="step")
    app.slider[0].set_value(0.75).run()
    del app.query_params["smooth"]
    assert state(app.run()) == ["step", *DEFAULT[1:]]
