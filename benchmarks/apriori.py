"""Frequent itemsets and rules beside their peers: CPU seconds, and the peak of memory, of a fresh process a cell.

Run: python benchmarks/apriori.py [FOLDER of .dat or .csv baskets [PEER,PEER]]; without a folder it draws two sets.
Every miner is given the same Python list of lists and asked for counts; taolu answers in arrays, others as they do.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from measure import machine, median, versions

HERE = Path(__file__).resolve()
RESULTS = HERE.parent / "results" / "apriori"
REPEATS, ENOUGH, PATIENCE = 5, 5.0, 120  # runs of a cell, CPU seconds after which they are enough, and of a process
MINERS = ("taolu", "taolu-numba", "pyfim", "rusket", "mlxtend", "efficient")
SUPPORTS = {  # of well-known sets; others are mined at the shares of DEFAULT
    "retail": (0.01, 0.001, 0.0002, 0.0001),
    "T10I4D100K": (0.01, 0.001, 0.0001),
    "chess": (0.8, 0.5),
    "mushroom": (0.3, 0.1),
    "groceries": (0.01, 0.001, 0.0003),
    "sparse": (0.01, 0.001, 0.0005),
    "dense": (0.6, 0.45),
}
DEFAULT = (0.1, 0.01)
SLOW = {"mlxtend": 0.0009, "efficient": 0.0009}  # these peers are not asked for shares below
RULES = {"chess": (0.8, 0.8), "mushroom": (0.3, 0.5), "groceries": (0.001, 0.5), "dense": (0.6, 0.8)}
Rows = list[list[Any]]


def drawn(name: str) -> Rows:
    """Baskets drawn with a fixed seed: few of many items, or most of few."""
    rng = np.random.default_rng(0)
    if name == "dense":
        groups = rng.random((6, 40)) < 0.75
        has = groups[rng.integers(0, 6, 4000)] ^ (rng.random((4000, 40)) < 0.12)
        return [np.flatnonzero(row).tolist() for row in has]
    weights = 1 / np.arange(1, 2001) ** 0.8
    sizes = rng.poisson(9, 60_000) + 1
    habits = [rng.choice(2000, 4, False, weights / weights.sum()) for _ in range(400)]
    rows = []
    for size, habit in zip(sizes.tolist(), rng.integers(0, 400, 60_000).tolist(), strict=True):
        extra = np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(size))
        rows.append(sorted({*habits[habit].tolist(), *extra.tolist()}))
    return rows


def read(source: str) -> Rows:
    """Baskets of a file, or drawn."""
    path = Path(source)
    if not path.suffix:
        return drawn(source)
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".csv":
        return [line.split(",") for line in lines]
    return [list(map(int, line.split())) for line in lines]


def miner(name: str, rows: Rows, share: float) -> Callable[[], int]:
    """What mines `rows` and gives the number of sets; imports and nothing else are done before the clock runs."""
    if name.startswith("taolu"):
        from mining.apriori import Engine, mine_itemsets

        engine: Engine = "numba" if name.endswith("numba") else "numpy"
        if engine == "numba":
            mine_itemsets(rows, share, engine=engine)  # compiles, or reads what was compiled
        return lambda: len(mine_itemsets(rows, share, engine=engine))
    if name == "pyfim":
        fim = import_module("fim")
        count = math.ceil(Fraction(str(share)) * len(rows))
        return lambda: len(fim.eclat(rows, supp=-count, report="a"))
    if name == "rusket":
        rusket = import_module("rusket")
        return lambda: len(rusket.fpgrowth(rusket.from_transactions(rows), min_support=share))
    if name == "mlxtend":
        patterns = import_module("mlxtend.frequent_patterns")
        return lambda: len(patterns.fpgrowth(one_hot(rows), min_support=share))
    peer = import_module("efficient_apriori")
    return lambda: sum(map(len, peer.itemsets_from_transactions(rows, share, max_length=99)[0].values()))


def one_hot(rows: Rows) -> Any:
    pd, encoder = import_module("pandas"), import_module("mlxtend.preprocessing").TransactionEncoder()
    return pd.DataFrame(encoder.fit(rows).transform(rows))


def rule_maker(name: str, rows: Rows, share: float, confidence: float) -> Callable[[], int]:
    """What makes the rules of itemsets mined before, all measures included, and gives their number."""
    if name == "taolu":
        from mining.apriori import mine_itemsets
        from mining.rules import rules

        itemsets = mine_itemsets(rows, share)

        def ours() -> int:
            found = rules(itemsets, confidence)
            return len(found.measures()["lift"])

        return ours
    if name == "rusket":
        rusket = import_module("rusket")
        frame = rusket.fpgrowth(rusket.from_transactions(rows), min_support=share)
        return lambda: len(rusket.association_rules(frame, num_itemsets=len(rows), min_threshold=confidence))
    patterns = import_module("mlxtend.frequent_patterns")
    frame = patterns.fpgrowth(one_hot(rows), min_support=share)
    return lambda: len(patterns.association_rules(frame, num_itemsets=len(rows), min_threshold=confidence))


def cell(kind: str, name: str, source: str, share: float, confidence: float) -> dict[str, Any]:
    """In this process: the median CPU seconds, the first's, the number found, and the peak of memory."""
    rows = read(source)
    work = miner(name, rows, share) if kind == "itemsets" else rule_maker(name, rows, share, confidence)
    seconds: list[float] = []
    found = 0
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH:
        start = time.process_time()
        found = work()
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": median(seconds), "first": round(seconds[0], 4), "found": found, "megabytes": round(peak)}


