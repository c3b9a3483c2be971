"""Runs filtered, sorted and cut to columns by the names a person knows."""

from __future__ import annotations

import io
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from experiments.cli import main
from experiments.errors import ConfigError
from experiments.listing import column_lines, listed, listed_columns
from experiments.store.columns import Choice, FilterError
from experiments.store.location import Store
from experiments.store.read import runs_table
from experiments.store.write import release_connections
from tests.conftest import Writer

Names = Callable[..., list[str]]


@pytest.fixture
def names(writer: Writer) -> Names:
    """Names of the runs a choice takes, of three that differ in everything."""
    for i, (name, status, rate, elbo) in enumerate(
        [
            ("wide", "FINISHED", "1e-3", -25.0),
            ("deep", "FAILED", "null", float("nan")),
            ("宽", "FINISHED", "0.1", -30.0),
        ]
    ):
        writer.run(
            name,
            status=status,
            start=100_000 * i,
            params={"optimizer.lr": rate, "trainer.compile": "true" if i else "false", "seed": str(i)},
            metrics={"val/elbo": [elbo], ":9a8c::8bc1:/ppl:40:1:25:": [float(i)]},
            tags={"taolu.objective": "val/elbo max", "purpose": "paper"},
        )
    table = runs_table(writer.store)
    return lambda *given, **more: list(Choice(*given, **more).rows(table)["name"])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("val/elbo > -28", ["wide"]),
        ("`val/elbo` > -1e3 and status == 'FINISHED'", ["宽", "wide"]),
        ('status=="FINISHED" and val/elbo<-28', ["宽"]),
        ("optimizer.lr < 0.01", ["wide"]),
        ("params.optimizer.lr * 10 >= 1", ["宽"]),
        ("seed in [0, 1]", ["deep", "wide"]),
        ("not (status == 'FAILED') & purpose == 'paper'", ["宽", "wide"]),
        ("trainer.compile == 'true'", ["宽", "deep"]),
        ("name.str.startswith('w')", ["wide"]),
        ("name == '宽'", ["宽"]),
        ("`验证/ppl@1%` >= 1", ["宽", "deep"]),
        ("objective < -28", ["宽"]),
        ("abs(val/elbo) < 28", ["wide"]),
        ("started > '2026-09-22' and started < '2030-01-01'", ["宽", "deep"]),
        ("took == 90", ["宽", "deep", "wide"]),
        ("val/elbo > 0", []),
    ],
)
def test_a_filter_takes_the_runs_it_is_true_of(names: Names, expression: str, expected: list[str]) -> None:
    assert names(expression) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("val/elb > 3", "--filter, at character 1: unknown column 'val/elb' (did you mean 'val/elbo'?); there are "),
        (
            "status == 'X' and `statsu` == 3",
            "--filter, at character 19: unknown column 'statsu' (did you mean 'status'?)",
        ),
        ("status = 'FINISHED'", "--filter, at character 8: '=' cannot be read; equality is ==; write it as in "),
        ("val/elbo > 1 and and seed", "--filter, at character 18: 'and' cannot be read"),
        ("status ==", "--filter, at character 10: the end cannot be read"),
        ("(val/elbo > 3", "--filter, at character 1: '(val/elbo' cannot be read"),
        ("`val/elbo > 3", "--filter, at character 1: '`' has no meaning here"),
        ("@print > 3", "--filter, at character 1: '@' has no meaning here"),
        ("__import__('os').getpid() > 3", "unknown column '__import__'"),
        ("val/elbo", "--filter: 'val/elbo' is not true or false of a run"),
        ("3 > 2", "--filter: '3 > 2' is not true or false of a run"),
        ("name > 3", "--filter: cannot be judged ("),
        ("name.nosuch == 3", "--filter: cannot be judged ("),
        ("", "--filter, at character 1: the end cannot be read"),
    ],
)
def test_an_error_is_one_line_that_points_at_the_place(names: Names, expression: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        names(expression)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "column_" not in str(error.value)


@pytest.mark.parametrize(
    ("expression", "at_fault"),
    [
        ("seed == 1 and statsu == 3", "statsu"),
        ("seed == 1 and `statsu` == 3", "`statsu`"),
        ("name == '宽' and and seed", "and"),
        ("status = 'FINISHED'", "="),
        ("@seed == 1", "@"),
        ("seed ==", ""),
        ("name > 3", None),
    ],
)
def test_an_error_names_the_characters_at_fault(names: Names, expression: str, at_fault: str | None) -> None:
    with pytest.raises(FilterError) as error:
        names(expression)
    start, end = error.value.start, error.value.end
    assert (None if start is None else expression[start:end]) == at_fault


def test_runs_are_sorted_by_a_column_and_those_without_a_value_stand_last(names: Names) -> None:
    assert names(sort="val/elbo") == ["宽", "wide", "deep"]
    assert names(sort="-val/elbo") == names(sort="-objective") == ["wide", "宽", "deep"]
    assert names(sort="optimizer.lr") == ["wide", "宽", "deep"]
    with pytest.raises(ConfigError, match=r"--sort: unknown column 'lr' .*there are .*optimizer\.lr"):
        names(sort="lr")


def test_chosen_columns_are_shown_under_the_names_they_were_asked_for(writer: Writer, names: Names) -> None:
    choice = Choice("status == 'FINISHED'", "-val/elbo", ("run", "name", "optimizer.lr", "objective"))
    table = listed_columns(writer.store, None, deleted=False, choice=choice)
    assert (
        table.drop(columns="run").to_csv(index=False) == "name,optimizer.lr,objective\nwide,0.001,-25.0\n宽,0.1,-30.0\n"
    )
    head, *lines = column_lines(table)
    assert head.split() == ["run", "name", "optimizer.lr", "objective"]
    assert [line.split()[1:] for line in lines] == [["wide", "0.001", "-25"], ["宽", "0.1", "-30"]]
    assert listed(writer.store, 1, deleted=False, choice=choice)[0]["name"] == "wide"
    with pytest.raises(ConfigError, match=r"--columns: unknown column 'lr'"):
        listed_columns(writer.store, None, deleted=False, choice=Choice(columns=("name", "lr")))


def test_the_verb_runs_filters_sorts_and_writes_csv(
    writer: Writer, names: Names, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(writer.store.folder)]
    assert main(["runs", "--filter", "val/elbo < 0", "--sort", "-val/elbo", "--columns", "name,val/elbo", *store]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["name", "val/elbo"],
        ["wide", "-25"],
        ["宽", "-30"],
    ]
    assert main(["runs", "--csv", "--limit", "2", *store]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(table["name"]) == ["宽", "deep"]
    assert table["metrics.val/elbo"].tolist()[0] == -30
    assert main(["runs", "--filter", "val/elbo > 0", *store]) == 0
    assert capsys.readouterr().out == "no run fits the filter\n"
    assert main(["runs", "--columns", "name,val/elbo", "--json", *store]) == 0
    assert '"name": "deep", "val/elbo": null' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--filter", "statsu == 'x'"], "unknown column 'statsu'"),
        (["--sort", "nosuch"], "--sort: unknown column 'nosuch'"),
        (["--columns", "name,,x"], "--columns name,,x: write names with commas between them"),
        (["--csv", "--json"], "--csv and --json: give one of them"),
    ],
)
def test_a_mistake_is_one_line(
    filled_store: Store, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["runs", *words, "--store", str(filled_store.folder)]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_ten_thousand_runs_are_filtered_in_about_the_time_it_takes_to_read_them(writer: Writer) -> None:
    writer.run("one", params={f"p{i}": str(i) for i in range(20)}, metrics={f"val/m{i}": [0.5] for i in range(10)})
    release_connections(writer.store)
    assert writer.store.database is not None
    with closing(sqlite3.connect(writer.store.database)) as connection, connection:
        for kind in ("runs", "params", "latest_metrics"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({kind})")]
            chosen = ", ".join("printf('%032x', n)" if name == "run_uuid" else f'"{name}"' for name in columns)
            series = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 9999)"
            connection.execute(f"INSERT INTO {kind} {series} SELECT {chosen} FROM {kind}, s")
    start = time.process_time()
    table = runs_table(writer.store)
    reading = time.process_time() - start
    start = time.process_time()
    found = Choice("val/m3 > 0.1 and p7 == 7 and status == 'FINISHED'", "-val/m2", ("name", "val/m3")).rows(table)
    assert len(found) == 10_000
    assert np.isclose(found["metrics.val/m3"], 0.5).all()
    assert time.process_time() - start < max(reading, 0.5)
