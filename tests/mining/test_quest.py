"""Sources that need no download: drawn baskets, and what the standard library imports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mining.apriori import mine_itemsets
from mining.quest import CHUNK, Quest
from mining.stdlib import imports, stdlib_baskets


def test_the_first_of_more_baskets_are_the_same_and_another_seed_has_others() -> None:
    long, short, other = Quest(seed=3).baskets(CHUNK + 10), Quest(seed=3).baskets(700), Quest(seed=4).baskets(700)
    assert np.array_equal(long.indptr[:701], short.indptr)
    assert np.array_equal(long.indices[: len(short.indices)], short.indices)
    assert len(long) == CHUNK + 10
    assert not np.array_equal(short.indices[:100], other.indices[:100])


def test_chunks_are_the_whole() -> None:
    parts = list(Quest().chunks(CHUNK + 10))
    assert [len(part) for part in parts] == [CHUNK, 10]
    assert np.array_equal(np.concatenate([part.indices for part in parts]), Quest().baskets(CHUNK + 10).indices)


def test_sizes_are_poissons_and_items_rise_within_a_basket() -> None:
    made = Quest(basket_size=10).baskets(20_000)
    lengths = np.diff(made.indptr)
    assert lengths.min() >= 1
    assert lengths.mean() == pytest.approx(10, abs=0.3)
    inner = np.ones(len(made.indices), bool)
    inner[made.indptr[:-1]] = False
    assert (np.diff(made.indices)[inner[1:]] > 0).all()


def test_patterns_make_items_stand_together_far_more_often_than_chance() -> None:
    found = mine_itemsets(Quest().baskets(10_000), 0.005)
    assert 5 <= found.lengths.max() <= 20  # independent items at 1 % each have no frequent pair


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"basket_size": 0}, "basket_size = 0: must be at least 1"),
        ({"n_items": 1}, "n_items = 1"),
        ({"correlation": 2}, r"correlation = 2: must lie in \[0, 1\]"),
    ],
)
def test_what_nothing_can_be_drawn_with_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Quest(**settings)


def test_imports_are_found_anywhere_in_a_file_but_not_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    file = tmp_path / "package" / "module.py"
    file.write_text(
        '"""\nimport nothing\n"""\nimport os.path, re\nfrom . import near\nfrom .deep import x\n'
        "from json import loads\n"
        "def f():\n    try:\n        import lazy\n    except ImportError:\n        from late import y\n"
    )
    assert imports(file, tmp_path) == ["json", "late", "lazy", "os.path", "package.deep", "package.near", "re"]


def test_the_standard_library_is_hundreds_of_baskets() -> None:
    baskets = stdlib_baskets()
    assert len(baskets) > 300
    counts = dict(zip(baskets.items, np.bincount(baskets.indices, minlength=len(baskets.items)).tolist(), strict=True))
    assert counts["os"] > 50
    assert counts["sys"] > 50
