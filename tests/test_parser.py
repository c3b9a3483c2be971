"""The parser over signatures: what an option's value may be."""

from __future__ import annotations

from typing import Literal

import pytest

from experiments.errors import ConfigError
from experiments.parser import FILLED, as_plain, build_parser, options_of, parse_settings, type_name
from experiments.store.configs import flatten


class Part:
    """A part.

    Args:
        path: a file.
        size: how many.
        names: a list of words.
        mode: one of two.
        seed: filled when the part is built.
    """

    def __init__(
        self,
        path: str,
        size: int = 3,
        names: list[str] | None = None,
        mode: Literal["a", "b"] = "a",
        flag: bool = False,
        seed: int = 0,
    ) -> None:
        pass


class Untyped:
    """A part whose author wrote no types."""

    def __init__(self, width=4, thing=None, **kwargs) -> None:  # type: ignore[no-untyped-def]
        pass


def parsed(*words: str, **settings: object) -> dict[str, object]:
    classes: dict[str, tuple[str, type]] = {"data": ("part", Part)}
    return flatten(parse_settings(build_parser(classes), {"data": settings}, words, classes))


def test_filled_parameters_are_no_options() -> None:
    options = options_of(build_parser({"data": ("part", Part)}))
    assert {f"data.{name}" for name in FILLED} & {*options} == set()
    assert "data.size" in options


def test_parameters_without_types_are_options() -> None:
    classes: dict[str, tuple[str, type]] = {"data": ("untyped", Untyped)}
    values = parse_settings(build_parser(classes), {}, ["--data.width", "7"], classes)
    assert values["data"]["width"] == 7


def test_values_are_read_as_their_types_say() -> None:
    values = parsed("--data.size", "5", "--data.names", "[x, 'y z']", "--data.mode=b", "--data.flag", path="文件.npz")
    assert values["data.path"] == "文件.npz"
    assert (values["data.size"], values["data.names"], values["data.mode"]) == (5, ["x", "y z"], "b")
    assert values["data.flag"] is True


def test_the_last_of_two_options_counts() -> None:
    assert parsed("--data.size", "5", "--data.size", "6", path="x")["data.size"] == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.siez", "3"], r"unknown option '--data.siez' \(did you mean '--data.size'\?\); allowed: --data.flag"),
        (["--data.siz", "3"], r"unknown option '--data.siz' \(did you mean '--data.size'\?\)"),
        (["--size", "3"], r"unknown option '--size' \(did you mean '--data.size'\?\)"),
        (["--dta.size", "3"], r"did you mean '--data.size'\?\); allowed: --data, --seed, --threads, --trainer"),
        (["--trainer.max_epoch", "2"], r"did you mean '--trainer.max_epochs'\?"),
        (["--trainer", "2"], "--trainer: takes no value itself; give one of --trainer.max_epochs"),
        (["--data.size"], "--data.size: needs a value: a whole number"),
        (["--data.size", "--data.flag"], "--data.size: needs a value: a whole number"),
        (["--data.size", "1.5"], "data.size = 1.5: must be a whole number"),
        (["--data.size", ""], "data.size = '': must be a whole number"),
        (["--data.size", "null"], "data.size = null: must be a whole number"),
        (["--data.mode", "c"], "data.mode = c: must be one of a, b"),
        (["--data.flag=maybe"], "data.flag = maybe: must be true or false"),
        (["--data.names", "3"], r"data.names = 3: must be \[text\] or null"),
        (["data.size", "3"], "unexpected word 'data.size'; options are written --key value"),
        (["--trainer.accelerator", "quantum"], "must be one of auto, cpu, gpu"),
    ],
)
def test_a_mistake_is_named_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parsed(*words, path="x")
    assert "\n" not in str(caught.value)


def test_a_required_option_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"^data.path: required and not given; add --data.path PATH$"):
        parsed()


def test_types_are_said_in_words() -> None:
    assert type_name(list[str]) == "[text]"
    assert type_name(tuple[int, ...]) == "[a whole number, ...]"
    assert type_name(bool | None) == "true or false or null"


def test_plain_values_are_what_yaml_holds() -> None:
    assert as_plain({"a": (1, {2})}) == {"a": [1, [2]]}
