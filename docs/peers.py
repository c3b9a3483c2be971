"""The tables that compare, from what `make bench` committed in benchmarks/results/: costs, peers, optimizers, GANs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Language = Literal["en", "zh"]
Said = dict[Language, str]
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
FILES = ("logging_cost", "vae", "gan", "gpt2_train", "gpt2_generate", "apriori", "lexicon", "dashboard", "optimizers")
MINERS = ("pyfim", "rusket", "mlxtend", "efficient")
METHODS = ("gan_plain", "wgan", "wgan_gp", "sngan")
LOOP: Said = {"en": "plain PyTorch loop, nothing recorded", "zh": "普通 PyTorch 循环，不做记录"}
TRICKS: Said = {"en": "that loop, with all that can be saved", "zh": "该循环，能省的都省"}


@dataclass(frozen=True)
class Duel:
    """One comparison.

    Args:
        what: was done, by language.
        ours: our figure with its unit.
        peer: who else did it; the same word in both languages where it is a name.
        theirs: the peer's figure.
        times: how many times as quick we are, one figure a setting.
    """

    what: Said
    ours: str
    peer: str | Said
    theirs: str
    times: tuple[float, ...]

    def row(self, language: Language) -> str:
        """The line of the table; bold where the peer is the quicker one."""
        peer = self.peer if isinstance(self.peer, str) else self.peer[language]
        ratio = times(statistics.median(self.times))
        if len(self.times) > 1:
            ratio += f" ({short(min(self.times))} – {short(max(self.times))})"
        return f"| {self.what[language]} | {self.ours} | {peer} | {self.theirs} | {ratio} |"


def read(name: str) -> Any:
    """The committed result of this benchmark."""
    return json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))


def short(value: float) -> str:
    """Two digits that count, never an exponent.

    >>> short(221.3), short(9.97), short(0.5)
    ('221', '10', '0.50')
    """
    return f"{value:.2f}" if value < 0.995 else f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def times(ratio: float) -> str:
    """How many times as quick, bold where that is slower.

    >>> times(18.22), times(0.9967), times(0.73)
    ('18', '1.0', '**0.73**')
    """
    return f"**{short(ratio)}**" if ratio < 0.995 else short(ratio)


def both(english: str, chinese: str) -> Said:
    """The two by language."""
    return {"en": english, "zh": chinese}


# ---- costs of tracking ----------------------------------------------------------------------------------------------


def costs(language: Language) -> str:
    """Milliseconds a step of what records nothing, little or all of it."""
    lines = [
        both("| what | training thread | whole process |", "| 内容 | 训练线程 | 整个进程 |")[language],
        "|---|---|---|",
    ]
    rows = read("logging_cost")["rows"]
    for name, what in {
        "taolu": both(
            "8 values on every step, over recording nothing: taolu", "每步记 8 个值，相对于什么都不记：taolu"
        ),
        "MLFlowLogger": both("the same, Lightning's MLFlowLogger", "同上，Lightning 的 MLFlowLogger"),
        "CSVLogger": both("the same, Lightning's CSVLogger", "同上，Lightning 的 CSVLogger"),
    }.items():
        more = (f"{rows[name][f'{part}_ms_over_nothing']:+.2f}" for part in ("thread", "process"))
        lines.append(f"| {what[language]} | {' | '.join(more)} |")
    found = read("vae")
    large, small = (found["rows"][size] for size in ("784 pixels", "64 pixels (digits)"))
    pythae = found["versions"]["pythae"]
    for name, what in {
        "plain": both(
            "a VAE step: plain PyTorch loop, torch's default Adam, nothing recorded",
            "VAE 的一步：普通 PyTorch 循环，torch 默认 Adam，不做记录",
        ),
        "fused": both("the same loop, fused Adam", "同一循环，fused Adam"),
        "flushed": both(
            "the same loop, fused Adam, denormal numbers taken as 0", "同一循环，fused Adam，非规格化数当作 0"
        ),
        "tracked": both("a VAE step: taolu's run", "VAE 的一步：taolu 的运行"),
        "pythae": both(f"a VAE step: pythae {pythae}'s trainer", f"VAE 的一步：pythae {pythae} 的训练器"),
    }.items():
        parts = (f"{large[name][key]:.2f} ({small[name][key]:.2f})" for key in ("thread_ms", "process_ms"))
        lines.append(f"| {what[language]} | {' | '.join(parts)} |")
    return "\n".join(lines)


# ---- peers ----------------------------------------------------------------------------------------------------------


def performance(language: Language) -> str:
    """Everything that was measured beside somebody else's program, the machine and the versions."""
    head = both("| what | taolu | peer | its figure | times as quick |", "| 内容 | taolu | 对手 | 对手的数 | 快几倍 |")
    makers: tuple[Callable[[], Iterator[Duel]], ...] = (_recording, _vae, _gan, _gpt2, _mining, _pages)
    rows = [duel.row(language) for make in makers for duel in make()]
    return "\n".join([head[language], "|---|---|---|---|---|", *rows, "", _machine(language)])