def fresh(*arguments: object) -> dict[str, Any] | None:
    """A cell in a process of its own with one thread; None if it fails or takes too long."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    environment = {**os.environ, **one, "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, str(HERE), "--cell", *map(str, arguments)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        print(arguments, str(error)[:200], file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row a cell; CPU seconds, and how many times taolu's."""
    lines = ["| what | data | settings | found | " + " | ".join(MINERS) + " |", "|---" * (4 + len(MINERS)) + "|"]
    for row in rows:
        ours = row["results"]["taolu"]
        texts = []
        for name in MINERS:
            one = row["results"].get(name)
            if not one or not ours:
                texts.append("")
                continue
            gap = "" if one["found"] == ours["found"] else f", finds {one['found']}"
            times = one["seconds"] / max(ours["seconds"], 1e-9)
            texts.append(f"{one['seconds']:.3f} s, {times:.1f}x, {one['megabytes']} MB{gap}")
        found = ours["found"] if ours else ""
        lines.append(f"| {row['kind']} | {row['data']} | {row['settings']} | {found} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def write(rows: list[dict[str, Any]]) -> None:
    """All rows so far, as JSON and Markdown."""
    print(table(rows[-1:]).splitlines()[-1], flush=True)
    installed = versions("numpy", "numba", "pyfim", "rusket", "mlxtend", "efficient-apriori", "pandas")
    text = {"machine": machine(), "versions": installed, "repeats": REPEATS, "rows": rows}
    RESULTS.with_suffix(".json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(table(rows), encoding="utf-8")


def main(folder: str | None = None, peers: str = ",".join(MINERS)) -> None:
    paths = sorted(Path(folder).glob("*.dat")) + sorted(Path(folder).glob("groceries.csv")) if folder else []
    sources = {path.stem: str(path) for path in paths} or {"sparse": "sparse", "dense": "dense"}
    rows = []
    for data, source in sources.items():
        for share in SUPPORTS.get(data, DEFAULT):
            names = [name for name in MINERS if name in ("taolu", *peers.split(",")) and share >= SLOW.get(name, 0)]
            results = {name: fresh("itemsets", name, source, share, 0) for name in names}
            rows.append({"kind": "itemsets", "data": data, "settings": f"{share}", "results": results})
            write(rows)
        if data in RULES:
            share, confidence = RULES[data]
            results = {name: fresh("rules", name, source, share, confidence) for name in ("taolu", "rusket", "mlxtend")}
            rows.append({"kind": "rules", "data": data, "settings": f"{share} / {confidence}", "results": results})
            write(rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cell"]:
        kind, name, source, share, confidence = sys.argv[2:]
        print(json.dumps(cell(kind, name, source, float(share), float(confidence))))
    else:
        main(*sys.argv[1:])
