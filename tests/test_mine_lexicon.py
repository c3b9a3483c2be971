"""`taolu mine lexicon`, `segment`, `lexicon`: runs, words, cuts, and every mistake in one line."""

from __future__ import annotations

import csv
import io
import itertools
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import taolu as taolu_module
from dashboard import artifacts
from experiments import demo
from experiments.completion import complete
from experiments.fonts import HINT
from experiments.label import Label
from experiments.lexicon_pictures import lengths_picture, merges_picture, ranks_picture
from experiments.lexicons import difference
from experiments.mine_lexicon import Request, Texts, beginning_merges, bits_curve, mine
from experiments.store.location import Store
from experiments.store.read import find_run, history, read_run
from experiments.words import ENGLISH
from mining.corpus import Policy
from mining.lexicon import Lexicon, mine_lexicon, read_words
from mining.segment import Segmenter
from tests.test_cli import Said, Taolu, refused, taolu  # noqa: F401 (a fixture)

ROOT = Path(__file__).parents[1]
WORDS = ["北京", "天气", "朋友", "喜欢", "学习", "经济", "电影", "我", "在", "很", "好"]
LINES = ["".join(words) for words in itertools.product(WORDS, repeat=3)]
TEXT = "\n".join(random.Random(0).sample(LINES, len(LINES)))
FOUND = {"北京", "天气", "朋友", "喜欢", "学习", "经济", "电影"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of any repository: each run would keep its changes."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text of 1,331 lines, three words each."""
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode("gb18030"))
    return path


@pytest.fixture
def mined(taolu: Taolu, text: Path) -> Said:  # noqa: F811
    """Its words, also in a folder `out`."""
    return taolu("mine", "lexicon", str(text), "--out", "out", "--json", "--name", "words")


def test_a_job_is_a_run_with_words_scores_curve_and_pictures(mined: Said, store: Store, tmp_path: Path) -> None:
    told, out = mined.json, tmp_path / "out"
    assert (told["kind"], told["experiment"], told["status"]) == ("lexicon", "mine-lexicon", "FINISHED")
    assert {word for word in told["best"] if len(word) > 1} == FOUND
    record = read_run(store, told["run_id"])
    assert artifacts.media(record.folder).keys() == {"lengths", "ranks", "merges"}
    shown = artifacts.read_rows(record.folder, "words.parquet")
    assert shown is not None
    rows, total = shown
    assert total == told["words"] == pq.read_table(out / "words.parquet").num_rows
    assert {*rows["word"]} >= FOUND
    with (out / "words.csv").open(encoding="utf-8") as file:
        assert file.read(1) == "\ufeff"  # or spreadsheets take it for another encoding
        assert {row["word"] for row in csv.DictReader(file)} >= FOUND
    assert {line.split()[0] for line in (out / "words.txt").read_text("utf-8").splitlines()} == FOUND
    assert json.loads((out / "words.json").read_text("utf-8"))["facts"]["method"] == "best"
    curve = history(store, told["run_id"], ["bits_per_character"])["value"].to_numpy()
    assert (np.diff(curve) < 0).all()
    assert record.metrics["lexicon/bits_per_character_after"] < record.metrics["lexicon/bits_per_character_before"]
    megabytes = len(TEXT.encode()) / 1e6
    speed = megabytes / max(record.metrics["cpu/count_seconds"], 0.01)
    assert record.metrics["speed/count_megabytes_per_s"] == pytest.approx(speed)
    gaps, sample = np.load(out / "gaps.npz"), (out / "sample.txt").read_text("utf-8")
    sure = {sample[at] for at in gaps["offsets"][gaps["borders"] > 0.99].tolist()}
    assert sure == {word[0] for word in WORDS}


@pytest.mark.parametrize("method", ["article", "greedy"])
def test_other_methods_keep_what_they_did(taolu: Taolu, text: Path, method: str) -> None:  # noqa: F811
    told = taolu("mine", "lexicon", str(text), "--method", method, "--json", "--min_prob", "1e-7").json
    assert told["status"] == "FINISHED"
    assert {"article": "removed.csv", "greedy": "merges.parquet"}[method] in told["artifacts"]