def _machine(language: Language) -> str:
    found = [read(name) for name in FILES]
    machines = {f"{each['machine']['processor']}, {each['machine']['cores']}" for each in found}
    versions = {name: version for each in found for name, version in each["versions"].items()}
    packages = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    cores = both("cores", "核")[language]
    return f"<sub>{'; '.join(f'{machine} {cores}' for machine in sorted(machines))}; {packages}</sub>"


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 99.5 else f"{value:.0f} ms"


def _seconds(*values: float) -> str:
    """The value, or the range of several."""
    ends = dict.fromkeys(f"{value:.3f}" if value < 0.0995 else f"{value:.2f}" for value in (min(values), max(values)))
    return f"{' – '.join(ends)} s"


def _recording() -> Iterator[Duel]:
    """What recording adds to a step."""
    rows = read("logging_cost")["rows"]
    what, ours = both("recording 8 values on every step", "每步记录 8 个值"), rows["taolu"]["process_ms_over_nothing"]
    for name in ("MLFlowLogger", "CSVLogger"):
        theirs = rows[name]["process_ms_over_nothing"]
        yield Duel(what, _milliseconds(ours), f"Lightning {name}", _milliseconds(theirs), (theirs / ours,))


def _vae() -> Iterator[Duel]:
    """A VAE's step and its likelihood."""
    found = read("vae")
    for size, what in {
        "784 pixels": both("a VAE step, 784 pixels, everything recorded", "VAE 一步，784 像素，全部记录"),
        "64 pixels (digits)": both("a VAE step, 64 pixels, everything recorded", "VAE 一步，64 像素，全部记录"),
    }.items():
        yield from _steps(what, found["rows"][size], {"pythae": "pythae", "plain": LOOP, "flushed": TRICKS})
    rows = found["nll"]
    what = both("-ln p(x) of a VAE by importance sampling", "用重要性采样估计 VAE 的 -ln p(x)")
    ours, theirs = (_seconds(rows[name]["seconds"]) for name in ("ours", "pythae"))
    yield Duel(what, ours, "pythae", theirs, (rows["pythae"]["times_ours"],))


def _gan() -> Iterator[Duel]:
    """A GAN's step."""
    what = both("an SN-GAN step, everything recorded", "SN-GAN 一步，全部记录")
    mimicry = both("as torch_mimicry does it", "torch_mimicry 的做法")
    yield from _steps(what, read("gan")["rows"], {"mimicry": mimicry, "plain": LOOP, "tricks": TRICKS})


def _steps(what: Said, rows: dict[str, dict[str, float]], others: dict[str, str | Said]) -> Iterator[Duel]:
    """The row `tracked` beside the others; ratios of the rounds where the benchmark took them, else of the medians."""
    ours = rows["tracked"]
    for name, peer in others.items():
        theirs = rows[name]["process_ms"]
        ratio = ours.get(f"process_ms_over_{name}", ours["process_ms"] / theirs)
        yield Duel(what, _milliseconds(ours["process_ms"]), peer, _milliseconds(theirs), (1 / ratio,))


