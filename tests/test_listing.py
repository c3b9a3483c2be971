"""What `taolu runs` and `taolu show` print."""

from __future__ import annotations

import math

import pytest
from rich.cells import cell_len

from experiments.listing import listed, shown, shown_lines, table_lines
from experiments.store.location import Store
from tests.conftest import Writer


def table(store: Store, limit: int = 20) -> list[str]:
    return list(table_lines(listed(store, limit, deleted=False), store))


def test_an_empty_store_says_how_to_start(store: Store) -> None:
    assert table(store) == [f"no runs in {store.label}; start one: taolu run vae"]


def test_runs_are_listed_newest_first_with_the_objective_before_other_metrics(filled_store: Store) -> None:
    head, *rows = table(filled_store)
    assert head.split() == ["run", "name", "experiment", "status", "started", "took", "val/elbo", "val/kl", "val/loss"]
    assert [row.split()[1] for row in rows] == ["going", "broken", "steady"]


def test_the_limit_counts_from_the_newest(filled_store: Store) -> None:
    assert [row["name"] for row in listed(filled_store, 2, deleted=False)] == ["going", "broken"]


def test_metrics_without_room_are_left_out(filled_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert table(filled_store)[0].split()[-1] == "took"


def test_columns_stay_in_line_with_chinese_names(writer: Writer) -> None:
    writer.run("名字", experiment="变分自编码")
    writer.run("plain")
    head, *rows = table(writer.store)
    column = head.index("status")
    assert {cell_len(row[: row.index("FINISHED")]) for row in rows} == {column}


def test_a_listed_run_has_its_files_and_metrics(filled_store: Store) -> None:
    steady = listed(filled_store, 20, deleted=False)[-1]
    assert steady["objective"] == "val/elbo"
    assert "config.yaml" in steady["artifacts"]
    assert steady["seconds"] == 90


def test_a_shown_run_is_one_page(filled_store: Store) -> None:
    lines = list(shown_lines(shown(filled_store, "steady")))
    text = "\n".join(lines)
    assert lines[0].startswith("steady  ")
    assert "  val/elbo          -1.0783  (the objective)" in text
    assert text.count("-1.0783") == 1
    assert "  model             latent_dim 8" in text
    assert "taolu rerun" in lines[-1]
    assert len(lines) < 35


def test_a_shown_run_names_its_parent_its_forks_and_its_evaluations(writer: Writer) -> None:
    model = writer.run("model")
    forked = {"taolu.parent": model, "taolu.fork": '{"from_step": 7}'}
    forks = [writer.run(f"f{i}", start=i, tags=forked) for i in range(6)]
    judged = writer.run("judged", tags={"taolu.parent": model, "taolu.kind": "evaluation"})
    lines = list(shown_lines(shown(writer.store, "model")))
    assert f"forks: {', '.join(f'{forks[i][:8]} f{i} (step 7)' for i in (5, 4, 3, 2))} and 2 more" in lines
    assert f"evaluations: {judged[:8]} judged" in lines
    assert f"fork of {model[:8]} model (step 7)" in shown_lines(shown(writer.store, "f0"))
    assert f"evaluation of {model[:8]} model" in shown_lines(shown(writer.store, "judged"))


def test_a_shown_config_is_that_of_the_last_session(writer: Writer) -> None:
    run_id = writer.run("net", params={"trainer.max_epochs": "2", "seed": "0"})
    writer.file(run_id, "config.yaml", "name: mine\nmodel: {class: vae, beta: 1.0}\ntrainer: {max_epochs: 9}\n")
    run = shown(writer.store, "net")
    assert run["config"] == {"model": "vae", "model.beta": "1.0", "trainer.max_epochs": "9"}
    assert "max_epochs 9" in "\n".join(shown_lines(run))


def test_a_broken_config_file_is_passed_over(writer: Writer) -> None:
    run_id = writer.run("net", params={"seed": "0"})
    writer.file(run_id, "config.yaml", "api_key: ***\n")
    assert shown(writer.store, "net")["config"] == {"seed": "0"}


@pytest.mark.parametrize(
    ("door", "files", "offered", "withheld"),
    [
        ("", ["config.yaml", "checkpoints/last.ckpt"], ["taolu rerun", "taolu resume"], ["taolu.fit"]),
        ("", ["config.yaml"], ["taolu rerun"], ["go on"]),
        ("fit", ["config.yaml", "checkpoints/last.ckpt"], ["go on: taolu.fit(module, data, resume="], ["taolu re"]),
        ("", [], ["taolu dashboard"], ["again", "go on"]),
    ],
)
def test_only_what_can_be_done_with_a_run_is_offered(
    writer: Writer, door: str, files: list[str], offered: list[str], withheld: list[str]
) -> None:
    run_id = writer.run("net", status="KILLED", tags={"taolu.door": door})
    for name in files:
        writer.file(run_id, name, "seed: 0\n")
    last = list(shown_lines(shown(writer.store, "net")))[-1]
    assert all(words in last for words in offered)
    assert not any(words in last for words in withheld)


def test_a_shown_config_leaves_out_what_is_off(writer: Writer) -> None:
    writer.run("net", params={"model": "vae", "model.sigma": "null", "trainer.compile": "false", "seed": "0"})
    text = "\n".join(shown_lines(shown(writer.store, "net")))
    assert "  model             vae" in text
    assert "  seed              0" in text
    assert "sigma" not in text
    assert "compile" not in text


def test_a_shown_run_may_have_no_number_at_all(writer: Writer) -> None:
    writer.run("bare")
    assert list(shown_lines(shown(writer.store, "bare")))[1].startswith("FINISHED  experiment vae  kind run")


def test_values_that_are_no_numbers_are_shown(filled_store: Store) -> None:
    broken = shown(filled_store, "broken")
    assert math.isnan(broken["metrics"]["train/loss"])
    assert "  train             loss nan" in shown_lines(broken)
