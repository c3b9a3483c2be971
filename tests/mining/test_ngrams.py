"""Counts and entropies against brute force; blocks, processes, merges and resumption against one go."""

import math
import multiprocessing
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cluster import processes
from experiments.errors import ConfigError
from mining.corpus import Policy, units
from mining.ngrams import Ngrams, count, merge
from mining.runs import Run, sort_keys
from mining.runs import merge as merge_runs
from mining.texts import read

LETTERS = Policy(latin="each", numbers="each")
TEXTS = st.lists(st.text("abc,", max_size=30), max_size=6)
N = 3


def same(first: Ngrams, second: Ngrams) -> None:
    """All bits are equal."""
    assert first.alphabet.tolist() == second.alphabet.tolist()
    assert (first.n_units, first.n_segments, first.min_count) == (second.n_units, second.n_segments, second.min_count)
    for level, other in zip(first.levels, second.levels, strict=True):
        for name, array in vars(level).items():
            assert array.dtype == vars(other)[name].dtype
            assert array.tobytes() == vars(other)[name].tobytes(), name


def segments(texts: Iterable[str]) -> list[str]:
    return [segment for text in texts for segment in text.split(",") if segment]


def grams_of(found: Ngrams, k: int) -> list[str]:
    return ["".join(map(chr, codes)) for codes in found.codes(k).tolist()]


def entropy(neighbours: Counter[str]) -> float:
    total = sum(neighbours.values())
    return -sum(c / total * math.log(c / total) for c in neighbours.values())


def neighbours(texts: list[str], gram: str, side: int) -> Counter[str]:
    """What stands before (-1) or behind (1) each occurrence; edges are told apart by their number."""
    found: Counter[str] = Counter()
    for number, segment in enumerate(segments(texts)):
        for at in range(len(segment) - len(gram) + 1):
            if segment.startswith(gram, at):
                place = at - 1 if side < 0 else at + len(gram)
                found[segment[place] if 0 <= place < len(segment) else f"edge {number}"] += 1
    return found


def random_text(n_lines: int, seed: int = 0) -> str:
    """Lines of letters that a chain of first order draws, by Zipf's law."""
    rng = np.random.default_rng(seed)
    lines = rng.zipf(1.4, (n_lines, 40)) % 300 + np.arange(0, 120, 3) % 7
    return "\n".join("".join(map(chr, 0x4E00 + line)) for line in np.cumsum(lines, axis=1) % 500)


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.integers(1, 4))
def test_counts_and_entropies_are_those_of_brute_force(texts: list[str], min_count: int) -> None:
    found = count(texts, N, min_count=min_count, policy=LETTERS)
    parts = segments(texts)
    assert found.n_units == sum(map(len, parts))
    for k, level in enumerate(found.levels, 1):
        expected = Counter(part[at : at + k] for part in parts for at in range(len(part) - k + 1))
        kept = {gram: number for gram, number in sorted(expected.items()) if number >= min_count}
        grams = grams_of(found, k)
        assert dict(zip(grams, level.counts.tolist(), strict=True)) == kept
        assert grams == list(kept)
        for row, gram in enumerate(grams):
            assert level.left[row] == pytest.approx(entropy(neighbours(texts, gram, -1)), abs=1e-12)
            assert level.right[row] == pytest.approx(entropy(neighbours(texts, gram, 1)), abs=1e-12)
            if k > 1:
                below = grams_of(found, k - 1)
                assert (below[level.prefix[row]], below[level.suffix[row]]) == (gram[:-1], gram[1:])


@settings(max_examples=15, deadline=None)
@given(TEXTS, st.integers(1, 3), st.sampled_from([0.0002, 0.001, 0.01]))
def test_blocks_of_any_size_give_the_same_bits(texts: list[str], min_count: int, memory: float) -> None:
    whole = count(texts, N, min_count=min_count, policy=LETTERS)
    same(count(texts, N, min_count=min_count, policy=LETTERS, memory=memory), whole)


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=3), st.integers(1, 3))
def test_merged_counts_are_those_of_all_texts(parts: list[list[str]], min_count: int) -> None:
    whole = count([text for texts in parts for text in texts], N, policy=LETTERS, mergeable=True)
    merged = merge([count(texts, N, policy=LETTERS, mergeable=True) for texts in parts])
    same(merged, whole)
    same(merge([merged, whole]).pruned(min_count), merge([whole, whole]).pruned(min_count))
    same(whole.pruned(min_count), count([t for texts in parts for t in texts], N, min_count=min_count, policy=LETTERS))


