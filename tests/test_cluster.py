"""Mining on a Dask cluster of two workers, and sources behind addresses: the same to the bit as on one machine."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from experiments import cluster
from experiments.errors import ConfigError
from experiments.remote import here
from experiments.store.location import Store
from mining.ngrams import count
from mining.partitions import mine_partitions
from mining.quest import Quest
from tests.mining.test_ngrams import fail, same
from tests.test_cli import Said, Taolu, refused, taolu  # noqa: F401 (a fixture)

pytestmark = pytest.mark.xdist_group("cluster")
distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'taolu[dask]'")

ROOT = Path(__file__).parents[1]
LETTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张"
TEXT = "\n".join("".join(random.Random(at).choices(LETTERS, k=60)) for at in range(400))


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """A cluster of two worker processes."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local:
        yield local


def pids(local: Any) -> set[int]:
    """Of the cluster's workers."""
    return {nanny.pid for nanny in local.workers.values()}


def killing(spread: cluster.Map, local: Any) -> cluster.Map:
    """The map, with a worker killed in the middle of the second call of it."""
    calls: list[None] = []

    def over(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        found = spread(function, items)
        calls.append(None)
        if len(calls) == 2:
            yield next(found)
            os.kill(min(pids(local)), signal.SIGKILL)
        yield from found

    return over


def test_ngrams_are_those_of_one_machine_also_when_a_worker_is_killed(local: Any, tmp_path: Path) -> None:
    before = pids(local)
    with cluster.cluster(local.scheduler_address, tmp_path / "parts") as spread:
        settings: dict[str, Any] = {"min_count": 2, "memory": 0.05, "folder": tmp_path / "parts"}
        found = count(TEXT, 4, map=killing(spread, local), **settings)
    same(found, count(TEXT, 4, min_count=2))
    assert pids(local) != before


def test_itemsets_are_those_of_one_machine_also_when_a_worker_is_killed(local: Any, tmp_path: Path) -> None:
    def mined(name: str, spread: cluster.Map) -> list[list[int]]:
        baskets = [Quest(n_items=80, seed=1).baskets(2000)]
        found = mine_partitions(baskets, 0.02, tmp_path / name, part_size=200, map=spread)
        return [array.tolist() for array in (found.items, found.lengths, found.counts)]

    before = pids(local)
    with cluster.cluster(local.scheduler_address, tmp_path) as spread:
        found = mined("cluster", killing(spread, local))
    assert found == mined("alone", map)
    assert len(found[1]) > 50
    assert pids(local) != before


def test_the_verbs_give_the_same_tables(taolu: Taolu, local: Any, store: Store, tmp_path: Path) -> None:  # noqa: F811
    text, baskets = tmp_path / "text.txt", tmp_path / "baskets.csv"
    text.write_text(TEXT, encoding="utf-8")
    baskets.write_text("tea,milk\ntea,bread\nmilk,tea\n" * 40)
    words = ["mine", "lexicon", str(text), "--min_pmi", "0.1"]
    rules = ["mine", "apriori", str(baskets), "--min_support", "0.1", "--part_size", "30"]
    for verb, more in ((words, ["--memory", "0.05"]), (rules, [])):
        alone, spread = (
            tables(taolu(*verb, *more, "--parts", str(tmp_path / f"{verb[1]}{n}"), *where, "--json"), store)
            for n, where in enumerate(([], ["--scheduler", local.scheduler_address]))
        )
        assert alone == spread
        assert all(alone.values())


def tables(said: Said, store: Store) -> dict[str, bytes]:
    """The bytes of a run's Parquet tables."""
    folder = store.run_folder(said.json["run_id"])
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_a_map_over_a_cluster_names_what_failed(local: Any) -> None:
    with cluster.cluster(local.scheduler_address) as spread:
        assert list(spread(fail, [1, 0, 5])) == [10, 0, 50]
        with pytest.raises(RuntimeError, match="a worker failed over 2: KeyError: 'no such thing'"):
            list(spread(fail, [1, 2]))
        with pytest.raises(ValueError, match=r"^one line for the user$"):
            list(spread(fail, [3]))
        with pytest.raises(RuntimeError, match="every worker died over 4; if memory ran out, give them more"):
            list(spread(fail, [4]))


def test_clusters_that_cannot_do_it_are_refused(tmp_path: Path) -> None:
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as local:
        address = local.scheduler_address
        with pytest.raises(ConfigError, match="has no workers; start some by `dask worker"), cluster.cluster(address):
            pass
        for package in ("mining", "experiments", "lightning_modules"):
            shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        with (tmp_path / "mining" / "ngrams.py").open("a") as file:
            file.write("# changed\n")
        words = [sys.executable, "-m", "dask", "worker", address, "--no-nanny", "--no-dashboard"]
        worker = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, stderr=-3)
        try:
            local.wait_for_workers(1, timeout=60)
            with pytest.raises(ConfigError, match=r"has the miners' code .*; install the same on every worker"):
                cluster.cluster(address).__enter__()
        finally:
            worker.kill()
            worker.wait()
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers there .*; start one by `dask scheduler`"):
        cluster.cluster(address).__enter__()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--scheduler tcp://127.0.0.1:1", "--scheduler: needs --parts DIR, a folder that this machine and all workers"),
        ("--scheduler 127.0.0.1 --parts p", "--scheduler 127.0.0.1: must be as tcp://HOST:PORT"),
        ("--scheduler tcp://a:x --parts p", "--scheduler tcp://a:x: must be as tcp://HOST:PORT"),
        ("--scheduler tcp://127.0.0.1:1 --parts p --workers 2", "--scheduler and --workers: give one"),
        ("--scheduler tcp://127.0.0.1:1 --parts {p}", "no Dask scheduler answers there"),
    ],
)
@pytest.mark.parametrize("miner", ["lexicon pydoc", "apriori stdlib --min_support 9 --min_confidence 0.5"])
def test_mistakes_are_refused_before_there_is_a_run(
    taolu: Taolu,  # noqa: F811
    store: Store,
    tmp_path: Path,
    miner: str,
    words: str,
    message: str,
) -> None:
    said = taolu("mine", *miner.split(), *words.format(p=tmp_path / "p").split())
    assert message in refused(said)
    assert not (store.folder / "artifacts").exists()