def _gpt2() -> Iterator[Duel]:
    """A GPT-2's step, then tokens a second with a cache."""
    what = both("a GPT-2 step, everything recorded", "GPT-2 一步，全部记录")
    rows = read("gpt2_train")["rows"]
    for name, loop in {
        "taolu, over the bare loop": both("bare loop over transformers' GPT-2", "transformers 的 GPT-2，裸循环"),
        "taolu, over the bare loop with gelu in one operation": both(
            "that loop, gelu in one operation", "该循环，gelu 为单个算子"
        ),
    }.items():
        ours, theirs = (_milliseconds(rows[name][key]) for key in ("ms", "bare_ms"))
        yield Duel(what, ours, loop, theirs, (1 / rows[name]["ratio"],))
    yield from _generating()


def _generating() -> Iterator[Duel]:
    """Tokens a second with a cache."""
    for architecture, rows in read("gpt2_generate")["rows"].items():
        name = {"gpt2": "GPT-2", "gpt2_ml": "GPT2_ML"}[architecture]
        for batch, row in rows.items():
            what = both(f"tokens of {name} a second, batch {batch}", f"{name} 每秒生成的词数，批大小 {batch}")
            ours, theirs = (f"{row[f'{who}_tokens_per_second']:,.0f}" for who in ("taolu", "transformers"))
            yield Duel(what, ours, "transformers", theirs, (row["ratio"],))


def _mining() -> Iterator[Duel]:
    """Itemsets, rules and words: every data set and threshold that both did."""
    rows = read("apriori")["rows"]
    for miner, peer in (*(("taolu", peer) for peer in MINERS), ("taolu-numba", "pyfim")):
        yield _over_settings(rows, "itemsets", miner, peer)
    for peer in ("rusket", "mlxtend"):
        yield _over_settings(rows, "rules", "taolu", peer)
    found = {row["name"]: row for row in read("lexicon")["rows"] if row["size"] == 12.0}
    what = both("words of 12 MB of Chinese", "从 12 MB 中文找词")
    ours = found["taolu"]["seconds"]
    for peer in ("sentencepiece", "eleve"):
        theirs = found[peer]["seconds"]
        yield Duel(what, _seconds(ours), peer, _seconds(theirs), (theirs / ours,))


def _over_settings(rows: list[dict[str, Any]], kind: str, miner: str, peer: str) -> Duel:
    """The two over all data sets and supports that both were given."""
    cells = [row["results"] for row in rows if row["kind"] == kind]
    pairs = [(cell[miner]["seconds"], cell[peer]["seconds"]) for cell in cells if cell.get(miner) and cell.get(peer)]
    ours, theirs = ([pair[i] for pair in pairs] for i in (0, 1))
    numba = " [numba]" if miner == "taolu-numba" else ""
    what = {
        "itemsets": both(f"frequent itemsets{numba}, {len(pairs)} settings", f"频繁项集{numba}，{len(pairs)} 种设置"),
        "rules": both(f"association rules, {len(pairs)} settings", f"关联规则，{len(pairs)} 种设置"),
    }[kind]
    name = {"efficient": "efficient-apriori", "pyfim": "pyfim (C)", "rusket": "rusket (Rust)"}.get(peer, peer)
    return Duel(what, _seconds(*ours), name, _seconds(*theirs), tuple(b / a for a, b in pairs))


def _pages() -> Iterator[Duel]:
    """The dashboard over 10,000 runs."""
    found = read("dashboard")
    ours, theirs = found["table_seconds"], found["search_runs_seconds"]
    what = both("reading a table of 10,000 runs", "读出一万次运行的表")
    yield Duel(what, _seconds(ours), "MLflow search_runs", _seconds(theirs), (found["table_over_search_runs"],))
    what = both("opening the page of 10,000 runs", "打开一万次运行的页面")
    cost = {name: sum(parts.values()) for name, parts in found["page_seconds"].items()}
    empty = both("Streamlit's emptiest page", "Streamlit 最空的页面")
    for name, peer in (("mlflow", "MLflow UI"), ("hello", empty)):
        ratio = 1 / found[f"page_over_{name}"]
        yield Duel(what, _seconds(cost["taolu"]), peer, _seconds(cost[name]), (ratio,))


