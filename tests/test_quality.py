"""Quality within runs, sweeps and evaluations: which numbers, when, and that nothing else changes by them."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import taolu
from experiments.checks import recorded_metrics
from experiments.cli import main
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.evaluate import evaluate
from experiments.features import Extractor
from experiments.judge import Judge, names_of
from experiments.quality import evaluated, judged_only, plan
from experiments.resume import resume
from experiments.run import Label, Parent, Result, run
from experiments.store.location import Store, locate
from experiments.store.read import history, read_run, runs_table
from experiments.trainer import BY_FEATURES, QUALITIES, Quality
from lightning_modules.data.digits import Digits
from lightning_modules.vae import VAE
from tests.dropout_net import DropoutNet

HERE = Path(__file__).parent
SETTINGS = {"data.batch_size": 256, "trainer.max_epochs": 2, "threads": 1}
EVERYTHING = {metric for name in QUALITIES for metric in names_of(name)}
pytestmark = pytest.mark.xdist_group("quality")  # one store, one extractor, one run with everything


@pytest.fixture(scope="module")
def store(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One for all tests here, which share its extractor."""
    folder = tmp_path_factory.mktemp("quality") / "mlruns"
    folder.mkdir()
    shutil.copy(template_database, folder / "mlflow.db")
    return locate(str(folder))


@pytest.fixture(scope="module")
def judged(store: Store) -> Result:
    """A run with everything."""
    return start(store)


def start(store: Store, options: dict[str, Any] | None = None, **more: Any) -> Result:
    return run(resolve("vae", overrides={**SETTINGS, **(options or {})}), store=store, **more)


def fitted(store: Store, module: Any, data: Any, said: list[str] | None = None, **trainer: Any) -> Result:
    say = print if said is None else said.append
    options = {"max_epochs": 1, **trainer}
    return taolu.fit(module, data, name="own", trainer=options, threads=1, store=str(store.folder), say=say)


def qualities(result: Result) -> set[str]:
    return {*result.metrics} & EVERYTHING


def steps(store: Store, result: Result, key: str) -> list[int]:
    return history(store, result.run_id, [key])["step"].tolist()


def weights(result: Result) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(result.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


class Own(VAE):
    """A VAE for digits, in pieces that tests replace."""

    def __init__(self) -> None:
        super().__init__(shape=(1, 8, 8))

    def pictures(self) -> dict[str, Tensor]:
        return {}


class Misshapen(Own):
    """Samples that are no images."""

    def sample(self, n: int, seed: int = 0) -> Tensor:
        return torch.zeros(n, 3)


class Broken(Own):
    """Samples that are not finite."""

    def sample(self, n: int, seed: int = 0) -> Tensor:
        return torch.full((n, 1, 8, 8), math.nan)


class Repeating(Own):
    """Samples that are given."""

    images: Tensor

    def sample(self, n: int, seed: int = 0) -> Tensor:
        return self.images[:n]


class Interrupting(Own):
    """Sends its process a signal while it is judged, once."""

    is_sent = False

    def sample(self, n: int, seed: int = 0) -> Tensor:
        assert not self.training
        if not Interrupting.is_sent:
            Interrupting.is_sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return super().sample(n, seed)


class Foreign(DropoutNet):
    """`sample` and `nll` in other meanings."""

    def sample(self, temperature: float) -> Tensor:
        raise AssertionError

    def nll(self, batch: Any) -> Tensor:
        raise AssertionError


def test_a_run_is_judged_once_at_its_end_and_says_by_what(store: Store, judged: Result) -> None:
    assert qualities(judged) == EVERYTHING
    assert {key: steps(store, judged, key) for key in ("val/fid", "val/nll", "val/elbo")} == {
        "val/fid": [9],
        "val/nll": [9],
        "val/elbo": [4, 9],
    }
    assert (judged.metrics["val/n_real"], judged.metrics["val/n_fake"], judged.metrics["val/n_nll"]) == (360, 360, 250)
    assert "time/quality_seconds" in judged.metrics
    record = read_run(store, judged.run_id)
    facts = json.loads(record.tags["taolu.extractor"])
    assert facts["digest"] == record.tags["taolu.data_digest"]
    assert facts["accuracy"] > 0.97
    assert record.tags["taolu.uses"] == facts["run_id"]


def test_the_likelihood_is_the_modules_own(store: Store, judged: Result) -> None:
    x, y = (rows[:250] for rows in Digits().rows("validation"))
    module: Any = taolu.load(judged.run_id, checkpoint="last", store=str(store.folder))
    found = module.nll((x, y), 100, seed=0)
    assert judged.metrics["val/nll"] == pytest.approx(float(found.nll.mean()), rel=1e-6)
    assert judged.metrics["val/nll_se"] == pytest.approx(found.summary().standard_error, rel=1e-5)
    assert judged.metrics["val/ess_fraction"] == pytest.approx(float(found.ess_fraction.mean()), rel=1e-6)


def test_weights_and_validation_do_not_depend_on_being_judged(store: Store, judged: Result) -> None:
    often = start(store, {"trainer.quality_every": 1})
    never = start(store, {"trainer.quality.metrics": []})
    assert steps(store, often, "val/fid") == [4, 9]
    assert (qualities(never), "time/quality_seconds" in never.metrics) == (set(), False)
    for other in (often, never):
        assert all(torch.equal(weights(judged)[key], value) for key, value in weights(other).items())
        assert other.metrics["val/elbo"] == judged.metrics["val/elbo"]
    assert all(often.metrics[key] == judged.metrics[key] for key in EVERYTHING)


def test_a_resumed_run_ends_with_the_same_numbers(store: Store, judged: Result) -> None:
    short = start(store, {"trainer.max_epochs": 1})
    assert steps(store, short, "val/fid") == [4]
    longer = resume(short.run_id, overrides={"trainer.max_epochs": 2}, store=store)
    assert steps(store, longer, "val/fid") == [4, 9]
    assert all(longer.metrics[key] == judged.metrics[key] for key in EVERYTHING)


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"max_steps": 3, "limit_val_batches": 0}, [2]),
        ({"max_epochs": 5, "quality_every": 2, "val_check_interval": 2}, [9, 19, 24]),
    ],
)
def test_it_is_judged_at_the_end_whatever_ends_it(store: Store, options: dict[str, Any], at: list[int]) -> None:
    result = start(store, {"trainer.quality.metrics": ["fid"], **{f"trainer.{k}": v for k, v in options.items()}})
    assert (result.status, steps(store, result, "val/fid")) == ("FINISHED", at)