def test_merges_are_kept_as_words_with_the_bits_they_saved(mined: Said, tmp_path: Path) -> None:
    merges = pq.read_table(tmp_path / "out" / "merges.parquet").to_pylist()
    assert [each["left"] + each["right"] for each in merges] == [each["word"] for each in merges]
    assert {each["word"] for each in merges} >= FOUND
    n_units = merges[0]["n_tokens"]  # before the first merge each is one
    saved = [(each["bits_before"] - each["bits_after"]) * n_units for each in merges]
    assert [each["saved_bits"] for each in merges] == pytest.approx(saved)


def test_known_words_are_marked_or_left_out(taolu: Taolu, text: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "known.txt").write_bytes("北京 3\n天气\n".encode("gb18030"))
    words = ("mine", "lexicon", str(text), "--known", "known.txt")
    said = taolu(*words)
    assert "known to known.txt" in said.out + said.err
    new = taolu(*words, "--new_only", "--json").json
    assert {word for word in new["best"] if len(word) > 1} == FOUND - {"北京", "天气"}
    (tmp_path / "stop.txt").write_text("朋友\n", "utf-8")
    stopped = taolu("mine", "lexicon", str(text), "--stop", "stop.txt", "--json").json
    assert "朋友" not in stopped["best"]


TEXTS = {
    "one character": ("好", 0),
    "one line": ("去北京大学", 0),
    "NUL": ("北京\0大学\0" * 50, 0),
    "CRLF": (TEXT.replace("\n", "\r\n"), 7),
    "mixed scripts": ("Привет 北京 Hello 2019年 한국어 ひらがな עברית\n" * 30, None),
    "one character again and again": ("好" * 5000, 0),
    "astral Han": ("𠀀𠀁𠀂𠀀𠀁" * 30, None),
    "combining marks": ("e\u0301te\u0301 a\u0300 \u0301\u0301\n" * 30, 0),
}


@pytest.mark.parametrize("name", TEXTS)
def test_odd_texts_are_mined(store: Store, tmp_path: Path, name: str) -> None:
    text, n_words = TEXTS[name]
    (tmp_path / "odd.txt").write_bytes(text.encode())
    done = mine(Request((str(tmp_path / "odd.txt"),)), store=store, label=Label(), say=lambda line: None)
    assert (done.result.status, done.result.error) == ("FINISHED", "")
    assert n_words is None or len(done.plain["best"]) == n_words


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gb18030")


def test_encodings_line_ends_folders_and_rows_give_the_same_words(tmp_path: Path) -> None:
    expected = taolu_module.mine_lexicon([TEXT]).words
    for name in ENCODINGS:
        (tmp_path / "some.txt").write_bytes(TEXT.encode(name))
        assert taolu_module.mine_lexicon(tmp_path / "some.txt").words == expected
    (tmp_path / "folder").mkdir()
    half = len(LINES) // 2
    for name, lines in (("b.txt", TEXT.split("\n")[half:]), ("a.txt", TEXT.split("\n")[:half])):
        (tmp_path / "folder" / name).write_text("\n".join(lines), "utf-8")
    assert taolu_module.mine_lexicon(tmp_path / "folder").words == expected
    rows = (json.dumps({"body": line + "\ud800"}) for line in TEXT.split("\n"))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), "utf-8")
    assert taolu_module.mine_lexicon(tmp_path / "rows.jsonl", field="body").words == expected


FILES = {
    "empty.txt": b"",
    "blank.txt": b"\n \n\t\n",
    "marks.txt": "，。！".encode(),
    "big5.txt": ("這個圖書館的書籍對學習經濟與體育活動歷史" * 9).encode("big5"),
    "torn.txt": "北京".encode()[:-1],
    "packed.gz": b"no gzip",
    "rows.jsonl": b'{"body": "x"}\n',
    "none.txt": b"\n",
    "bad.json": b"{",
}
REFUSED = {
    "empty.txt": "0 characters, none that could be of a word",
    "blank.txt": "none that could be of a word",
    "marks.txt": "none that could be of a word",
    "big5.txt": "name its encoding, as --encoding big5",
    "torn.txt": "byte 3 is not utf-8",
    "packed.gz": "cannot be read",
    "rows.jsonl": "name it by --field",
    "folder": "in this folder",
    "nothing.txt": "no such file or folder",
    "pydco": "did you mean 'pydoc'",
    "hub:": "which set?",
    "- text.txt": "standard input is read alone",
    "text.txt --encoding klingon": "unknown; allowed: those of Python",
    "text.txt --encoding base64": "unknown; allowed: those of Python",
    "text.txt --method fast": "unknown; allowed: best, article, greedy",
    "text.txt --min_pmi x": "--min_pmi x: must be a number, or one for each length",
    "text.txt --min_pmi nan": "must be a number",
    "text.txt --min_pmi 1,2 --method article": "goes with method best",
    "text.txt --min_count 0": "must be a whole number of at least 1",
    "text.txt --min_prob 2": "must lie in [0, 1)",
    "text.txt --latin some": "allowed: run, each, break",
    "text.txt --new_only": "new to what?",
    "text.txt --known none.txt": "no word in it",
    "text.txt --known bad.json": "holds no lexicon",
    "text.txt --known nothing.txt": "cannot be read (No such file",
    "text.txt --memory 0": "must be above 0",
    "text.txt --parts text.txt": "cannot be written",
    "text.txt --out /nowhere/out": "there is no folder /nowhere",
    "text.txt --min_support 2": "belongs to mine apriori",
}