def test_counts_that_do_not_add_up_are_refused() -> None:
    whole = count("abab", 2, policy=LETTERS, mergeable=True)
    for other in (
        count("ab", 2, policy=LETTERS),
        count("ab", 3, policy=LETTERS, mergeable=True),
        count("ab", 2, min_count=2, mergeable=True),
    ):
        with pytest.raises(ValueError, match=r"part 1: .* only counts of 2-grams, all and mergeable, add up"):
            merge([whole, other])
    with pytest.raises(ValueError, match="no counts to merge"):
        merge([])


def test_a_larger_text_gives_the_same_bits_in_blocks_and_processes() -> None:
    text = random_text(3000)
    whole = count(text, 5, min_count=2)
    assert len(whole.levels[4]) > 100
    same(count(text, 5, min_count=2, memory=1), whole)
    same(count(text.split("\n"), 5, min_count=2, memory=3), whole)
    same(count(map(units, text.split("\n", 50)), 5, min_count=2), whole)
    with processes(2) as map_:
        same(count(text, 5, min_count=2, memory=1, map=map_), whole)


def test_one_character_a_million_times() -> None:
    found = count("哈" * 1_000_000, 3)
    assert [level.counts.tolist() for level in found.levels] == [[1_000_000], [999_999], [999_998]]
    assert found.levels[0].right[0] == pytest.approx(math.log(1e6) - 999_999 * math.log(999_999) / 1e6)


@pytest.mark.parametrize("texts", ["", "\n\n", [], ["", "，"]])
def test_texts_without_units_have_no_ngrams(texts: Any) -> None:
    found = count(texts, 2, mergeable=True)
    assert [len(level) for level in found.levels] == [0, 0]
    assert found.codes(2).shape == (0, 2)
    assert found.find(np.array([[97, 98]])).tolist() == [-1]
    same(merge([found, found]), found)


def test_one_character_has_edges_as_neighbours() -> None:
    found = count("中", 2)
    assert (found.levels[0].counts.tolist(), found.levels[0].left.tolist(), len(found.levels[1])) == ([1], [0.0], 0)


@settings(max_examples=30, deadline=None)
@given(TEXTS, st.integers(1, 3))
def test_rows_are_found_by_codes_and_by_place(texts: list[str], min_count: int) -> None:
    found = count(texts, N, min_count=min_count, policy=LETTERS)
    cut = units(",".join(texts), LETTERS)
    located = found.locate(cut)
    letters = [chr(code) for code in cut.codes]
    ends = np.repeat(cut.starts[1:], np.diff(cut.starts)).tolist()
    for k, rows in enumerate(located, 1):
        known = {gram: row for row, gram in enumerate(grams_of(found, k))}
        assert found.find(found.codes(k)).tolist() == list(range(len(known)))
        expected = [
            known.get("".join(letters[at : at + k]), -1) if at + k <= end else -1 for at, end in enumerate(ends)
        ]
        assert rows.tolist() == expected


def test_many_rows_are_found_as_few_are() -> None:
    text = random_text(500)
    found = count(text, 3, min_count=2)
    cut = units(text)
    located = found.locate(cut)
    windows = np.lib.stride_tricks.sliding_window_view(cut.codes, 3)
    inside = np.flatnonzero(np.arange(len(windows)) % 40 < 38)[:3000]  # lines have 40 units
    assert found.find(windows[inside]).tolist() == located[2][inside].tolist()
    assert found.find(np.array([[-1, 2, 3], [97, 98, 99]])).tolist() == [-1, -1]