def test_an_evaluation_repeats_the_numbers_asked_for(store: Store, judged: Result) -> None:
    some = evaluate(judged.run_id, checkpoint="last", metrics=["fid", "nll"], store=store)
    assert {key for key in some.metrics if key.startswith("val/")} == {*names_of("fid"), *names_of("nll")}
    assert all(some.metrics[key] == judged.metrics[key] for key in (*names_of("fid"), *names_of("nll")))


def test_an_evaluation_on_other_data_keeps_the_runs_extractor(store: Store, judged: Result, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", x_train=pixels, y_train=np.arange(200) % 10)
    options = ["--data", "images", "--data.path", str(tmp_path / "noise.npz"), "--data.validation_fraction", "0.5"]
    other = evaluate(judged.run_id, options, checkpoint="last", metrics=["fid"], store=store)
    assert (other.status, other.metrics["val/n_real"]) == ("FINISHED", 100)
    tags = [read_run(store, each.run_id).tags["taolu.extractor"] for each in (judged, other)]
    assert tags[0] == tags[1]


def test_one_of_many_runs_is_judged_only_by_what_it_is_there_for(store: Store, judged: Result) -> None:
    config = resolve("vae", overrides=SETTINGS)
    assert judged_only(config, ("val/kid_se", "val/elbo")).values["trainer"]["quality"]["metrics"] == ["kid"]
    trial = Label(kind="trial")
    assert qualities(start(store, {"trainer.max_epochs": 1}, label=trial)) == set()
    by_fid = Parent(judged.run_id, judged.folder, objectives=("val/fid",))
    assert qualities(start(store, {"trainer.max_epochs": 1}, label=trial, parent=by_fid)) == {*names_of("fid")}


def test_a_sweep_knows_the_qualities_as_objectives() -> None:
    assert {"val/fid", "val/nll", "val/elbo"} <= {*recorded_metrics(resolve("vae", overrides=SETTINGS))}


def test_modules_without_samples_or_likelihood_are_left_alone(store: Store) -> None:
    before = len(runs_table(store, kinds=("features",)))
    said: list[str] = []
    result = fitted(store, Foreign(), Digits(batch_size=256), said)
    assert (result.status, qualities(result)) == ("FINISHED", set())
    assert not [line for line in said if line.startswith(("quality", "trains", "extractor"))]
    assert len(runs_table(store, kinds=("features",))) == before


def test_samples_that_are_no_images_do_not_end_a_run(store: Store) -> None:
    said: list[str] = []
    result = fitted(store, Misshapen(), Digits(batch_size=256), said, max_epochs=2, quality_every=1)
    assert (result.status, qualities(result)) == ("FINISHED", {*names_of("nll")})
    told = "quality left out: ValueError: sample(360, seed) gave shape (360, 3): must be (360, 1, 8, 8), as the data"
    assert sum(line.startswith(told) for line in said) == 1


def judge(said: list[str], metrics: tuple[str, ...] | None = None) -> Judge:
    """Of pixels as they are."""
    extractor = Extractor(torch.nn.Flatten(), {})
    return Judge(QUALITIES, Quality(metrics, nll_samples=2), extractor, 0, lambda: None, said.append)


def test_samples_that_are_not_finite_are_no_number() -> None:
    said: list[str] = []
    images = Digits().rows("validation")
    found = judge(said).values(Broken().eval(), lambda most: images)
    names = {name.removeprefix("val/") for name in EVERYTHING}
    assert {name for name, value in found.items() if math.isnan(value)} == names - {*["n_real", "n_fake", "n_nll"]} - {
        "nll",
        "nll_se",
        "ess_fraction",
    }
    assert said[0] == "quality: Broken.sample gave NaN or infinite pixels"


def test_a_quality_asked_for_by_name_raises_what_it_raises() -> None:
    images = Digits().rows("validation")
    with pytest.raises(ValueError, match="must be"):
        judge([], ("fid",)).values(Misshapen().eval(), lambda most: images)


@pytest.mark.slow
def test_images_without_labels_are_judged_by_what_needs_none(store: Store) -> None:
    said: list[str] = []
    images = DataLoader(TensorDataset(torch.rand(120, 1, 8, 8)), batch_size=60)
    result = fitted(store, Own(), (images, images), said)
    assert qualities(result) == {*names_of("sliced_wasserstein"), *names_of("nll")}
    told = f"quality without {', '.join(BY_FEATURES)}: these data have no labels to train an extractor by; give"
    assert sum(line.startswith(told) for line in said) == 1


@pytest.mark.slow
def test_a_users_extractor_takes_the_place_of_ours(store: Store, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\n\nclass Rows(torch.nn.Module):\n    def forward(self, x):\n        return x.mean(3)[:, 0]\n",
        encoding="utf-8",
    )
    result = start(store, {"trainer.quality.extractor": f"{tmp_path / 'own.py'}:Rows"})
    assert qualities(result) == EVERYTHING - {"val/is"}
    facts = json.loads(read_run(store, result.run_id).tags["taolu.extractor"])
    assert (facts["file"], facts["accuracy"]) == (str(tmp_path / "own.py"), None)


def test_a_signal_ends_a_run_that_is_being_judged_and_resume_judges_it(store: Store) -> None:
    Interrupting.is_sent = False
    data = Digits(batch_size=256)
    killed = fitted(store, Interrupting(), data)
    assert (killed.status, killed.exit_status, qualities(killed)) == ("KILLED", 143, set())
    again = taolu.fit(Interrupting(), data, resume=killed.run_id, store=str(store.folder), say=print)
    assert (again.status, qualities(again), steps(store, again, "val/fid")) == ("FINISHED", EVERYTHING, [4])


def test_looking_ahead_trains_no_extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["check", "vae"], ["run", "vae", "--dry_run"]):
        assert main([*words, "--store", str(tmp_path / "mlruns"), "--threads", "1"]) == 0
    assert not list((tmp_path / "mlruns").glob(".features*"))


