"""A report: its figures against SciPy, its page whole and without network, its other forms."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import taolu
from experiments.cli import main
from experiments.errors import ConfigError
from experiments.report import report
from experiments.words import ENGLISH
from mining.significance import holm
from tests.conftest import Writer, png

VALUES = {"0.1": [1.0, 1.2, 0.9, 1.1], "0.2": [2.0, 2.3, 1.8, 2.2], "0.3": [1.1, 1.0, 1.3, 1.2]}


@pytest.fixture
def sweep(writer: Writer) -> Writer:
    """A sweep of three learning rates over four seeds, one trial pruned and one diverged."""
    tags = {"taolu.kind": "trial", "taolu.study": "mine", "taolu.objective": "val/loss min"}
    writer.run("mine", experiment="mine", tags={"taolu.kind": "sweep", "taolu.study": "mine"})
    start = 0
    for rate, values in VALUES.items():
        for seed, value in enumerate(values):
            start += 1
            run_id = writer.run(
                f"mine-{start}",
                experiment="mine",
                start=start,
                params={"model": "vae", "optimizer.lr": rate, "seed": str(seed)},
                metrics={"val/loss": [9.0, math.nan, value], "train/loss": [3.0, 2.0, 1.0, 0.5]},
                tags=tags,
            )
            for step in (0, 50):
                writer.file(run_id, f"media/samples <b>/{step:08d}.png", png(step))
    more = {"params": {"model": "vae", "optimizer.lr": "0.2", "seed": "9"}, "experiment": "mine", "start": 50}
    writer.run("pruned", metrics={"val/loss": [5.0]}, tags={**tags, "taolu.trial_end": "pruned"}, **more)  # type: ignore[arg-type]
    writer.run("diverged", metrics={"val/loss": [math.nan]}, tags={**tags, "taolu.trial_end": "diverged"}, **more)  # type: ignore[arg-type]
    writer.run("stopped", status="KILLED", metrics={"val/loss": [7.0]}, tags=tags, **more)  # type: ignore[arg-type]
    return writer


def test_the_table_has_means_and_intervals_over_seeds(sweep: Writer) -> None:
    found = report(sweep.store, ["mine"])
    assert [figure.group for figure in found.figures] == [f"optimizer.lr {rate}" for rate in VALUES]
    for figure, values in zip(found.figures, VALUES.values(), strict=True):
        low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
        assert figure.mean.n == 4
        assert figure.mean.mean == pytest.approx(float(np.mean(values)))
        np.testing.assert_allclose([figure.mean.low, figure.mean.high], [low, high])
    assert [figure.mean.n_lost for figure in found.figures] == [0, 1, 0]
    assert found.left_out() == "1 runs that did not finish"


def test_groups_are_tested_against_the_first_seed_by_seed_with_holms_correction(sweep: Writer) -> None:
    found = report(sweep.store, ["mine"])
    known = [stats.ttest_rel(VALUES[rate], VALUES["0.1"]) for rate in ("0.2", "0.3")]
    assert [each.group for each in found.contrasts] == ["optimizer.lr 0.2", "optimizer.lr 0.3"]
    assert [each.p for each in found.contrasts] == pytest.approx(
        holm(np.array([test.pvalue for test in known])).tolist()
    )
    assert [each.found.n for each in found.contrasts if each.found] == [4, 4]


def test_runs_without_common_seeds_are_not_tested(writer: Writer) -> None:
    for seed, rate in enumerate(("0.1", "0.1", "0.2", "0.2")):
        writer.run(f"r{seed}", params={"optimizer.lr": rate, "seed": str(seed)}, metrics={"val/loss": [float(seed)]})
    [contrast] = report(writer.store, ["r0", "r1", "r2", "r3"]).contrasts
    assert contrast.sentence(ENGLISH) == "not tested: fewer than two seeds in both"


class Page(HTMLParser):
    """The tags of a page, closed as they were opened, and everything it points to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_network(sweep: Writer, tmp_path: Path) -> None:
    store = ["--store", str(sweep.store.folder)]
    assert main(["report", "mine", "--out", str(tmp_path / "report.html"), *store]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.links) == 3  # the last picture of the first run of each group
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"url\(|@import|<script|<b>", text)
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"] * 2  # a name, nothing is fetched
    assert "optimizer.lr" in text.split("What the configs differ in")[1][:200]
    curves = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text)]
    lines = [
        line for line in curves[0].iter("{http://www.w3.org/2000/svg}polyline") if line.get("stroke-width") == "1.2"
    ]
    assert len(lines) == 1 + 2 * 12  # the frame; every run's curve before and after its gap


