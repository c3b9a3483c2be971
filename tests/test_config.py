"""Configs: what is laid over what, and every mistake in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.config import CONFIGS, Config, describe, experiment_names, read_yaml, resolve, resolve_trainer
from experiments.errors import ConfigError
from experiments.run import run
from experiments.store.location import Store, locate
from tests.gpt2.small import inputs
from tests.test_cli import NET

TWO = f"{Path(__file__).parent / 'user_net.py'}:TwoNets"


def written(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


# ---- what is laid over what -----------------------------------------------------------------------------------------


def test_the_command_line_wins_over_config_files_over_the_yaml_over_the_signature(tmp_path: Path) -> None:
    target = written(tmp_path, "model: {class: vae, latent_dim: 3, hidden_dim: 30, beta: 3.0}\n")
    over = written(tmp_path, "model: {hidden_dim: 40, beta: 4.0}\n", "over.yaml")
    model = resolve(target, ["--config", over, "--model.beta", "5"]).values["model"]
    assert (model["kl"], model["latent_dim"], model["hidden_dim"], model["beta"]) == ("closed_form", 3, 40, 5.0)


def test_command_line_words_win_over_python_overrides() -> None:
    config = resolve("vae", ["--seed", "2"], {"seed": 1, "model.latent_dim": 7})
    assert (config.values["seed"], config.values["model"]["latent_dim"]) == (2, 7)


def test_choosing_another_class_drops_the_settings_of_that_part_and_says_so() -> None:
    config = resolve("vae", ["--optimizer", "torch.SGD"])
    assert config.values["optimizer"]["lr"] == 0.001
    assert config.notes == ("optimizer is now torch.SGD: the settings of torch.Adam are dropped (lr)",)


def test_choosing_the_same_class_drops_nothing() -> None:
    config = resolve("vae", ["--data", "digits"])
    assert config.notes == ()
    assert config.values["data"]["batch_size"] == 128


def test_a_model_that_builds_its_own_optimizer_drops_the_yamls_and_says_so() -> None:
    config = resolve("vae", ["--model", NET])
    assert {"optimizer", "schedule"} & {*config.values} == set()
    assert any("builds its own optimizer" in note for note in config.notes)


def test_a_model_that_builds_its_own_optimizer_accepts_none() -> None:
    with pytest.raises(ConfigError, match="optimizer: DropoutNet has no parameter 'optimizer'"):
        resolve(NET, ["--optimizer", "torch.SGD"])
    with pytest.raises(ConfigError, match=r"unknown option '--optimizer\.lr'"):
        resolve(NET, ["--optimizer.lr", "1"])


def test_a_critic_optimizer_without_class_is_the_optimizer_with_its_own_keys_laid_over() -> None:
    words = ["--optimizer", "torch.SGD", "--optimizer.lr", "0.3", "--optimizer.momentum", "0.9"]
    values = resolve(TWO, [*words, "--critic_optimizer.lr", "0.1"]).values
    assert values["critic_optimizer"] == {**values["optimizer"], "lr": 0.1}
    assert resolve(TWO, words).values["critic_optimizer"] == values["optimizer"]


def test_a_critic_optimizer_with_a_class_stands_alone() -> None:
    values = resolve(TWO, ["--optimizer.lr", "0.3", "--critic_optimizer", "torch.RMSprop"]).values
    assert values["critic_optimizer"]["class"] == "torch.RMSprop"
    assert values["critic_optimizer"]["lr"] == 0.01


def test_a_module_with_two_optimizers_runs(store: Store) -> None:
    config = resolve(TWO, ["--critic_optimizer.lr", "0.1", "--trainer.max_steps", "2"])
    assert run(config, store=store).status == "FINISHED"


def test_a_bare_boolean_means_true() -> None:
    values = resolve("vae", ["--trainer.deterministic", "--optimizer.fused", "--trainer.compile=false"]).values
    assert (values["trainer"]["deterministic"], values["optimizer"]["fused"], values["trainer"]["compile"]) == (
        True,
        True,
        False,
    )


def test_a_class_is_found_beside_its_yaml(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "net.py").write_text(Path(__file__).with_name("dropout_net.py").read_text(), encoding="utf-8")
    target = written(tmp_path / "sub", 'model: {class: "../net.py:DropoutNet"}\n')
    assert resolve(target).values["model"]["class"] == f"{tmp_path / 'net.py'}:DropoutNet"


def test_the_resolved_config_is_a_file_that_resolves_to_itself(tmp_path: Path) -> None:
    words = ["--model.sigma", "null", "--optimizer.betas", "[0, 0.9]", "--trainer.max_time", "1:30:00", "--seed", "7"]
    config = resolve("vae", words)
    assert resolve(written(tmp_path, config.to_yaml())) == Config("vae", config.values)


def test_numbers_of_numpy_are_numbers() -> None:
    values = resolve("vae", overrides={"model.latent_dim": np.int64(5), "optimizer.lr": np.float32(0.5)}).values
    assert (values["model"]["latent_dim"], values["optimizer"]["lr"]) == (5, 0.5)


def test_a_number_where_text_is_wanted_is_its_text(tmp_path: Path) -> None:
    target = written(tmp_path, "name: 3\nmodel: vae\ntrainer: {max_time: 90}\n")
    config = resolve(target)
    assert (config.name, config.values["trainer"]["max_time"]) == ("3", "90")


def test_numbers_with_an_exponent_are_numbers_in_yaml(tmp_path: Path) -> None:
    assert resolve(written(tmp_path, "model: vae\noptimizer: {lr: 1e-2}\n")).values["optimizer"]["lr"] == 0.01


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    source = Path(__file__).with_name("dropout_net.py").read_text()
    path = tmp_path / "net.py"
    path.write_text(source, encoding="utf-8")
    before = resolve(f"{path}:DropoutNet").values["model"]["width"]
    path.write_text(source.replace("width: int = 16", "width: int = 8"), encoding="utf-8")
    assert (before, resolve(f"{path}:DropoutNet").values["model"]["width"]) == (16, 8)


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {class: vae\ndata: digits\n", r"mine\.yaml:2:5: expected ',' or '}'"),
        ("model:\n\tclass: vae\n", r"mine\.yaml:2:1: found character"),
        ("model: vae\nseed: 1\nseed: 2\n", r"mine\.yaml:3:1: key 'seed' stands twice"),
        ("model:\n  class: vae\n  beta: 2\n  beta: 3\n", r"mine\.yaml:4:3: key 'beta' stands twice"),
        ("? [a, b]\n: 1\n", r"mine\.yaml:1:3: a key must be text"),
        ("model: vae\n---\nmodel: vae\n", r"mine\.yaml:2:1: .*another document"),
        ("!!python/object/apply:os.getcwd []\n", r"mine\.yaml:1:1: could not determine a constructor"),
        ("- a\n", "a config maps keys to values, found a list"),
        ("hello", "a config maps keys to values, found a str"),
        ("", "no model chosen; add model: {class: vae}"),
        ("data: digits\n", "no model chosen"),
        ("modle: vae\n", r"unknown key 'modle' \(did you mean 'model'\?\); allowed: critic_optimizer, data"),
        ("3: vae\n", "unknown key '3'; allowed"),
        ("model: 3\n", r"model = 3: must map keys to values, as in model: \{class: vae\}"),
        ("model: [vae]\n", "model = .* must map keys to values"),
        ("model: {class: 3}\n", "model.class = 3: must be a name; allowed: .*vae, .*paths.*, FILE.py:Class"),
        ("model: vea\n", r"unknown name 'vea' \(did you mean 'vae'\?\)"),
        ("model: {class: vae, latnet_dim: 3}\n", r"'model.latnet_dim' \(did you mean 'model.latent_dim'\?\); allowed"),
        ("model: {class: vae, latent_dim: null}\n", "model.latent_dim = null: must be a whole number"),
        ("model: {class: vae, latent_dim: two}\n", "model.latent_dim = two: must be a whole number"),
        ("model: {class: vae, latent_dim: {a: 1}}\n", "model.latent_dim = .* must be a whole number"),
        ("model: {class: vae, network: rnn}\n", "model.network = rnn: must be one of mlp, cnn"),
        ("model: {class: vae, seed: 3}\n", r"unknown key 'model.seed'"),
        ("model: vae\nname: [a]\n", "name = .* must be text"),
        ("model: vae\nseed: null\n", "seed = null: must be a whole number"),
        ("model: vae\nseed: -1\n", "seed = -1: must lie in 0 to 4294967295"),
        ("model: vae\nthreads: 0\n", "threads = 0: must be at least 1, or null"),
        ("model: vae\noptimizer: null\n", r"optimizer = null: must map keys to values, as in optimizer: \{class"),
        ("model: vae\ntrainer: null\n", r"trainer = null: must map keys to values, as in trainer: \{max_epochs"),
        (
            "model: vae\ntrainer: {early_stopping: 3}\n",
            "early_stopping = 3: must map keys to values; its keys: monitor",
        ),
        ("model: vae\ntrainer: {early_stopping: {patince: 3}}\n", "did you mean 'trainer.early_stopping.patience'"),
        ("model: vae\ntrainer: {max_epochs: 0}\n", "trainer.max_epochs = 0: must be at least 1"),
        ("model: vae\ntrainer: {max_epochs: true}\n", "trainer.max_epochs = true: must be a whole number or null"),
        ("model: vae\noptimizer: {betas: [0.9]}\n", r"optimizer.betas = \[0.9\]: must be \[a number, a number\]"),
        ("model: vae\ncritic_optimizer: torch.SGD\n", "VAE has no parameter 'critic_optimizer'"),
    ],
)
def test_a_mistake_in_a_yaml_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_yaml_is_named_with_its_nearest_neighbour(tmp_path: Path) -> None:
    written(tmp_path, "model: vae\n")
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file or directory\) \(did you mean 'mine.yaml'"):
        read_yaml(tmp_path / "mien.yaml")


def test_a_yaml_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00m")
    with pytest.raises(ConfigError, match=r"x\.yaml: is no text in UTF-8"):
        read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.latent_dim": "x"}, "model.latent_dim = x: must be a whole number"),
        ({"model.latent_dim": 1.5}, "model.latent_dim = 1.5: must be a whole number"),
        ({"model.latent_dim": None}, "model.latent_dim = null: must be a whole number"),
        ({"model.latnet_dim": 3}, r"did you mean 'model.latent_dim'\?"),
        ({"modle.latent_dim": 3}, r"unknown key 'modle' \(did you mean 'model'\?\)"),
        ({"model": 3}, "model.class = 3: must be a name"),
        ({"trainer": 3}, "trainer = 3: must map keys to values"),
        ({"trainer.max_epochs.x": 3}, "trainer.max_epochs = .* must be a whole number or null"),
        ({"data": "images"}, "data.path: required and not given; add --data.path PATH"),
        ({"seed": 2**32}, "seed = 4294967296: must lie in 0 to"),
    ],
)
def test_a_mistake_from_python_is_named_in_one_line(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve("vae", overrides=overrides)


USER = "import pytorch_lightning as pl\n\n\nclass Net(pl.LightningModule):\n    pass\n\n\nclass Other:\n    pass\n"


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (USER, "Nte", r"net\.py has no class 'Nte' \(did you mean 'Net'\?\); it has: Net, Other"),
        (USER, "", r"net\.py has no class ''; it has: Net, Other"),
        (USER, "Other", "must be a LightningModule; write class Other"),
        ("def f(:\n", "Net", r"cannot be imported: .*net\.py:1: SyntaxError: invalid syntax"),
        ("import os\n1 / 0\n", "Net", r"cannot be imported: .*net\.py:2: ZeroDivisionError: division by zero"),
        ("raise ValueError('mine')\n", "Net", r"cannot be imported: .*net\.py:1: ValueError: mine"),
        ("import nosuchmodule\n", "Net", r"net\.py:1: ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("raise SystemExit(3)\n", "Net", r"cannot be imported: .*net\.py:1: SystemExit: 3"),
    ],
)
def test_what_is_wrong_with_a_users_file_is_named(tmp_path: Path, text: str, name: str, message: str) -> None:
    (tmp_path / "net.py").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        resolve(f"{tmp_path / 'net.py'}:{name}")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("vea", r"unknown experiment 'vea' \(did you mean 'vae'\?\); allowed: .*paths, .*vae, .*FILE.py:Class"),
        ("", "unknown experiment ''"),
        ("nosuch.py:Net", r"no file .*nosuch\.py; give the path of a Python file"),
        ("net.py", "'net.py': say which class of it, as in net.py:MyModule"),
        ("nosuch.module:Net", "no module 'nosuch.module'; give package.module:Class"),
        ("lightning_modules.vae:VEA", r"has no class 'VEA' \(did you mean 'VAE'\?\)"),
    ],
)
def test_a_target_there_is_not_is_named(target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(target)


def test_a_data_class_must_give_batches(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(USER, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data\.class = .*:Other: must have train_dataloader"):
        resolve("vae", ["--data", f"{tmp_path / 'net.py'}:Other"])


def test_only_the_trainer_of_a_module_that_exists_can_be_chosen() -> None:
    with pytest.raises(ConfigError, match="unknown option 'model'; allowed: seed, threads, trainer"):
        resolve_trainer("mine", {"model.width": 3})


# ---- the shipped experiments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", experiment_names())
def test_a_shipped_config_is_short_and_says_why_how_and_what_to_see(name: str) -> None:
    assert {"why", "run", "see"} == {*describe(name)}
    assert len((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()) < 25
    assert f"taolu run {name}" in describe(name)["run"]


@pytest.fixture(scope="module")
def shared(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store for all runs here, which share its extractor."""
    folder = tmp_path_factory.mktemp("shipped") / "mlruns"
    folder.mkdir()
    shutil.copy(template_database, folder / "mlflow.db")
    return locate(str(folder))


@pytest.mark.xdist_group("shipped configs")
@pytest.mark.parametrize("name", experiment_names())
def test_a_shipped_config_runs_for_two_steps(shared: Store, name: str, tmp_path: Path) -> None:
    result = run(resolve(name, overrides={"trainer.max_steps": 2, **inputs(name, tmp_path)}), store=shared)
    assert result.status == "FINISHED"
    assert yaml.safe_load((result.folder / "config.yaml").read_text())["name"] == name