def test_counts_are_saved_whole(tmp_path: Path) -> None:
    found = count(["abab", "ba"], 3, policy=LETTERS, mergeable=True)
    found.save(tmp_path / "counts.npz")
    loaded = Ngrams.load(tmp_path / "counts.npz")
    same(loaded, found)
    same(merge([loaded, found]), merge([found, found]))
    assert [path.name for path in tmp_path.iterdir()] == ["counts.npz"]
    (tmp_path / "counts.npz").write_bytes(b"PK")
    for name in ("counts.npz", "none.npz"):
        with pytest.raises(ValueError, match=f"{name}: holds no counts of n-grams"):
            Ngrams.load(tmp_path / name)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"n": 0}, "n = 0: must be at least 1"),
        ({"min_count": 0}, "min_count = 0: must be at least 1"),
        ({"memory": 0}, "memory = 0: must be positive, in megabytes"),
        ({"texts": [3]}, "text 0 is int: texts are strings, or Units"),
    ],
)
def test_settings_out_of_range_are_refused(settings_: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"texts": "ab", "n": 2} | settings_
    with pytest.raises(ValueError, match=message):
        count(**arguments)


def test_what_is_counted_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    count(["abc"] * 3, 2, policy=LETTERS, memory=0.0002, progress=lambda *step: told.append(step))
    assert told == [
        ("units", 3, 0), ("units", 6, 0), ("units", 9, 0),
        *((f"{k}-grams", done, 3) for k in (2, 3) for done in (1, 2, 3)),
    ]  # fmt: skip


class StoppedError(Exception):
    pass


def stopping_map(after: int) -> Any:
    """The builtin map, stopped after some calls of it all."""
    left = [after]

    def calls(function: Any, items: Any) -> Iterator[Any]:
        for item in items:
            if not left[0]:
                raise StoppedError
            left[0] -= 1
            yield function(item)

    return calls


def test_a_stopped_count_goes_on_where_it_was(tmp_path: Path) -> None:
    texts = random_text(300).split("\n")
    whole = count(texts, 4, min_count=2)
    settings_: dict[str, Any] = {"min_count": 2, "memory": 0.2, "folder": tmp_path}

    def dying_texts() -> Iterator[str]:
        yield from texts[:200]
        raise StoppedError

    with pytest.raises(StoppedError):
        count(dying_texts(), 4, **settings_)
    n_blocks = len(list(tmp_path.glob("block-*.json")))
    assert n_blocks > 1
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("block-*.codes")}
    for after in (1, 2, 5, 7):
        with pytest.raises(StoppedError):
            count(texts, 4, map=stopping_map(after), **settings_)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    same(count(dying_texts(), 4, **settings_), whole)  # all blocks are there: the texts are not read


def test_a_folder_of_another_job_is_refused(tmp_path: Path) -> None:
    count("abab", 2, policy=LETTERS, folder=tmp_path)
    with pytest.raises(ValueError, match=r"holds the counts of another job, .*; delete it or give another folder"):
        count("abab", 3, policy=LETTERS, folder=tmp_path)
    (tmp_path / "facts.json").unlink()
    with pytest.raises(ValueError, match="block-0 of the folder was made of another text; delete the folder"):
        count("baba", 2, policy=LETTERS, folder=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file: no folder to spill into \(File exists\)"):
        count("abab", 3, folder=tmp_path / "file")


SPILLING = """
import resource, sys
from mining.ngrams import count
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
text = open(sys.argv[1], encoding="utf-8").read()
try:
    found = count(text, 4, memory=20, folder=sys.argv[2] or None)
    print(len(found.levels[3]))
except ValueError as error:
    print(error)
"""


def spill(path: Path, folder: str, limit: int, scratch: Path) -> str:
    command = [sys.executable, "-c", SPILLING, str(path), folder, str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"TMPDIR": str(scratch)})
    return done.stdout.strip()


def test_a_disk_that_fills_up_while_spilling_is_told_in_one_line_and_resumed(tmp_path: Path) -> None:
    text = random_text(5000)
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    for folder in ("", str(tmp_path / "spilled")):
        message = spill(tmp_path / "a.txt", folder, 1_000_000, tmp_path)
        assert message.count("\n") == 0
        assert "could not be written (File too large); make room or give another folder" in message
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "spilled"}  # the temporary one is gone
    assert not list((tmp_path / "spilled").glob("*half-*"))
    left = len(count(text, 4).levels[3])
    assert spill(tmp_path / "a.txt", str(tmp_path / "spilled"), 100_000_000, tmp_path) == str(left)


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt: a shell's background job is born ignoring it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_ends_a_count_in_processes_and_it_resumes(tmp_path: Path) -> None:
    text = random_text(300)
    settings_: dict[str, Any] = {"min_count": 2, "memory": 0.2, "folder": tmp_path}
    steps: list[int] = []

    def interrupt(what: str, done: int, _of: int) -> None:
        steps.append(done)
        if what == "3-grams":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), processes(2) as map_:
        count(text, 4, map=map_, progress=interrupt, **settings_)
    assert multiprocessing.active_children() == []
    same(count(text, 4, **settings_), count(text, 4, min_count=2))


