"""The tables of the READMEs and of docs/, from committed JSON: `make tables`.

A table stands between two lines `<!-- NAME -->`; what is written there by hand is replaced. `--claims STORE` first
takes results/claims.json anew from a store in which `taolu claims run` ran, `--demo STORE` results/demo.json from one
that `taolu demo` filled; the benchmarks write their own, in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import peers
from peers import Language, Said, both

from experiments.claims.registry import Claim, all_claims
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.store.files import write_text
from experiments.store.location import Store, locate
from experiments.store.questions import QUESTIONS, answer
from experiments.store.read import RunRecord, find_run, read_run
from experiments.store.verdicts import current, read_evidence
from experiments.store.words import SHARED
from experiments.store.write import as_text

ROOT = Path(__file__).resolve().parents[1]
CLAIMS, DEMO = (ROOT / "docs/results" / name for name in ("claims.json", "demo.json"))
PHRASES = ROOT / "experiments/store/phrases.zh.json"
SUBJECTS = {
    5383: both("Why a variational auto-encoder works", "变分自编码器为什么能成"),
    5448: both("Minimum entropy as a principle of learning", "最小熵原理：无监督学习"),
    5476: both("Minimum entropy finds words", "最小熵原理：词库构建"),
    5525: both("Apriori in NumPy", "用 NumPy 实现 Apriori"),
    5655: both("Optimisers as dynamics: SGD, momentum, Nesterov", "优化算法的动力学：SGD、动量、Nesterov"),
    6051: both("Lipschitz constraints: robustness and GANs", "Lipschitz 约束：稳健性与 GAN"),
    6234: both("Optimisers as dynamics: adaptive rates", "优化算法的动力学：自适应学习率"),
    7292: both("A Chinese GPT-2 to fine-tune", "中文 GPT-2 及其微调"),
}
# Experiment of the demo -> what it did and what came out; figures are the run's metrics.
FAMILIES: dict[str, tuple[Said, Said]] = {
    "vae": (
        both("VAE, 2 latent numbers, digits, 60 epochs", "VAE，二维潜变量，digits，60 轮"),
        both("ELBO {val/elbo:.2f} nats an image", "ELBO {val/elbo:.2f} 奈特/图"),
    ),
    "sngan": (
        both("SN-GAN, digits, 30 epochs", "SN-GAN，digits，30 轮"),
        both(
            "FID {val/fid:.1f}, critic's Lipschitz constant {lipschitz/lower:.2f} to {lipschitz/upper:.2f}",
            "FID {val/fid:.1f}，判别器的 Lipschitz 常数 {lipschitz/lower:.2f} 至 {lipschitz/upper:.2f}",
        ),
    ),
    "mine-lexicon": (
        both("words of English without its spaces", "从去掉空格的英文中找词"),
        both(
            "{lexicon/words:,.0f} words, F of borders {score/border_f:.2f}",
            "{lexicon/words:,.0f} 个词，边界 F 值 {score/border_f:.2f}",
        ),
    ),
    "mine-apriori": (
        both("imports of {baskets:.0f} modules", "{baskets:.0f} 个模块的导入"),
        both("{itemsets:,.0f} itemsets, {rules:,.0f} rules", "{itemsets:,.0f} 个项集，{rules:,.0f} 条规则"),
    ),
}
MINERS = {"mine-lexicon": "taolu mine lexicon", "mine-apriori": "taolu mine apriori stdlib"}
PACKAGES = ("taolu", "torch", "numpy", "scipy", "scikit_learn", "pytorch_lightning")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every table is as the figures have it; 2, after one line that says why, when it cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--claims", metavar="STORE", help="a store in which `taolu claims run` ran")
    parser.add_argument("--demo", metavar="STORE", help="a store that `taolu demo` filled")
    asked = parser.parse_args(arguments)
    try:
        for path, place, figures in ((CLAIMS, asked.claims, claims_figures), (DEMO, asked.demo, demo_figures)):
            if place:
                write_text(path, json.dumps(figures(locate(place)), ensure_ascii=False, indent=1) + "\n")
        for path, text in pages().items():
            write_text(path, text)
    except ConfigError as error:
        sys.stderr.write(f"tables: {error}\n")
        return 2
    return 0


# ---- pages ----------------------------------------------------------------------------------------------------------


def pages() -> dict[Path, str]:
    """Every page -> its text with the tables of the committed figures.

    Raises ConfigError for a marker that no table has, or that stands alone.
    """
    found = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {path: filled(path.read_text(encoding="utf-8"), path) for path in found}


def filled(text: str, path: Path) -> str:
    """The text of this page with each table in its place."""
    language: Language = "zh" if path.name.endswith(".zh.md") else "en"
    folder = "docs/" if path.parent == ROOT else ""
    blocks: dict[str, Callable[[], str]] = {
        "results": lambda: results(language),
        "claims": lambda: articles(language, folder),
        "environment": lambda: environment(language),
        "costs": lambda: peers.costs(language),
        "performance": lambda: peers.performance(language),
        "optimizers": lambda: peers.optimizers(language),
        "gan_quality": lambda: peers.gan_quality(language),
        "scale": lambda: peers.scale(language),
    } | {key: lambda key=key: question(key, language) for key in QUESTIONS}
    names = re.findall(r"^<!-- (\S+) -->$", text, flags=re.M)
    for name in dict.fromkeys(names):
        if name not in blocks or names.count(name) != 2:
            raise ConfigError(
                f"{path.name}: marker '<!-- {name} -->' must name a table and stand twice; {', '.join(blocks)}"
            )
        head, _, tail = text.split(f"<!-- {name} -->\n")
        text = f"<!-- {name} -->\n".join((head, f"{blocks[name]()}\n", tail))
    return text


def table(head: str, rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *(f"| {' | '.join(row)} |" for row in rows)])


@cache
def read(path: Path) -> Any:
    """The JSON of this file."""
    return json.loads(path.read_text(encoding="utf-8"))


# ---- claims ---------------------------------------------------------------------------------------------------------


def claims_figures(store: Store) -> dict[str, Any]:
    """What the newest run of every claim measured, and the machine.

    Raises ConfigError where a claim has not been run, was run with another seed or effort, or on another machine.
    """
    runs = current(store)
    missing = [claim.id for claim in all_claims() if claim.id not in runs]
    if missing:
        raise ConfigError(f"{store.label}: {len(missing)} claims not run, {missing[0]} first; run: taolu claims run")
    rows, machines = {}, {}
    for claim in all_claims():
        evidence = read_evidence(store, runs[claim.id].run_id)
        if evidence is None or (evidence["seed"], evidence["effort"]) != (0, "quick"):
            raise ConfigError(
                f"{store.label}: {claim.id} has no evidence of seed 0, effort quick; run: taolu claims run"
            )
        rows[claim.id] = {
            "article": claim.article,
            **{
                key: evidence[key]
                for key in ("statistic", "rule", "expected", "tolerance", "n", "verdict", "seed", "effort")
            },
            **{key: _figure(evidence[key]) for key in ("estimate", "ci_low", "ci_high", "p")},
            "seconds": round(evidence["seconds"], 2),
        }
        machine = _machine(store.run_folder(runs[claim.id].run_id))
        machines[json.dumps(machine)] = machine
    if len(machines) > 1:
        raise ConfigError(
            f"{store.label}: claims of {len(machines)} machines or versions; run all on one: taolu claims run"
        )
    return {**machines.popitem()[1], "claims": rows}


def _figure(value: float | str) -> float | None:
    """Six digits that count; None for what is not a number."""
    return None if isinstance(value, str) else float(f"{value:.6g}")


def _machine(folder: Path) -> dict[str, Any]:
    """Machine and versions of a run."""
    found = json.loads((folder / "env.json").read_text(encoding="utf-8"))
    packages = {name: found["packages"][name] for name in PACKAGES if name in found["packages"]}
    return {
        "machine": {key: found[key] for key in ("platform", "processor", "cores")},
        "versions": {"python": found["python"], **packages},
    }


def question(key: str, language: Language) -> str:
    """The answer to a question, and the table of its claims."""
    measured = read(CLAIMS)["claims"]
    claims = [claim for claim in all_claims() if claim.question == key]
    said = answer(QUESTIONS[key], {claim.id: measured[claim.id]["verdict"] for claim in claims}, language)
    head = both("| claim | statement | claimed | measured | verdict |", "| 命题 | 陈述 | 预期 | 测得 | 判定 |")
    rows = [
        (
            claim.id.partition("-")[2],
            f"{escaped(claim.statement if language == 'en' else claim.statement_zh)}<br>{small(claim, language)}",
            band(claim),
            figure(measured[claim.id]),
            verdict(measured[claim.id]["verdict"], language),
        )
        for claim in claims
    ]
    return f"> {escaped(said)}\n\n{table(head[language], rows)}"


def small(claim: Claim, language: Language) -> str:
    """What the figure is, in small letters.

    Raises ConfigError where its Chinese name is missing.
    """
    name = str(read(CLAIMS)["claims"][claim.id]["statistic"])
    if language == "zh":
        if name not in (names := read(PHRASES)):
            raise ConfigError(f"{PHRASES.name}: lacks '{name}', of {claim.id}; add its Chinese name")
        name = str(names[name])
    return f"<sub>{escaped(name)}</sub>"


def band(claim: Claim) -> str:
    """Where the estimate must lie, in signs.

    >>> band(Claim("1-S1", 1, "", "", "", None, "at most", 0.5, 0.1, "", ""))
    '≤ 0.6'
    """
    if claim.rule == "equals":
        return f"{claim.expected:.6g}" + (f" ± {claim.tolerance:.4g}" if claim.tolerance else "")
    if claim.rule == "at most":
        return f"≤ {claim.expected + claim.tolerance:.6g}"
    return f"≥ {claim.expected - claim.tolerance:.6g}"


def figure(row: dict[str, Any]) -> str:
    """Estimate and 95 % interval; the estimate alone where it is exact; a dash where nothing was measured."""
    if row["estimate"] is None:
        return "–"
    interval = f" [{row['ci_low']:.4g}, {row['ci_high']:.4g}]" if row["ci_low"] != row["ci_high"] else ""
    return f"{row['estimate']:.4g}{interval}"


def verdict(word: str, language: Language) -> str:
    """The verdict, set off where it is not "holds"."""
    mark = {"holds": "", "fails": "**", "undetermined": "*"}[word]
    return f"{mark}{SHARED[language][word]}{mark}"


def escaped(text: str) -> str:
    r"""The text without Markdown's signs.

    >>> escaped("ln q(x|z) of F* < 1")
    'ln q(x\\|z) of F\\* \\< 1'
    """
    return re.sub(r"([\\|*_<~`$\[])", r"\\\1", text)


def articles(language: Language, folder: str) -> str:
    """How many of each article's statements hold, as written and as corrected, and what measuring them costs."""
    head = both(
        "| article | about | claims | hold as written | fail as written | hold corrected | undetermined | CPU s |",
        "| 文章 | 内容 | 命题数 | 原文成立 | 原文不成立 | 修正后成立 | 未定 | CPU 秒 |",
    )
    suffix = both(".md", ".zh.md")[language]
    rows = [
        (f"[{article}]({folder}{article}{suffix})", subject[language], *_counts(article))
        for article, subject in SUBJECTS.items()
    ]
    return table(head[language], [*rows, (both("all", "合计")[language], "", *_counts(*SUBJECTS))])