def test_each_part_of_a_module_gets_its_mode_back() -> None:
    module = Own().train()
    module.encoder.eval()
    with evaluated(module):
        assert not any(part.training for part in module.modules())
    assert (module.training, module.encoder.training, module.decoder.training) == (True, False, True)


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("classifier", {"quality.metrics": ["fid"]}, r"metrics: fid: Classifier has no sample\(n, seed\)"),
        ("classifier", {"quality.metrics": ["nll"]}, r"metrics: nll: Classifier has no nll\(batch, n_samples, seed"),
        ("vae", {"quality.metrics": ["fidd"]}, r"unknown metric 'fidd' \(did you mean 'fid'\?\); allowed: fid, kid"),
        ("vae", {"quality.metrics": ["fid"], "quality.n_samples": 64}, "fid: 64 images to compare, more than 64"),
        ("vae", {"quality.metrics": ["recall"], "quality.n_samples": 5}, "recall: 5 images to compare, more than 5"),
        ("vae", {"quality.metrics": ["kid"], "quality.kid_subset": 361}, "kid_subset = 361 is more than the 360"),
        ("vae", {"quality.n_samples": 1}, "n_samples = 1: must be at least 2"),
        ("vae", {"quality.nll_samples": 0}, "nll_samples = 0: must be at least 1"),
        ("vae", {"quality_every": 0}, "quality_every = 0: must be at least 1"),
        ("vae", {"quality.extractor": "nosuch.pt"}, "extractor = nosuch.pt: no such file"),
        ("vae", {"early_stopping.monitor": "val/fid"}, "val/fid: is not there after every validation; give --trainer"),
    ],
)
def test_what_is_asked_for_and_cannot_be_is_refused_before_there_is_a_run(
    store: Store, target: str, options: dict[str, Any], said: str
) -> None:
    before = len(runs_table(store))
    with pytest.raises(ConfigError, match=said):
        run(resolve(target, overrides={f"trainer.{key}": value for key, value in options.items()}), store=store)
    assert len(runs_table(store)) == before


def test_an_autoencoder_has_no_likelihood_to_compute() -> None:
    planned = plan(VAE(shape=(1, 8, 8), loss="autoencoder"), Digits(), Quality())
    assert {*QUALITIES} - {*planned.names} == {"nll"}
    assert planned.notes == ()


@pytest.mark.slow
def test_digits_with_more_noise_are_farther_from_digits(store: Store) -> None:
    data = Digits()
    images = data.rows("train")[0][:360]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for level in (0.0, 0.1, 0.2, 0.4):
        module = Repeating()
        module.images = (images + level * noise).clamp(0, 1)
        found.append(fitted(store, module, data).metrics)
    assert [each["val/fid"] for each in found] == sorted(each["val/fid"] for each in found)
    assert [each["val/coverage"] for each in found] == sorted((each["val/coverage"] for each in found), reverse=True)