def fail(item: int) -> int:
    if item == 2:
        raise KeyError("no such thing")
    if item == 3:
        raise ValueError("one line for the user")
    if item == 4:
        signal.raise_signal(signal.SIGKILL)
    return item * 10


def test_a_map_over_processes_keeps_the_order_and_names_what_failed() -> None:
    with processes(2) as map_:
        assert list(map_(fail, [1, 0, 5])) == [10, 0, 50]
        with pytest.raises(RuntimeError, match="a worker failed over 2: KeyError: 'no such thing'"):
            list(map_(fail, [1, 2]))
        with pytest.raises(ValueError, match="one line for the user"):
            list(map_(fail, [3]))
        with pytest.raises(RuntimeError, match="a worker died over 4 or beside it; if memory ran out, use fewer"):
            list(map_(fail, [4]))
    with pytest.raises(ConfigError, match="processes = 0: must be at least 1"), processes(0):
        pass


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 20), max_size=10), min_size=1, max_size=5), st.integers(1, 12))
def test_runs_are_merged_in_pieces_of_any_size(parts: list[list[int]], limit: int) -> None:
    runs = []
    for part in parts:
        order = sort_keys(np.array(part, np.int64), 21)
        runs.append(Run(order.keys, order.counts.astype(np.int32), (order.keys % 3).astype(np.int32)))
    merged = list(merge_runs(runs, limit))
    expected = sorted(Counter(key for part in parts for key in part).items())
    assert [
        pair for piece in merged for pair in zip(piece.keys.tolist(), piece.counts.tolist(), strict=True)
    ] == expected
    assert [suffix for piece in merged for suffix in piece.suffix.tolist()] == [key % 3 for key, _ in expected]


@settings(deadline=None)
@given(st.lists(st.integers(0, 1 << 62), max_size=20))
def test_keys_too_long_to_be_packed_are_sorted_as_others(keys: list[int]) -> None:
    order = sort_keys(np.array(keys, np.int64), (1 << 62) + 1)
    assert order.keys.tolist() == sorted(set(keys))
    assert order.places.tolist() == sorted(range(len(keys)), key=lambda at: (keys[at], at))


def write_large(path: Path, n_bytes: int) -> None:
    """A random text over and over, 2 % of its characters exchanged each time."""
    rng = np.random.default_rng(1)
    text = np.frombuffer(random_text(100_000).encode("utf-32-le"), "<i4")
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < n_bytes:
            copy = text.copy()
            places = rng.integers(0, len(text), len(text) // 50)
            places = places[text[places] != ord("\n")]
            copy[places] = rng.permutation(copy[places])
            file.write(copy.tobytes().decode("utf-32-le") + "\n")


COUNTING = """
import resource, sys
from mining.ngrams import count
from mining.texts import read
found = count(read(sys.argv[1]), 5, min_count=5, memory=400)
print(found.n_units, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_gigabyte_is_counted_within_two_gigabytes_of_memory(tmp_path: Path) -> None:
    write_large(tmp_path / "a.txt", 10**9)
    command = [sys.executable, "-c", COUNTING, str(tmp_path / "a.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"TMPDIR": str(tmp_path)})
    n_units, megabytes = map(int, done.stdout.split())
    assert n_units > 3e8
    assert megabytes < 2000


@pytest.mark.slow
def test_a_hundred_megabytes_give_the_same_bits_in_memory_and_out_of_it(tmp_path: Path) -> None:
    write_large(tmp_path / "a.txt", 10**8)
    whole = count(read(tmp_path / "a.txt"), 5, min_count=5)
    same(count(read(tmp_path / "a.txt", chunk=99_999), 5, min_count=5, memory=150, folder=tmp_path / "spilled"), whole)