def _counts(*numbers: int) -> tuple[str, ...]:
    """Of the articles of these numbers: claims, verdicts by form, CPU-seconds."""
    measured = read(CLAIMS)["claims"]
    found = [(claim.form, measured[claim.id]["verdict"]) for claim in all_claims() if claim.article in numbers]
    counts = Counter(found)
    seconds = sum(row["seconds"] for row in measured.values() if row["article"] in numbers)
    return (
        str(len(found)),
        str(counts["as written", "holds"]),
        str(counts["as written", "fails"]),
        str(counts["corrected", "holds"]),
        str(sum(verdict == "undetermined" for _, verdict in found)),
        f"{seconds:.0f}",
    )


def environment(language: Language) -> str:
    """Where the claims were measured."""
    found = read(CLAIMS)
    machine, versions = found["machine"], ", ".join(f"{name} {value}" for name, value in found["versions"].items())
    cores = both("cores, one used", "核，用一个")[language]
    return f"<sub>{machine['platform']}, {machine['cores']} {cores}; {versions}</sub>"


# ---- the demo -------------------------------------------------------------------------------------------------------


def demo_figures(store: Store) -> dict[str, Any]:
    """What the demo's runs came to.

    Raises ConfigError where the store lacks one.
    """
    runs = {experiment: read_run(store, find_run(store, f"last:{experiment}")) for experiment in FAMILIES}
    return {
        **_machine(runs["vae"].folder),
        "runs": {
            experiment: {
                "metrics": {key: value for key, value in run.metrics.items() if _is_shown(experiment, key)},
                "seconds": round(run.seconds or 0.0, 1),
                "threads": int(run.params.get("threads", 1)),
                "again": again(experiment, run),
            }
            for experiment, run in runs.items()
        },
    }


