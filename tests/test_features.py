"""The extractor: trained once a store and data set, a function of the data alone; or a file of the user's."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

from experiments.errors import ConfigError
from experiments.features import FILE, Extractor, FeatureNetwork, from_file, kept, train, trained_on
from experiments.signals import Interrupted
from experiments.store.location import Store, locate
from experiments.store.read import find_run, read_run, runs_table
from experiments.store.write import RunWriter, create_run
from lightning_modules.data.digits import Digits

CPU = torch.device("cpu")


def nothing() -> None:
    """No signal has come."""


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


@pytest.fixture
def asker(store: Store) -> RunWriter:
    """A run that needs an extractor."""
    writer = create_run(store, "vae", None, {})
    writer.text("env.json", "{}")
    writer.text("command.txt", "taolu run vae\n")
    return writer


@pytest.fixture(scope="module")
def trained(template_database: Path, tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> RunWriter:
    """A run whose store has an extractor of digits, for tests that change nothing of it."""
    folder = tmp_path_factory.mktemp("features") / "mlruns"
    folder.mkdir()
    shutil.copy(template_database, folder / "mlflow.db")
    writer = create_run(locate(str(folder)), "vae", None, {})
    for name in ("env.json", "command.txt"):
        writer.text(name, "{}")
    trained_on(digits, writer, lambda line: None, nothing)
    return writer


def test_it_is_trained_once_and_recorded(trained: RunWriter, digits: Digits) -> None:
    said: list[str] = []
    extractor = trained_on(digits, trained, said.append, nothing)
    assert said == []
    table = runs_table(trained.store, kinds=("features",))
    assert table["run_id"].tolist() == [extractor.facts["run_id"]]
    record = read_run(trained.store, extractor.facts["run_id"])
    assert (record.experiment, record.status, record.tags["taolu.data_digest"]) == (
        "_features",
        "FINISHED",
        digits.digest,
    )
    assert record.metrics["val/accuracy"] == extractor.facts["accuracy"] > 0.97
    assert record.params["n_train"] == "1437"
    assert record.metrics["time/cpu_seconds"] < 5
    assert (record.folder / FILE).exists()
    assert find_run(trained.store, "last") == trained.run_id  # it is no model of a person's


def test_its_features_have_mean_0_and_variance_1_over_the_training_images(trained: RunWriter, digits: Digits) -> None:
    extractor = trained_on(digits, trained, print, nothing)
    features, probabilities = extractor(digits.rows("train")[0], nothing, CPU)
    assert features.shape == (1437, 64)
    assert probabilities is not None
    assert torch.allclose(features.mean(0), torch.zeros(64), atol=1e-4)
    assert torch.allclose(features.std(0), torch.ones(64), atol=1e-4)
    assert torch.allclose(probabilities.sum(1), torch.ones(1437))


def test_a_kept_one_takes_images_of_its_own_shape_alone(trained: RunWriter, digits: Digits) -> None:
    run_id = str(trained_on(digits, trained, print, nothing).facts["run_id"])
    assert kept(trained.store, run_id, (1, 8, 8)) is not None
    assert kept(trained.store, run_id, (1, 28, 28)) is None
    assert kept(trained.store, "0" * 32, (1, 8, 8)) is None


@pytest.mark.parametrize("harm", ["damaged", pytest.param("deleted", marks=pytest.mark.slow)])
def test_one_that_is_damaged_or_deleted_is_trained_anew(
    trained: RunWriter, digits: Digits, tmp_path: Path, harm: str
) -> None:
    folder = tmp_path / "mlruns"
    shutil.copytree(trained.store.folder, folder)
    asker = RunWriter(locate(str(folder)), trained.run_id, create_run(locate(str(folder)), "x", None, {}).client)
    first = str(trained_on(digits, asker, print, nothing).facts["run_id"])
    if harm == "damaged":
        (asker.store.run_folder(first) / FILE).write_bytes(b"\x09" * 100)
    else:
        asker.client.delete_run(first)
    second = str(trained_on(digits, asker, print, nothing).facts["run_id"])
    assert first != second
    assert kept(asker.store, second, digits.shape) is not None


def test_two_that_ask_at_once_get_the_same_one(asker: RunWriter, digits: Digits) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:  # locks of one process exclude each other as those of two do
        found = list(pool.map(lambda _: trained_on(digits, asker, said.append, nothing), range(2)))
    assert found[0].facts == found[1].facts
    assert sum(line.startswith("trains an extractor on digits") for line in said) == 1


def test_a_signal_ends_the_waiting_and_the_training(asker: RunWriter, digits: Digits) -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise Interrupted(2)

    with FileLock(asker.store.folder / f".features-{digits.digest[:16]}.lock"), pytest.raises(Interrupted):
        trained_on(digits, asker, print, check)
    calls.clear()
    with pytest.raises(Interrupted):
        train(digits.rows("train"), digits.shape, 10, check)
    assert len(runs_table(asker.store, kinds=("features",))) == 0


def test_training_is_a_function_of_the_data_and_leaves_the_generators_alone(trained: RunWriter, digits: Digits) -> None:
    torch.manual_seed(5)
    before, position = torch.get_rng_state(), np.random.get_state()[2]  # type: ignore[index]
    state = train(digits.rows("train"), digits.shape, digits.n_classes, nothing)[0].state_dict()
    recorded = trained_on(digits, trained, print, nothing).network.state_dict()
    assert all(torch.equal(state[key], recorded[key]) for key in recorded)
    assert torch.equal(before, torch.get_rng_state())
    assert position == np.random.get_state()[2]  # type: ignore[index]


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (3, 16, 12), (1, 28, 28), (3, 32, 32), (3, 96, 64)])
def test_images_of_any_size_have_64_features(shape: tuple[int, int, int]) -> None:
    features, logits = FeatureNetwork(shape, 7).eval()(torch.rand(2, *shape))
    assert (features.shape, logits.shape) == ((2, 64), (2, 7))


class Pairs(nn.Module):
    """Features and logits."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1)[:, :9], x.flatten(1)[:, :3]


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_the_users_own_may_be_torchscript_or_a_class(tmp_path: Path) -> None:
    torch.jit.script(Pairs()).save(tmp_path / "own.pt")  # type: ignore[no-untyped-call]
    (tmp_path / "own.py").write_text("import torch\n\nclass Flat(torch.nn.Flatten):\n    pass\n", encoding="utf-8")
    images = torch.rand(2, 1, 8, 8)
    scripted = from_file(str(tmp_path / "own.pt"), images)
    assert (scripted.n_features, scripted.tells_classes, scripted.facts["accuracy"]) == (9, True, None)
    plain = from_file(f"{tmp_path / 'own.py'}:Flat", images)
    assert (plain.n_features, plain.tells_classes) == (64, False)
    assert isinstance(plain, Extractor)
    assert plain.facts["digest"] != scripted.facts["digest"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nosuch.pt", "no such file; give FILE.pt"),
        ("own.py:Missing", "has no class 'Missing'"),
        ("own.py:Plain", "is a Plain; must be a torch.nn.Module"),
        ("own.py:Settings", "cannot be loaded"),
        ("own.py:Wide", "does not take images of"),
        ("own.py:Grid", r"maps 2 images to \(2, 1, 8, 8\); must be \(images, features\)"),
        ("own.py", "cannot be loaded"),
    ],
)
def test_a_file_that_is_no_extractor_is_refused(tmp_path: Path, spec: str, said: str) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\n\nclass Plain:\n    pass\n\nclass Settings(torch.nn.Linear):\n    pass\n\n"
        "class Wide(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(3, 3)\n\n"
        "class Grid(torch.nn.Identity):\n    pass\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=said):
        from_file(str(tmp_path / spec), torch.rand(2, 1, 8, 8))
