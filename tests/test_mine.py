"""`taolu mine apriori` and `taolu rules`: runs, tables and pictures, and every mistake in one line."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import taolu as taolu_module
from dashboard import artifacts
from experiments import demo
from experiments.fonts import font_for, needs_font
from experiments.label import Label
from experiments.mine import Request, mine, suggested_support
from experiments.rule_pictures import graph, scatter
from experiments.store.location import Store
from experiments.store.read import find_run, history, read_run
from experiments.store.rules import difference, read_rules
from experiments.words import ENGLISH
from mining.apriori import mine_itemsets
from mining.quest import Quest
from mining.readers import read_baskets
from mining.rules import Rules, rules
from tests.test_cli import Said, Taolu, refused, taolu  # noqa: F401 (a fixture)

ROOT = Path(__file__).parents[1]
HABITS = [["牛奶", "面包"], ["牛奶", "面包", "鸡蛋"], ["啤酒", "尿布"], ["啤酒", "尿布", "牛奶"], ["鸡蛋"], ["面包"]]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of any repository: each run would keep its changes."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def baskets(tmp_path: Path) -> Path:
    """A file of 120 baskets, in the encoding of Chinese spreadsheets."""
    path = tmp_path / "baskets.csv"
    path.write_bytes("".join(",".join(row) + "\r\n" for row in HABITS * 20).encode("gb18030"))
    return path


@pytest.fixture
def mined(taolu: Taolu, baskets: Path, tmp_path: Path) -> Said:  # noqa: F811
    """Their rules, also in a folder `out`."""
    out = str(tmp_path / "out")
    return taolu("mine", "apriori", str(baskets), "--min_support", "0.1", "--out", out, "--json", "--name", "habits")


def test_a_job_is_a_run_with_tables_pictures_and_counts(mined: Said, store: Store, tmp_path: Path) -> None:
    told = mined.json
    found = mine_itemsets(HABITS * 20, 0.1)
    assert mined.status == 0
    assert (told["kind"], told["experiment"], told["status"]) == ("rules", "mine-apriori", "FINISHED")
    assert told["itemsets"] == len(found)
    assert told["rules"] == len(rules(found, 0.5))
    assert "20 duplicates" not in mined.err
    assert "gb18030" in mined.err
    record = read_run(store, told["run_id"])
    assert record.metrics["itemsets"] == len(found)
    lengths = history(store, told["run_id"], ["itemsets_of_length"])
    assert dict(zip(lengths["step"], lengths["value"], strict=True)) == dict(
        enumerate(np.bincount(found.lengths)[1:], 1)
    )
    assert record.tags["taolu.data_digest"] == told["data"]["digest"]
    assert {"itemsets.parquet", "rules.parquet", "config.yaml", "command.txt", "env.json", "console.log"} <= {
        *told["artifacts"]
    }
    assert artifacts.media(record.folder).keys() == {"scatter", "graph"}
    rows, total = artifacts.read_rows(record.folder, "rules.parquet") or ([], 0)
    assert len(rows) == total == told["rules"]
    with (tmp_path / "out" / "rules.csv").open(encoding="utf-8") as file:
        assert file.read(1) == "\ufeff"  # or spreadsheets take it for another encoding
        table = list(csv.DictReader(file))
    assert len(table) == told["rules"]
    assert {"牛奶", "尿布 + 牛奶"} <= {row["antecedents"] for row in table}
    assert pq.read_table(tmp_path / "out" / "itemsets.parquet").num_rows == len(found)


def test_rules_are_filtered_recommended_and_written(taolu: Taolu, mined: Said, tmp_path: Path) -> None:  # noqa: F811
    everything = taolu("rules", "last", "--limit", "999", "--json").json["rules"]
    with_beer = taolu("rules", "habits", "--item", "啤酒", "--min_lift", "2.5", "--sort", "-lift", "--json").json
    expected = [row for row in everything if "啤酒" in row["antecedents"] + row["consequents"] and row["lift"] >= 2.5]
    assert with_beer["found"] == len(expected) > 0
    assert [row["lift"] for row in with_beer["rules"]] == sorted((row["lift"] for row in expected), reverse=True)
    advice = taolu("rules", "last", "--basket", "啤酒,面包", "--json").json["rules"]
    assert {tuple(row["antecedents"]) for row in advice} == {("啤酒",), ("面包",)}
    assert all(not {*row["consequents"]} <= {"啤酒", "面包"} for row in advice)
    sides = taolu("rules", "last", "--antecedent", "啤酒", "--consequent", "尿布", "--max_holm", "0.01", "--json").json
    assert all(row["holm"] <= 0.01 for row in sides["rules"])
    assert taolu("rules", "last", "--out", str(tmp_path / "some.csv"), "--limit", "1").status == 0
    assert len((tmp_path / "some.csv").read_text(encoding="utf-8-sig").splitlines()) == len(everything) + 1
    shown = taolu("rules", "last", "--limit", "2").out.splitlines()
    assert shown[0] == f"{len(everything)} of {len(everything)} rules, 2 shown"
    assert "尿布 -> 啤酒" in shown[2]


def test_two_runs_differ_in_rules_lost_won_and_changed(taolu: Taolu, mined: Said, baskets: Path, store: Store) -> None:  # noqa: F811
    other = baskets.with_name("other.csv")
    other.write_text("".join(",".join(row) + "\n" for row in [*HABITS * 20, *[["茶", "鸡蛋"], ["牛奶"]] * 20]))
    taolu("mine", "apriori", str(other), "--min_support", "0.1", "--name", "more")
    told = taolu("rules", "diff", "habits", "more", "--json").json
    first, second = (read_rules(store, name) for name in ("habits", "more"))
    found = difference(first, second)
    assert {key: len(told[key]) for key in ("lost", "won", "changed")} == {
        "lost": len(found.lost),
        "won": len(found.won),
        "changed": len(found.changed),
    }
    assert len(found.lost) + len(found.changed) + found.n_equal == first.num_rows
    assert any("茶" in row["antecedents"] for row in found.won.to_pylist())
    assert "only in the second" in taolu("rules", "diff", "habits", "more").out
    assert difference(first, first).n_equal == first.num_rows


def test_the_articles_form_is_found_by_command(taolu: Taolu, baskets: Path) -> None:  # noqa: F811
    words = ("--min_support", "0.15", "--min_confidence", "0.6", "--strict", "--max_head", "1")
    told = [
        taolu("mine", "apriori", str(baskets), *words, "--json", *more).json for more in ((), ("--method", "article"))
    ]
    exact = rules(mine_itemsets(HABITS * 20, 0.15, strict=True), 0.6, strict=True, max_head=1).sorted()
    for one in told:
        assert [(row["confidence"], row["support"]) for row in one["best"]] == [(c, s) for _, _, c, s in exact]
    assert all(row["confidence"] > 0.6 for row in told[0]["best"])


def test_without_thresholds_a_support_is_chosen_and_rules_are_significant_and_not_redundant(
    taolu: Taolu,  # noqa: F811
) -> None:
    told = taolu("mine", "apriori", "quest", "--baskets", "1000", "--seed", "1", "--json")
    assert "chosen: support" in told.err
    assert 3000 < told.json["itemsets"] < 35_000
    found = rules(mine_itemsets(Quest(seed=1).baskets(1000), told.json["min_support"]), 0.5)
    kept = found.where(found.measure("holm") <= 0.05).without_redundant()
    assert told.json["rules"] == len(kept)


def test_a_support_is_suggested_even_where_nothing_is_frequent() -> None:
    assert suggested_support(read_baskets_of([["a"], ["b"]])) == 1.0
    assert suggested_support(read_baskets_of([[item] for item in range(500)])) == 0.004
    dense = read_baskets_of([list(range(24))] * 10)
    assert suggested_support(dense) == 1.0


def read_baskets_of(rows: list[list[Any]]) -> Any:
    from mining.baskets import Baskets

    return Baskets.of(rows)


def test_parts_give_what_one_go_gives_and_a_killed_job_goes_on(taolu: Taolu, mined: Said, baskets: Path) -> None:  # noqa: F811
    parts = str(baskets.with_name("parts"))
    words = ("mine", "apriori", str(baskets), "--min_support", "0.1", "--parts", parts, "--part_size", "25", "--json")
    told = taolu(*words).json
    assert (told["itemsets"], told["rules"]) == (mined.json["itemsets"], mined.json["rules"])
    assert taolu(*words).json["best"] == told["best"]
    baskets.write_text("a,b\n")
    assert "holds other baskets" in taolu(*words).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name what is mined"),
        (("bpe", "x"), "unknown task 'bpe'; allowed: apriori"),
        (("apriori",), "give one source: FILE, stdlib or quest; found nothing"),
        (("apriori", "nothing.csv"), "no such file; or name one of stdlib, quest"),
        (("apriori", "{}", "--min_support", "0"), "a count must be at least 1"),
        (("apriori", "{}", "--min_support", "2.0"), "must lie in (0, 1]"),
        (("apriori", "{}", "--min_support", "nan"), "must be a number"),
        (("apriori", "{}", "--min_confidence", "1.5"), "--min_confidence 1.5: must lie in [0, 1]"),
        (("apriori", "{}", "--include", "茶"), "--include 茶: in no basket"),
        (("apriori", "{}", "--kind", "some"), "must be one of frequent, closed, maximal"),
        (("apriori", "{}", "--redundant", "yes"), "must be one of keep, remove"),
        (("apriori", "{}", "--encoding", "klingon"), "unknown; utf-8"),
        (("apriori", "{}", "--budget_seconds", "0"), "must be above 0"),
        (("apriori", "{}", "--out", "/nowhere/out"), "there is no folder /nowhere"),
        (("apriori", "{}", "--parts", "p", "--kind", "closed", "--min_support", "2"), "does not go with --parts"),
        (("apriori", "{}", "--parts", "p"), "--parts: needs --min_support"),
        (("apriori", "{}", "--tags", "taolu.kind=x"), "are the platform's"),
    ],
)
def test_what_cannot_be_mined_is_refused_before_there_is_a_run(
    taolu: Taolu,  # noqa: F811
    baskets: Path,
    store: Store,
    words: tuple[str, ...],
    message: str,
) -> None:
    assert message in refused(taolu("mine", *(word.format(baskets) for word in words)))
    assert not store.artifacts.exists() or not [*store.artifacts.iterdir()]


def test_a_file_without_baskets_is_refused(taolu: Taolu, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "empty.csv").write_text("")
    assert "holds no baskets" in refused(taolu("mine", "apriori", str(tmp_path / "empty.csv")))


NO_RULES = {
    "nothing": "no run 'nothing'",
    "last --item 茶": "no rule has the item '茶'",
    "last --sort luck": "unknown column 'luck'",
    "last --min_lift much": "must be a number",
    "last --out rules.txt": "must end in .csv or .parquet",
    "diff last": "give two runs",
    "diff last last --item x": "belongs to rules RUN",
}


def test_what_no_rules_can_be_asked_is_refused(taolu: Taolu, mined: Said) -> None:  # noqa: F811
    for words, message in NO_RULES.items():
        assert message in refused(taolu("rules", *words.split()))


def test_a_budget_ends_a_job_with_what_it_has(taolu: Taolu, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "one.csv"
    path.write_text(",".join(map(str, range(28))))
    said = taolu("mine", "apriori", str(path), "--min_support", "1", "--budget_itemsets", "5000", "--json")
    assert (said.status, said.json["complete"]) == (0, False)
    assert said.json["itemsets"] >= 5000
    assert "INCOMPLETE" in said.err


@pytest.mark.slow
def test_a_signal_ends_a_job_as_killed(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "dense.csv"
    path.write_text("\n".join(",".join(map(str, range(40))) for _ in range(3)))
    words = [
        "mine",
        "apriori",
        str(path),
        "--min_support",
        "1",
        "--budget_megabytes",
        "100000",
        "--store",
        str(store.folder),
    ]
    command = [sys.executable, "-m", "experiments", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as job:
        assert job.stdout is not None
        while "baskets" not in job.stdout.readline():
            pass
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 143
    record = read_run(store, find_run(store, "last:mine-apriori"))
    assert record.status == "KILLED"


def test_what_fails_inside_a_job_is_told_in_one_line_and_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    said: list[str] = []
    mined = mine(Request("quest", n_baskets=500, min_support=0.05), store=store, label=Label(), say=said.append)
    assert (mined.result.status, mined.result.exit_status) == ("FAILED", 1)
    assert "OSError: No space left on device" in said[-1]
    assert "Traceback" in (mined.result.folder / "traceback.txt").read_text()


# ---- pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def made() -> Rules:
    return rules(mine_itemsets(HABITS * 20, 0.1), 0.3).sorted()


def test_words_need_a_font_that_has_them_and_numbers_stand_in_where_there_is_none(made: Rules, tmp_path: Path) -> None:
    said: list[str] = []
    names = [str(name) for name in made.itemsets.names]
    plain = graph(made, names, said.append, fonts=[tmp_path])
    assert len(said) == 1
    assert "no installed font" in said[0]
    if font_for(names) is not None:
        words = graph(made, names, said.append)
        assert len(said) == 1
        assert np.asarray(words).tobytes() != np.asarray(plain).tobytes()
    assert not needs_font(["tea"])
    (tmp_path / "NotoSansCJK.ttc").write_text("no font")
    assert font_for(names, [tmp_path]) is None


def test_the_scatter_has_a_dot_where_support_and_confidence_are(made: Rules) -> None:
    picture = scatter(made)
    colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert picture.size == (1440, 840)
    assert (163, 47, 47) in colours  # the largest lift
    assert isinstance(picture, Image.Image)


# ---- Python and the demo --------------------------------------------------------------------------------------------


def test_python_has_the_same_miners(baskets: Path) -> None:
    found = taolu_module.mine_itemsets(baskets, 0.1)
    assert dict(found) == dict(mine_itemsets(read_baskets(baskets)[0], 0.1))
    assert [*taolu_module.rules(found, 0.9)] == [*rules(found, 0.9)]
    assert not taolu_module.mine_itemsets([list(range(28))], 1, budget=taolu_module.Budget(itemsets=10)).complete


@pytest.mark.slow
def test_the_line_of_rules_compares_both_algorithms(store: Store) -> None:
    line = demo.FAMILIES["rules"](store, False, False, ENGLISH)
    assert line.verdict == "holds: the article's algorithm agrees"
    assert len(line.drawing) == 4


def test_mining_loads_no_torch() -> None:
    program = (
        "import sys, experiments.mine, experiments.rules, experiments.cli.mining; "
        "from experiments.provenance import environment; environment(1); "
        "print([name for name in ('torch', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
