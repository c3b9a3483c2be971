import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.written_images import X_TEST, Y_TEST, X, Y, load, parquet

SCRIPT = """
import shutil, sys
from pathlib import Path
import datasets
from lightning_modules.data.hub import CIFAR10, MNIST

folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
files = {"train": str(folder / "train.parquet"), "test": str(folder / "test.parquet")}
parts = datasets.load_dataset("parquet", data_files=files, cache_dir=str(cache / "built"))
mnist = cache / "ylecun___mnist/default/0.0.0/0123"  # where a download of MNIST would lie
shutil.copytree(Path(parts["train"].cache_files[0]["filename"]).parent, mnist)
for file in mnist.glob("parquet-*"):
    file.rename(file.with_name(file.name.replace("parquet-", "mnist-")))

images = MNIST(batch_size=4, cache_dir=str(cache))
print(images.name, images.n_train, images.n_val, images.source, images.digest)
try:
    CIFAR10(cache_dir=str(cache))
except ValueError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    parquet(folder / "train.parquet", X, Y)
    parquet(folder / "test.parquet", X_TEST, Y_TEST)
    return folder


@pytest.fixture(scope="module")
def printed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the script prints in an interpreter of its own: the library reads HF_HUB_OFFLINE when imported."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(home / "cache")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_set_in_the_librarys_cache_loads_offline_as_its_parquet_files_do(printed: list[str], folder: Path) -> None:
    assert printed[0] == f"mnist 20 8 https://huggingface.co/datasets/ylecun/mnist {load(folder).digest}"


def test_a_set_that_cannot_be_had_offline_says_what_to_fetch_and_how_to_use_it(printed: list[str]) -> None:
    assert printed[1:] == [
        (
            "uoft-cs/cifar10 could not be loaded from the Hugging Face Hub or its cache (Couldn't reach"
            " 'uoft-cs/cifar10' on the Hub (OfflineModeIsEnabled)); fetch the train and test parquet files of"
            " https://huggingface.co/datasets/uoft-cs/cifar10 on another machine, put them into one folder and give"
            " --data images --data.path FOLDER"
        )
    ]


def test_the_parquet_files_of_the_hub_are_read_as_images(tmp_path: Path) -> None:
    photographs = np.random.default_rng(1).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
    parquet(tmp_path / "set/plain_text/train-00000-of-00001.parquet", photographs, Y, image="img")
    parquet(tmp_path / "set/plain_text/test-00000-of-00001.parquet", photographs[:8], Y[:8], image="img")
    images = load(tmp_path / "set")
    assert (images.shape, images.n_train, images.n_val) == ((3, 6, 6), 20, 8)
