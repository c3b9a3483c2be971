"""Designs: a sweep file and the command line become one checked design."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.checks import checked
from experiments.design import design_of, read_design, sweep_names
from experiments.errors import ConfigError

FILE = """
experiment: classifier
settings: {trainer.max_epochs: 1, optimizer: {class: momentum, beta: 0.5}}
space: {optimizer.lr: [0.1, 0.3]}
repeats: 2
"""


def written(folder: Path, text: str = FILE) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_is_a_design_and_is_read_back_from_what_it_writes(tmp_path: Path) -> None:
    design = read_design(written(tmp_path))
    assert (design.name, design.repeats, design.sampler.name) == ("mine", 2, "tpe")
    assert design.settings == {"trainer.max_epochs": 1, "optimizer": "momentum", "optimizer.beta": 0.5}
    assert design_of(design.plain()) == design


def test_the_command_line_stands_over_the_file(tmp_path: Path) -> None:
    given = {"grid": ["data.batch_size=16,64"], "repeats": "3", "sampler": "grid", "name": "other"}
    design = read_design(written(tmp_path), ["--trainer.max_epochs", "4", "--model", "classifier"], given)
    assert design.name == "other"
    assert design.settings["trainer.max_epochs"] == 4
    assert design.n_planned() == 2 * 2 * 3
    assert [point["seed"] for point in design.plan()] == [0] * 4 + [1] * 4 + [2] * 4


def test_a_grid_of_an_experiment_needs_no_file() -> None:
    design = read_design("vae", ["--seed", "7"], {"grid": ["optimizer.lr=.1,1e-3", "optimizer.betas=[.9,.99],[.8,.9]"]})
    assert design.name == "vae-sweep"
    assert design.plan()[1] == {"optimizer.lr": 0.1, "optimizer.betas": [0.8, 0.9], "seed": 7}
    assert design.config(design.plan()[0]).values["seed"] == 7


def test_an_experiment_lies_beside_its_sweep(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("model: vae\n")
    design = read_design(written(tmp_path, "experiment: small.yaml\nspace: {model.latent_dim: [1, 2]}\n"))
    assert design.config({"model.latent_dim": 1}).values["model"]["latent_dim"] == 1


def test_trials_take_one_thread_unless_told_otherwise() -> None:
    given = {"grid": ["optimizer.lr=.1"]}
    assert read_design("vae", [], given).config({"optimizer.lr": 0.1}).values["threads"] == 1
    assert read_design("vae", ["--threads", "2"], given).config({"optimizer.lr": 0.1}).values["threads"] == 2


@pytest.mark.parametrize(
    ("target", "given", "options", "message"),
    [
        ("sgd_bach_lr", {}, [], "unknown sweep 'sgd_bach_lr'"),
        ("vae", {}, [], "is an experiment, no sweep"),
        ("vae", {"grid": ["optimizer.lr"]}, [], "write KEY=VALUE,VALUE"),
        ("vae", {"grid": ["optimizer.lr="]}, [], "has no values"),
        (
            "vae",
            {"grid": ["optimizer.lr=.1"], "n_trials": "0"},
            [],
            "n_trials = 0: must be a whole number of at least 1",
        ),
        ("vae", {"grid": ["optimizer.lr=.1"], "repeats": "-1"}, [], "repeats = -1"),
        ("vae", {"grid": ["optimizer.lr=.1"]}, ["--optimizer.lr", ".3"], "is swept, and set for all trials too"),
        ("vae", {"grid": ["seed=1,2"], "repeats": "2"}, [], "seed is in the space already"),
        ("vae", {"grid": ["optimizer.lr=.1"], "name": "a/b"}, [], "make the name of a study"),
    ],
)
def test_what_is_no_design_is_refused_in_a_line(
    target: str, given: dict[str, Any], options: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        read_design(target, options, given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spaces: {optimizer.lr: [1]}\nexperiment: vae", "did you mean 'space'?"),
        ("space: {optimizer.lr: [1]}", "names no experiment"),
        ("experiment: vae\nspace: {optimizer.lr: [1]}\nkeep_best: -1", "keep_best = -1"),
        ("experiment: vae\nspace: {optimizer.lr: [1]}\nsampler: [tpe]", "must be a name, or {class: NAME"),
        ("experiment: vae\nspace: {optimizer.lr: [1]}\nobjectives: {metric: a, reduce: worst}", "one of last, best"),
        ("experiment: vae\nspace: {optimizer.lr: [1]}\nobjectives: [{metric: a}, {metric: a}]", "stands twice"),
        (
            "experiment: vae\nspace: {optimizer.lr: [1]}\npruner: median\nobjectives: [val/elbo, val/kl]",
            "needs a single objective; found 2",
        ),
    ],
)
def test_a_file_with_a_mistake_is_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        read_design(written(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ("optimizer.lrr=.1", [], "did you mean 'optimizer.lr'?"),
        ("optimizer.lr=.1,-1", [], "optimizer.lr = -1"),
        ("data.batch_size=16,5000", [], "5000"),
        ("optimizer=momentum,momentun", [], "did you mean 'momentum'?"),
        ("optimizer.lr=.1", ["--trainer.devices", "2"], "a trial runs in one process"),
    ],
)
def test_every_cell_is_looked_at_before_the_first_trial(grid: str, options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        checked(read_design("classifier", options, {"grid": [grid]}))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", sweep_names())
def test_a_shipped_sweep_is_short_and_every_cell_of_it_can_be_built(name: str) -> None:
    from experiments.config import describe
    from experiments.design import SWEEPS

    text = (SWEEPS / f"{name}.yaml").read_text()
    assert len(text.splitlines()) < 25
    assert set(describe(name, SWEEPS)) == {"why", "run", "see"}
    design = read_design(name)
    for point in design.space.samples():
        design.config(point)
