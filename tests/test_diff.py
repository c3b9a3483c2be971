"""What differs between two runs: every kind of it, nothing else, and how it compares with noise."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments.cli import main
from experiments.config import resolve
from experiments.diff import Change, diff, diff_lines
from experiments.errors import ConfigError
from experiments.run import run
from experiments.store.location import Store
from tests.conftest import Writer

ENVIRONMENT = {"git_commit": "a" * 40, "python": "3.11", "threads": 1, "packages": {"torch": "2.11", "numpy": "2.0"}}


def made(writer: Writer, name: str, values: list[float], lr: float = 0.1, seed: int = 0, **environment: object) -> str:
    """The id of a run of a small config that kept everything."""
    tags = {"taolu.data_digest": "d" * 64, "taolu.objective": "val/loss min"}
    tags["taolu.data_facts"] = json.dumps({"n_train": 100})
    params = {"model": "vae", "optimizer.lr": str(lr), "seed": str(seed)}
    metrics = {"val/loss": values, "time/wall_seconds": [float(len(name))]}
    run_id = writer.run(name, params=params, metrics=metrics, tags=tags)
    config = f"model: {{class: vae}}\noptimizer: {{lr: {lr}}}\nseed: {seed}\nthreads: 1\n"
    writer.file(run_id, "config.yaml", config)
    writer.file(run_id, "env.json", json.dumps({**ENVIRONMENT, **environment}))
    writer.file(run_id, "code/net.py", "width = 3\ndepth = 2\n")
    return run_id


def test_equal_runs_differ_in_nothing(writer: Writer) -> None:
    made(writer, "a", [2.0, 1.0, math.nan])
    made(writer, "bb", [2.0, 1.0, math.nan])
    found = diff(writer.store, "a", "bb")
    assert list(diff_lines(found))[1:] == [
        "no difference in config, code, packages, machine, data and metrics (3 values)"
    ]
    assert list(diff_lines(diff(writer.store, "a", "a")))[1].startswith("no difference")


def test_everything_that_differs_is_told_and_nothing_else(writer: Writer) -> None:
    made(writer, "a", [2.0, 1.0])
    other = made(
        writer, "b", [2.0, 1.5], 0.2, 1, git_commit="b" * 40, threads=2, packages={"torch": "2.12", "scipy": "1"}
    )
    writer.file(other, "code/net.py", "width = 4\ndepth = 2\n")
    writer.file(other, "git.patch", "+x\n")
    writer.client.set_tag(other, "taolu.data_facts", '{"n_train": 90}')
    writer.client.set_tag(other, "taolu.data_digest", "e" * 64)
    found = diff(writer.store, "a", "b")
    assert found.config == (Change("seed", "0", "1"), Change("optimizer.lr", "0.1", "0.2"))
    assert found.code == (
        Change("git_commit", "a" * 12, "b" * 12),
        Change("git.patch", None, "1 lines"),
        Change("code/net.py", "-1 lines", "+1 lines"),
    )
    assert found.texts == {"code/net.py": "@@ -1,2 +1,2 @@\n-width = 3\n+width = 4\n depth = 2"}
    packages = {(each.key, each.before, each.after) for each in found.packages}
    assert packages == {("torch", "2.11", "2.12"), ("numpy", "2.0", None), ("scipy", None, "1")}
    assert found.machine == (Change("threads", "1", "2"),)
    assert found.data == (Change("digest", "d" * 64, "e" * 64), Change("n_train", "100", "90"))
    [metric] = found.metrics
    assert (metric.metric, metric.before, metric.after, metric.difference, metric.noise) == (
        "val/loss",
        1,
        1.5,
        0.5,
        None,
    )
    assert (found.first_step, found.n_values) == (1, 2)
    text = "\n".join(diff_lines(found))
    assert "  val/loss  1  ->  1.5  +0.5\n" in text
    assert "noise: unknown; no other finished run of either config" in text


def test_noise_is_that_of_the_difference_between_two_repetitions_pooled_over_both_configs(writer: Writer) -> None:
    left, right = [1.0, 1.2, 0.9], [3.0, 3.3, 3.1, 2.9]
    for seed, value in enumerate(left):
        made(writer, f"left{seed}", [value], 0.1, seed)
    for seed, value in enumerate(right):
        made(writer, f"right{seed}", [value], 0.2, seed)
    made(writer, "again", [right[0]], 0.2, 0)  # a rerun is no further seed
    made(writer, "otherwise", [9.0], 0.2, 7, git_commit="c" * 40)  # other code is no repetition
    failed = made(writer, "failed", [9.0], 0.2, 8)
    writer.client.set_terminated(failed, "FAILED")
    [metric] = diff(writer.store, "left0", "right1").metrics
    assert metric.noise is not None
    pooled = (2 * np.var(left, ddof=1) + 3 * np.var(right, ddof=1)) / 5
    assert (metric.noise.n, metric.noise.of) == (7, "seeds")
    assert metric.noise.sd == pytest.approx(math.sqrt(2 * pooled))
    last = list(diff_lines(diff(writer.store, "left0", "right1")))
    assert any(f"{2.3 / metric.noise.sd:.1f} x noise {metric.noise.sd:.2g}, 7 seeds" in line for line in last)


def test_two_runs_of_one_config_are_no_measure_of_their_own_difference(writer: Writer) -> None:
    for seed, value in enumerate([1.0, 5.0]):
        made(writer, f"r{seed}", [value], seed=seed)
    assert diff(writer.store, "r0", "r1").metrics[0].noise is None
    for seed, value in enumerate([2.0, 3.0], 2):
        made(writer, f"r{seed}", [value], seed=seed)
    noise = diff(writer.store, "r0", "r1").metrics[0].noise
    assert noise is not None
    assert noise.n == 2
    assert noise.sd == pytest.approx(1.0)


def test_reruns_of_one_seed_count_where_no_config_has_two_seeds(writer: Writer) -> None:
    for i, value in enumerate([1.0, 1.5]):
        made(writer, f"r{i}", [value])
    made(writer, "other", [4.0], lr=0.3)
    noise = diff(writer.store, "r0", "other").metrics[0].noise
    assert noise is not None
    assert (noise.n, noise.of) == (2, "reruns")
    assert noise.sd == pytest.approx(0.5)


def test_a_value_only_one_run_has_is_told(writer: Writer) -> None:
    made(writer, "a", [1.0])
    run_id = made(writer, "b", [1.0])
    writer.client.log_metric(run_id, "val/more", 2.0)
    assert [(each.metric, each.before, each.after) for each in diff(writer.store, "a", "b").metrics] == [
        ("val/more", None, 2.0)
    ]


def test_a_run_is_compared_with_a_file_as_taolu_run_reads_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = f"{Path(__file__).parent / 'sweep_net.py'}:SweepNet"
    options = {"data.batch_size": 512, "trainer.max_steps": 1, "threads": 1}
    result = run(resolve(net, overrides=options), store=store)
    file = tmp_path / "mine.yaml"
    text = f"name: sweep_net\nmodel: {{class: '{net}'}}\ndata: {{batch_size: 512}}\ntrainer: {{max_steps: 1}}\n"
    file.write_text(text)
    assert list(diff_lines(diff(store, "last", str(file)))) == [
        f"{result.name} ({result.run_id[:8]}) -> {file}",
        "no difference in config",
    ]
    file.write_text(text + "seed: 3\n")
    assert main(["diff", "last", str(file), "--json", "--store", str(store.folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"] == [{"key": "seed", "before": "0", "after": "3"}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give two: a RUN, and a RUN or FILE.yaml; found nothing"),
        (["a", "b", "c"], "give two: a RUN, and a RUN or FILE.yaml; found 'a b c'"),
        (["a", "nosuch"], "no run 'nosuch'"),
        (["nosuch", "a"], "no run 'nosuch'"),
        (["mine.yaml", "a"], "mine.yaml: the run comes first, then the file: taolu diff RUN mine.yaml"),
        (["a", "nosuch.yaml"], "nosuch.yaml: cannot be read (No such file or directory)"),
        (["a", "b", "--jsn"], "unknown option '--jsn' (did you mean '--json'?)"),
    ],
)
def test_a_mistake_is_one_line(
    writer: Writer, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    writer.run("a")
    assert main(["diff", *words, "--store", str(writer.store.folder)]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_an_unknown_run_is_refused_by_name(store: Store) -> None:
    with pytest.raises(ConfigError, match="holds no run yet"):
        diff(store, "last", "last")