def test_what_cannot_be_mined_is_refused_before_there_is_a_run(
    taolu: Taolu,  # noqa: F811
    text: Path,
    store: Store,
) -> None:
    for name, content in FILES.items():
        text.with_name(name).write_bytes(content)
    (text.parent / "folder").mkdir()
    for words, message in REFUSED.items():
        assert message in refused(taolu("mine", "lexicon", *words.split())), words
    assert not store.artifacts.exists() or not [*store.artifacts.iterdir()]


def test_parts_give_the_same_words_and_another_job_is_refused(taolu: Taolu, text: Path, mined: Said) -> None:  # noqa: F811
    words = ("mine", "lexicon", str(text), "--parts", "parts", "--memory", "0.02", "--json")
    for _ in range(2):
        assert taolu(*words).json["best"] == mined.json["best"]
    assert "holds other texts or settings" in refused(taolu(*words, "--max_length", "3"))
    text.write_text("北京" * 9, "utf-8")
    assert "holds other texts or settings" in refused(taolu(*words))


@pytest.mark.slow
def test_a_signal_ends_a_job_as_killed_and_its_parts_go_on(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "long.txt").write_text("".join(map(chr, 0x4E00 + rng.zipf(1.3, 2_000_000) % 5000)), "utf-8")
    words = ["mine", "lexicon", "long.txt", "--parts", "parts", "--memory", "10", "--store", str(store.folder)]
    command = [sys.executable, "-m", "experiments", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as job:
        while job.poll() is None and not (tmp_path / "parts" / "block-0.json").exists():
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        assert job.wait(60) == 130
    assert read_run(store, find_run(store, "last:mine-lexicon")).status == "KILLED"
    before = (tmp_path / "parts" / "block-0.codes").stat().st_mtime_ns
    assert subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).returncode == 0
    assert (tmp_path / "parts" / "block-0.codes").stat().st_mtime_ns == before


# ---- cutting, comparing -------------------------------------------------------------------------------------------


def test_texts_files_and_pipes_are_cut_by_runs_folders_and_files(
    taolu: Taolu,  # noqa: F811
    mined: Said,
    text: Path,
    tmp_path: Path,
) -> None:
    cut = "我 在 电影 学习 。\n"
    for lexicon in ("words", "last", mined.json["run_id"], "out", "out/scores.npz", "out/words.csv", "out/words.txt"):
        assert taolu("segment", "我在电影学习。", "--lexicon", lexicon).out == cut
    (tmp_path / "other.txt").write_bytes("我在电影学习。\r\n\r\n我在\ud800".encode("utf-8", "surrogatepass"))
    assert taolu("segment", "other.txt", "--lexicon", "words").out == f"{cut}\n我 在 ?\n"
    assert taolu("segment", "", "--lexicon", "words").out == ""
    lines = taolu("segment", str(text), "--lexicon", "words").out.splitlines()
    assert all(set(line.split()) <= set(WORDS) for line in lines)
    assert "".join("".join(line.split()) for line in lines) == TEXT.replace("\n", "")
    assert taolu_module.segment("我在电影学习。", "words") == cut.split()
    assert taolu_module.segment("我在电影", {"电影": 3, "我在": 2}) == ["我在", "电影"]
    assert taolu_module.segment("我在电影学习。", Lexicon.load(tmp_path / "out")) == cut.split()