# ---- optimizers, GANs -----------------------------------------------------------------------------------------------


def optimizers(language: Language) -> str:
    """Milliseconds of a step over ten million parameters beside the quickest path of the peer."""
    rows = read("optimizers")["rows"]
    head = both("| optimizer | 1 tensor | 138 tensors | 1,200 tensors |", "| 优化器 | 1 个张量 | 138 个 | 1,200 个 |")
    lines = [head[language], "|---|---|---|---|"]
    for name, row in rows["1"].items():
        torch_name = next((key.split()[0] for key in row["ms"] if key.startswith("torch.")), "")
        peer = "torch" if torch_name else "pytorch_optimizer"
        cells = []
        for layout in rows.values():
            measured = layout[name]
            theirs = min(ms for key, ms in measured["ms"].items() if key.startswith(torch_name or peer))
            quick = times(1 / measured[f"ours_over_{peer}"])
            cells.append(f"{measured['ms']['ours']:.1f} : {theirs:.1f}, {quick}")
        lines.append(f"| `{name}` : {torch_name or peer} | {' | '.join(cells)} |")
    return "\n".join(lines)


# ---- scale ----------------------------------------------------------------------------------------------------------


def scale(language: Language) -> str:
    """What two processes give over one, and what a trial on a server costs beside its training."""
    found = read("scale")
    sweep, counting, vae = found["sweep"]["throughput"], found["mining"]["counting"], found["training"]["vae"]
    rows = (
        (both("trials of a sweep a second, PostgreSQL", "扫描每秒的试验数，PostgreSQL"), sweep, "trials_a_second_", ""),
        (both("MB of text counted a second", "每秒计数的文本（MB）"), counting, "megabytes_a_second_", ""),
        (both("the same, two workers of Dask", "同上，Dask 的两个工作者"), counting, "megabytes_a_second_", "_of_dask"),
        (both("images a second, convolutional VAE, ddp", "每秒的图像数，卷积 VAE，ddp"), vae, "images_a_second_", ""),
    )
    lines = [
        both("| what | one process | two | speed-up |", "| 内容 | 一个进程 | 两个 | 加速 |")[language],
        "|---|---|---|---|",
    ]
    for what, figures, key, kind in rows:
        if isinstance(figures, str):  # the machine was not idle
            lines.append(f"| {what[language]} | {both('not measured', '未测')[language]} | | |")
            continue
        one, two, ratio = figures[f"{key}1"], figures[f"{key}2{kind}"], figures[f"speed_up{kind}"]
        lines.append(f"| {what[language]} | {short(one)} | {short(two)} | {short(ratio)} |")
    lines += [
        "",
        both(
            "| beside the training of a trial, PostgreSQL | worker | server |",
            "| 一个试验在训练之外，PostgreSQL | 工作者 | 服务器 |",
        )[language],
        "|---|---|---|",
    ]
    names = {
        "grid": both("a grid", "网格"),
        "tpe": both("TPE, pruned, its own computing included", "TPE，带剪枝，含其自身的计算"),
        "random_of_1000": both("random, pruned, 1,000 trials before", "随机，带剪枝，之前已有 1,000 个试验"),
    }
    for name, what in names.items():
        each = found["sweep"]["coordination"][name]
        lines.append(f"| {what[language]} | {each['client_ms']:.0f} ms | {each['server_ms']:.0f} ms |")
    return "\n".join(lines)


def gan_quality(language: Language) -> str:
    """What each GAN came to in equal processor time, with intervals over the seeds."""
    found = read("gan_quality")
    head = both(
        "| experiment | steps | FID | KID | recall | coverage |", "| 实验 | 步数 | FID | KID | 召回率 | 覆盖率 |"
    )
    lines = [head[language], "|---|---|---|---|---|---|"]
    for name in METHODS:
        cells = []
        for key, digits in (("fid", 1), ("kid", 2), ("recall", 2), ("coverage", 2)):
            mean, low, high = (found["summary"][name][key][part] for part in ("mean", "low", "high"))
            cells.append(f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        lines.append(f"| `{name}` | {found['steps'][name]:,} | {' | '.join(cells)} |")
    return "\n".join(lines)