def test_the_other_forms_have_the_same_table(sweep: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--store", str(sweep.store.folder)]
    said = {}
    for form in ("markdown", "latex", "csv"):
        assert main(["report", "mine", "--format", form, *store]) == 0
        said[form] = capsys.readouterr().out
    assert said["markdown"].splitlines()[:2] == [
        "| group | metric | n | mean | 95 % interval | sd |",
        "|" + " --- |" * 6,
    ]
    assert "| optimizer.lr 0.1 | val/loss | 4 | 1.05 | [0.84457, 1.2554] | 0.1291 |" in said["markdown"]
    assert "| optimizer.lr 0.2 | val/loss | 4 (1 not finite) | 2.075 |" in said["markdown"]
    assert "- val/loss, optimizer.lr 0.2 minus optimizer.lr 0.1: +1.025 [" in said["markdown"]
    assert r"95 \% interval" in said["latex"]
    assert said["latex"].count(r" \\") == 4
    rows = list(csv.DictReader(io.StringIO(said["csv"])))
    assert [float(row["mean"]) for row in rows] == [np.mean(values) for values in VALUES.values()]
    assert main(["report", "mine", "--format", "csv", "--json", *store]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 13


def test_the_ending_of_the_file_says_which_form_it_has(sweep: Writer, tmp_path: Path) -> None:
    store = ["--store", str(sweep.store.folder)]
    for name, start in {"a.md": "| group", "a.tex": r"\begin", "a.csv": "group,", "a.html": "<!doctype"}.items():
        assert main(["report", "mine", "--out", str(tmp_path / name), *store]) == 0
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    taolu.report("mine", out=str(tmp_path / "b.tex"), store=str(sweep.store.folder))
    assert (tmp_path / "b.tex").read_bytes() == (tmp_path / "a.tex").read_bytes()


def test_a_run_alone_has_no_interval_and_no_test(writer: Writer) -> None:
    writer.run("one", metrics={"train/loss": [2.0, 1.0]}, params={"seed": "0"})
    found = report(writer.store, ["one"])
    assert [figure.cells(ENGLISH) for figure in found.figures] == [["vae", "train/loss", "1", "1", "unknown", ""]]
    assert found.contrasts == ()
    assert "<svg" in found.text("html")


def test_the_python_door_gives_the_table_and_writes_the_file(writer: Writer, tmp_path: Path) -> None:
    for seed, value in enumerate([1.0, 3.0]):
        writer.run(f"r{seed}", metrics={"val/loss": [value]}, params={"seed": str(seed)})
    table = taolu.report("r0", "r1", out=str(tmp_path / "t.md"), form="markdown", store=writer.store.url)
    assert table[["group", "metric", "n", "mean"]].to_numpy().tolist() == [["vae", "val/loss", 2, 2.0]]
    assert (tmp_path / "t.md").read_text(encoding="utf-8").startswith("| group | metric |")
    assert taolu.diff("r0", "r1", store=writer.store.url)["metrics"][0]["difference"] == 2.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name the runs, or a sweep, as in: taolu report last"),
        (["nosuch"], "no run 'nosuch'"),
        (["going"], "going: no run of these has finished with a value"),
        (["steady", "--format", "htm"], "unknown format 'htm' (did you mean 'html'?)"),
        (["steady", "--out", "{folder}"], "a folder; give the file, as in --out"),
        (
            ["steady", "--out", "/proc/nowhere/report.html"],
            "--out /proc/nowhere/report.html: there is no folder /proc/nowhere; make it first",
        ),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    filled_store: object,
    writer: Writer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    before = sorted(tmp_path.iterdir())
    given = [word.format(folder=tmp_path) for word in words]
    assert main(["report", *given, "--store", str(writer.store.folder)]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_store_has_nothing_to_report(writer: Writer) -> None:
    with pytest.raises(ConfigError, match="holds no run yet"):
        report(writer.store, ["last"])
