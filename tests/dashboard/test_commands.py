"""Command lines composed from a form."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.commands import Field, _environment, _place, call, compose, fields_of, fields_of_config, shown
from experiments.cli import VERBS
from experiments.cli.options import take
from experiments.errors import ConfigError
from experiments.store.location import Store

VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["model.a", "data.path", "seed"]), VALUES), VALUES.filter(bool))
def test_what_is_composed_is_read_back_by_the_command(options: dict[str, str], name: str) -> None:
    words = compose("vae", {**options, "name": name}, [("tags", "a=b c")])
    own, rest = take(words, VERBS["run"])
    assert own == {"name": name, "tags": ["a=b c"]}
    read, i = {}, 1
    while i < len(rest):
        key, equals, value = rest[i].removeprefix("--").partition("=")
        read[key] = value if equals else rest[i + 1]
        i += 1 if equals else 2
    assert (rest[0], read) == ("vae", options)


@settings(max_examples=30)
@given(st.lists(VALUES, max_size=3))
def test_what_is_shown_can_be_pasted_into_a_shell(words: list[str]) -> None:
    assert shlex.split(shown(words)) == ["taolu", *words]


@pytest.mark.parametrize(
    ("kind", "choices"),
    [
        ("true or false", ["true", "false"]),
        ("true or false or null", ["true", "false", "null"]),
        ("one of a, b", ["a", "b"]),
        ("one of a, b or null", ["a", "b", "null"]),
        ("a number or one of optimal or null", []),
        ("[one of noise, sharpness, ...]", []),
        ("text", []),
    ],
)
def test_an_option_of_few_values_offers_them(kind: str, choices: list[str]) -> None:
    assert Field("x", kind, "").choices == choices


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("a whole number", "-3", "3.5"),
        ("a number", "1e-3", "one"),
        ("a whole number or null", "null", "none"),
        ("a whole number or a number", "0.5", "half"),
        ("a number", ".5", "null"),
    ],
)
def test_a_value_of_another_type_is_known_before_anything_is_started(kind: str, right: str, wrong: str) -> None:
    assert Field("x", kind, "").takes(right)
    assert not Field("x", kind, "").takes(wrong)
    assert Field("x", "text or null", "").takes(wrong)


def test_defaults_are_written_as_one_types_them() -> None:
    options: dict[str, dict[str, Any]] = {
        "model.a": {"type": "[a number]", "default": [0.9], "help": "h"},
        "seed": {"type": "", "default": None, "help": ""},
    }
    assert fields_of(options) == [Field("model.a", "[a number]", "[0.9]", "h"), Field("seed", "", "null")]
    assert [field.part for field in fields_of(options)] == ["model", ""]
    config = {"name": "vae", "model": {"class": "vae", "keep": {"last": True}, "lr": 0.1}}
    assert fields_of_config(config, "model") == [
        Field("model.keep.last", "text", "true"),
        Field("model.lr", "text", "0.1"),
    ]


def test_a_verb_answers_with_its_json_or_with_its_own_line(store: Store) -> None:
    assert call(["queue", "ls", "--json"], store) == []
    with pytest.raises(ConfigError, match=r"^item 'x': give the number that taolu queue ls shows"):
        call(["queue", "rm", "x", "--json"], store)


def test_a_password_travels_by_the_environment_alone(tmp_path: Path) -> None:
    store = Store("postgresql://ann:hunter2@db/x", tmp_path)
    assert "hunter2" not in json.dumps(_place(store))
    assert _environment(store)["MLFLOW_TRACKING_URI"] == store.url