def _is_shown(experiment: str, key: str) -> bool:
    return any(f"{{{key}:" in text["en"] for text in FAMILIES[experiment])


def again(experiment: str, run: RunRecord) -> str:
    """The command that does the run again: what differs from the shipped config, but for what only judges it."""
    if experiment in MINERS:
        return MINERS[experiment]
    shipped = {key: as_text(value) for key, value in resolve(experiment).flat().items()}
    differing = {key: value for key, value in run.params.items() if shipped.get(key) != value}
    kept = [word for key, value in differing.items() if "quality" not in key for word in (f"--{key}", value)]
    return shlex.join(["taolu", "run", experiment, *kept])


def results(language: Language) -> str:
    """A row a family of the demo."""
    head = both("| what | came out | seconds (threads) | again with |", "| 内容 | 结果 | 秒（线程数） | 重做的命令 |")
    rows = [
        (
            FAMILIES[experiment][0][language].format_map(run["metrics"]),
            FAMILIES[experiment][1][language].format_map(run["metrics"]),
            f"{run['seconds']:.1f} ({run['threads']})",
            f"`{run['again']}`",
        )
        for experiment, run in read(DEMO)["runs"].items()
    ]
    return table(head[language], rows)


if __name__ == "__main__":
    sys.exit(main())
