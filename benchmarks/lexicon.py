"""Lexicon mining beside its peers: CPU seconds and the peak of memory of a fresh process a cell, and what is found.

Run: python benchmarks/lexicon.py --corpus FILE [--peers eleve,sentencepiece] [--sizes 0.5,4] (FILE is UTF-8; sizes in
MB, and the whole file last). All peers get the text as taolu cuts it: in segments, a run of digits or letters as one
character. Agreement is with jieba's segmentation by its own dictionary (HMM off) of the first segments: no gold
standard, but the same for all. word-discovery (kexue.fm/archives/6920) has no row: of KenLM's counter it ships a
binary alone.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from measure import machine, median, versions

HERE = Path(__file__).resolve()
RESULTS = HERE.parent / "results" / "lexicon"
PEERS = ("sentencepiece", "eleve")
REPEATS, ENOUGH, PATIENCE = 3, 30.0, 1500  # rounds, CPU seconds of a cell after which they are enough, and of a process
N_JUDGED, N_TOP = 20_000, 10_000  # segments that are compared, and words that are looked up
VOCABULARY, LONGEST, N = 8000, 8, 4  # of sentencepiece's pieces, and of eleve's n-grams
Segment = Callable[[str], list[str]]


def read(source: str, megabytes: float) -> str:
    content = Path(source).read_bytes()
    return content[: int(megabytes * 1e6)].decode("utf-8", "ignore")


def segments(text: str) -> list[str]:
    """Segments of the text, a character a unit."""
    from mining.corpus import units
    from mining.scores import SHOWN

    found = units(text)
    shown = "".join(SHOWN.get(code) or chr(code) for code in found.codes.tolist())
    edges = found.starts.tolist()
    return [shown[begin:end] for begin, end in itertools.pairwise(edges)]


def taolu(text: str, _lines: list[str]) -> tuple[Segment, list[str]]:
    from mining.lexicon import mine_lexicon
    from mining.segment import Segmenter

    found = mine_lexicon(text)
    return Segmenter(found.scores).cut, [word for word in found.words if len(word) > 1]


def sentencepiece(_text: str, lines: list[str]) -> tuple[Segment, list[str]]:
    peer = import_module("sentencepiece")
    model = io.BytesIO()
    peer.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="unigram",
        vocab_size=VOCABULARY,
        max_sentencepiece_length=LONGEST,
        num_threads=1,
        add_dummy_prefix=False,
        minloglevel=2,
    )
    found = peer.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [found.id_to_piece(at).strip("\u2581") for at in range(3, len(found))]  # likely ones first
    return lambda line: list(found.encode(line, out_type=str)), [piece for piece in pieces if len(piece) > 1]


def eleve(_text: str, lines: list[str]) -> tuple[Segment, list[str]]:
    peer = import_module("eleve")
    storage = peer.MemoryStorage(N + 1)
    for line in lines:
        storage.add_sentence(list(line))
    storage.update_stats()
    segmenter = peer.Segmenter(storage, N)

    def cut(line: str) -> list[str]:
        return ["".join(token) for token in segmenter.segment(list(line))]

    counts = Counter(word for line in lines for word in cut(line) if len(word) > 1)
    return cut, [word for word, _ in counts.most_common()]


MINERS = {"taolu": taolu, "sentencepiece": sentencepiece, "eleve": eleve}


def cell(name: str, source: str, megabytes: float) -> dict[str, Any]:
    """In this process: CPU seconds from the text to its lexicon, the peak of memory, and what was found."""
    text = read(source, megabytes)
    lines = segments(text)
    start = time.process_time()
    cut, words = MINERS[name](text, lines)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row = {"seconds": seconds, "megabytes": round(peak), "words": len(words)}
    return row | judged(cut, words, lines[:N_JUDGED])


def judged(cut: Segment, words: list[str], lines: list[str]) -> dict[str, float]:
    """Share of the first words in jieba's dictionary, and F of tokens against jieba's; nothing where it is missing."""
    try:
        jieba = import_module("jieba")
    except ImportError:
        return {}
    from mining.segment import score

    jieba.setLogLevel(60)
    jieba.initialize()
    known = {word for word, count in jieba.dt.FREQ.items() if count}
    gold = [" ".join(jieba.cut(line, HMM=False)) for line in lines]
    ours = [" ".join(token.strip("\u2581") for token in cut(line)) for line in lines]
    top = words[:N_TOP]
    return {"known": sum(word in known for word in top) / len(top), "f": score(ours, gold).token_f}


def fresh(name: str, source: str, megabytes: float) -> dict[str, Any] | None:
    """A cell in a process of its own with one thread; None if it fails or takes too long."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **one, "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, str(HERE), "--cell", name, source, str(megabytes)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except subprocess.TimeoutExpired as error:
        print(name, str(error)[:200], file=sys.stderr)
        return None
    except subprocess.CalledProcessError as error:
        print(name, error.stderr[-300:], file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compared(names: list[str], source: str, megabytes: float) -> list[dict[str, Any]]:
    """A row a miner, taken in turns; the slow ones less often."""
    cells: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(REPEATS):
        for name, done in cells.items():
            if sum(each["seconds"] for each in done) < ENOUGH and (result := fresh(name, source, megabytes)):
                done.append(result)
    rows = []
    for name, done in cells.items():
        if done:
            seconds = median([each["seconds"] for each in done])
            rows.append({"name": name, "size": megabytes, "runs": len(done), **done[0], "seconds": seconds})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row a cell; CPU seconds, and how many times taolu's."""
    lines = [
        "| MB | miner | CPU s | times taolu's | MB/s | peak MB | words | top 10,000 in jieba's | F against jieba |",
        "|---" * 9 + "|",
    ]
    ours = {row["size"]: row["seconds"] for row in rows if row["name"] == "taolu"}
    for row in rows:
        size, seconds = row["size"], row["seconds"]
        times = f"{seconds / ours[size]:.1f}x" if size in ours else ""
        quality = [f"{row[name]:.3f}" if name in row else "" for name in ("known", "f")]
        speed = [f"{seconds:.2f}", times, f"{size / seconds:.2f}"]
        columns = [f"{size:g}", row["name"], *speed, row["megabytes"], row["words"]]
        lines.append("| " + " | ".join(map(str, [*columns, *quality])) + " |")
    return "\n".join(lines) + "\n"


def main(corpus: str, peers: list[str], sizes: list[float]) -> None:
    whole = round(Path(corpus).stat().st_size / 1e6, 3)
    rows = []
    for size in (*sizes, whole):
        names = ["taolu", *(peers if size == whole else [])]
        rows += compared(names, corpus, size)
        print(table(rows[-len(names) :]), flush=True)
    installed = versions("numpy", *(name for name in (*peers, "jieba")))
    text = {"corpus": Path(corpus).name, "machine": machine(), "versions": installed, "rows": rows}
    RESULTS.with_suffix(".json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cell"]:
        print(json.dumps(cell(sys.argv[2], sys.argv[3], float(sys.argv[4]))))
    else:
        parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
        parser.add_argument("--corpus", required=True, help="a UTF-8 text, Chinese")
        parser.add_argument("--peers", default=",".join(PEERS), help=f"some of {','.join(PEERS)}, or nothing")
        parser.add_argument("--sizes", default="", help="of taolu's further rows, in MB")
        given = parser.parse_args()
        sizes = [float(size) for size in given.sizes.split(",") if size]
        main(given.corpus, [peer for peer in given.peers.split(",") if peer], sizes)