def test_what_no_text_can_be_cut_by_is_refused(taolu: Taolu, mined: Said, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "none.txt").write_text("")
    taolu("mine", "apriori", "quest", "--baskets", "50", "--min_support", "0.5", "--name", "baskets")
    wrong = {
        "我 --lexicon nothing": "no run 'nothing'",
        "我 --lexicon nothing.txt": "no such file",
        "我 --lexicon none.txt": "no word in it",
        "我 --lexicon baskets": "holds no lexicon",
        "我 --lexicon out/words.parquet": "give the folder it is in",
        "我 --lexicon out/gaps.npz": "holds no scores",
        "我": "by which words?",
        "nothing.txt --lexicon words": "no such file; give a file, a text, or -",
        "--lexicon words": "give one TEXT, FILE or -",
    }
    for words, message in wrong.items():
        assert message in refused(taolu("segment", *words.split())), words


def test_two_lexicons_differ_and_a_cut_is_scored(taolu: Taolu, mined: Said, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "mine.txt").write_text("北京 5\n火车 2\n", "utf-8")
    told = taolu("lexicon", "diff", "words", "mine.txt", "--json").json
    expected = difference(read_words(tmp_path / "out" / "words.json"), {"北京": 5, "火车": 2})
    assert (told["only_a"], told["only_b"], told["both"]) == (expected.first, ["火车"], 1)
    assert "1 words in both" in taolu("lexicon", "diff", "out", "mine.txt").out
    (tmp_path / "cut.txt").write_text("我 在 北京\n", "utf-8")
    (tmp_path / "gold.txt").write_text("我 在北京\n", "utf-8")
    scored = taolu("lexicon", "score", "cut.txt", "gold.txt", "--json").json
    assert (scored["token_precision"], scored["border_recall"]) == (1 / 3, 1.0)
    assert "both must hold the same text" in refused(taolu("lexicon", "score", "cut.txt", "mine.txt"))
    for words, message in {"": "name what to do", "diff words": "give two", "score cut.txt": "GOLD; found 1"}.items():
        assert message in refused(taolu("lexicon", *words.split()))


def test_a_mined_run_cannot_be_rerun_and_says_how_to_repeat_it(taolu: Taolu, mined: Said) -> None:  # noqa: F811
    assert "was mined, not trained; to mine again: " in refused(taolu("rerun", "words"))


@pytest.mark.slow
def test_the_line_of_the_lexicon_compares_with_the_spaces(store: Store) -> None:
    line = demo.FAMILIES["lexicon"](store, False, False, ENGLISH)
    assert line.verdict.startswith("holds")
    assert line.drawing[1].replace(" ", "") == line.drawing[0]


# ---- texts, pictures, Python --------------------------------------------------------------------------------------


def test_standard_input_is_kept_and_texts_are_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes("好\n天气".encode("utf-16"))
    with (tmp_path / "in.txt").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        texts = Texts(Request(("-",)))
    assert ["".join(texts), "".join(texts)] == ["好\n天气"] * 2
    assert (texts.n_characters, texts.n_bytes) == (4, 10)
    assert texts.beginning(3) == "好\n天"


def test_without_a_font_ranks_stand_for_words(tmp_path: Path) -> None:
    said: list[str] = []
    lexicon = mine_lexicon(TEXT)
    assert ranks_picture(lexicon, said.append, fonts=[tmp_path]).size == lengths_picture(lexicon).size
    assert said == [HINT]
    curve = bits_curve(beginning_merges(Texts(Request(("pydoc",))), Policy(latin="each"))[0])
    assert merges_picture(curve, curve[0][1]).size == lengths_picture(lexicon).size


def test_python_takes_paths_names_and_texts() -> None:
    assert taolu_module.mine_lexicon([TEXT], max_length=2).words == mine_lexicon(TEXT, max_length=2).words
    letters = taolu_module.mine_lexicon(["themanthedog"] * 30, policy=taolu_module.Policy(latin="each"), min_count=3)
    assert len(Segmenter(letters.scores).cut("thedog")) < 6
    with pytest.raises(ValueError, match="no such file; give a path, pydoc, pydoc_zh"):
        taolu_module.mine_lexicon(TEXT)


def test_tasks_and_names_are_offered_to_the_shell() -> None:
    assert complete(["mine", ""]) == ["apriori", "lexicon"]
    assert complete(["mine", "lexicon", ""]) == ["pydoc", "pydoc_zh"]
    assert complete(["lexicon", ""]) == ["diff", "score"]
    assert "--known" in complete(["mine", "lexicon", "--kn"])