# ---- sources behind addresses ---------------------------------------------------------------------------------------


@pytest.fixture
def bucket() -> str:
    """An object store of this process with texts and baskets."""
    system = fsspec.filesystem("memory")
    system.pipe({"/bucket/texts/a.txt": TEXT.encode(), "/bucket/texts/deep/b.txt": "天地天地".encode()})
    system.pipe("/bucket/baskets.csv", b"tea,milk\ntea,bread\nmilk,tea\n")
    return "memory://bucket"


def test_texts_and_baskets_behind_addresses_are_read_as_files_are(
    taolu: Taolu,  # noqa: F811
    store: Store,
    bucket: str,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text(TEXT, encoding="utf-8")
    (folder / "deep" / "b.txt").write_text("天地天地", encoding="utf-8")
    near, far = (taolu("mine", "lexicon", place, "--json") for place in (str(folder), f"{bucket}/texts"))
    assert tables(near, store) == tables(far, store)
    assert near.json["data"]["digest"] == far.json["data"]["digest"]
    assert far.json["data"]["sources"] == [f"{bucket}/texts"]
    starred = taolu("mine", "lexicon", f"{bucket}/texts/*.txt", "--json").json
    assert starred["characters"] == len(TEXT)
    rules = taolu("mine", "apriori", f"{bucket}/baskets.csv", "--min_support", "2", "--json").json
    assert (rules["data"]["baskets"], rules["itemsets"]) == (3, 3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("memory://bucket/none.txt", "memory://bucket/none.txt: no such file or folder; stars match"),
        ("nothing://bucket/a.txt", "nothing://bucket/a.txt: Protocol not known: nothing"),
        ("gs://bucket/a.txt", "gs://bucket/a.txt: Please install gcsfs"),
    ],
)
def test_an_address_that_gives_nothing_is_refused(taolu: Taolu, source: str, message: str) -> None:  # noqa: F811
    for miner in ("lexicon", "apriori"):
        assert message in refused(taolu("mine", miner, source))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("broken.txt", "memory://bucket/broken.txt: byte 0 is not UTF-8"),
        ("*.dat", "memory://bucket/*.dat: "),
        ("none", "memory://bucket/none: "),
    ],
)
def test_what_is_wrong_with_a_copy_is_said_of_its_address(
    taolu: Taolu,  # noqa: F811
    bucket: str,
    source: str,
    message: str,
) -> None:
    files = {"broken.txt": b"\xff\xff\xff", "a.dat": b"\xff\xff\xff", "b.dat": b"", "none/empty.txt": b""}
    fsspec.filesystem("memory").pipe({f"/bucket/{name}": content for name, content in files.items()})
    for miner in ("lexicon", "apriori"):
        said = refused(taolu("mine", miner, f"{bucket}/{source}"))
        assert message in said
        assert "taolu-sources" not in said


def test_what_would_lie_outside_of_its_folder_is_refused(bucket: str) -> None:
    fsspec.filesystem("memory").store["/outside/../evil.txt"] = fsspec.filesystem("memory").store["/bucket/baskets.csv"]
    with pytest.raises(ConfigError, match="which would lie outside"), here(["memory://outside"]):
        pass
