"""`taolu demo`: one short run of every family, one line each: what, number, verdict, seconds."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import mine_lexicon
from experiments.build import Say
from experiments.claims.lock import read_lock
from experiments.claims.record import Settings
from experiments.claims.runner import run as run_claims
from experiments.conduct import Conduct
from experiments.conduct import sweep as run_sweep
from experiments.config import resolve
from experiments.design import design_of
from experiments.load import load
from experiments.mine import Request, mine
from experiments.rule_report import arrow
from experiments.run import Label, Result, run
from experiments.store.location import Store
from experiments.store.read import history
from experiments.store.studies import latest, study_names
from experiments.words import ENGLISH, Words, padded
from mining.apriori import mine_itemsets
from mining.segment import Segmenter
from mining.sources import pydoc_words
from mining.stdlib import stdlib_baskets

RATES, SIZES, ALIKE = (0.08, 0.16, 0.32), (16, 32, 64), 0.1  # of the sweep, and how near equal lr / B come
LAG = 1.05  # one power step an update: the norms that a critic is divided by are a little behind its weights

# Quick ones: those that answer "Is a larger batch better?", and three that fail as written, beside their corrections.
SHOWN = (
    "5383-V2.1c",
    "5655-S1",
    "5655-S1.1",
    "5655-S1.1c",
    "5655-S6",
    "5655-S7c",
    "5655-S9.1c",
    "6051-L1.5",
    "6051-L1.5c",
    "6234-A2.3",
    "6234-A6.2",
    "6234-A6.2c",
)


@dataclass(frozen=True)
class Line:
    """One family's line.

    Args:
        what: was done.
        number: came out, with its unit.
        verdict: holds, fails or undetermined, and of what.
        seconds: wall time.
        drawing: rows of text below the line.
    """

    what: str
    number: str
    verdict: str
    seconds: float
    drawing: tuple[str, ...] = ()


def vae(store: Store, full: bool, colours: bool, words: Words = ENGLISH) -> Line:
    """A variational auto-encoder on real handwritten digits, and digits it made up."""
    started = time.perf_counter()
    # One thread: layers this small gain nothing from a second. Three times the shipped rate: sharper digits, sooner.
    overrides: dict[str, Any] = {"trainer.max_epochs": 300 if full else 60, "optimizer.lr": 3e-3, "threads": 1}
    overrides |= {"trainer.quality_every": 10, "trainer.quality.metrics": ["fid"]}
    config = resolve("vae", overrides=overrides)
    result = run(config, store=store, label=Label(tags={"demo": "vae"}))
    _check(result)
    curve = history(store, result.run_id, ["val/elbo"])["value"].to_numpy()
    quarters = [quarter.max() for quarter in np.array_split(curve, 4)]
    verdict = "holds" if quarters == sorted(quarters) else "fails"
    with np.load(result.folder / "latent.npz") as arrays:
        decoded = arrays["decoded"]
    columns = np.linspace(0, len(decoded) - 1, 7).round().astype(int)
    return Line(
        what=words("demo_vae", n=len(curve)),
        number=words("demo_vae_number", first=curve[0], last=curve[-1], fid=result.metrics["val/fid"]),
        verdict=words("demo_verdict", verdict=words(verdict), what=words("demo_vae_verdict")),
        seconds=time.perf_counter() - started,
        drawing=tuple(draw([decoded[row, column] for row in (0, -1) for column in columns], 7, colours)),
    )


def gan(store: Store, full: bool, colours: bool, words: Words = ENGLISH) -> Line:
    """A GAN whose critic's convolutions are divided by their norms, what the audit says of that, and digits it made."""
    started = time.perf_counter()
    overrides: dict[str, Any] = {"model.constraint": "sn_conv", "trainer.max_epochs": 120 if full else 30}
    overrides |= {"trainer.quality.metrics": ["fid"], "threads": 1}
    result = run(resolve("sngan", overrides=overrides), store=store, label=Label(tags={"demo": "gan"}))
    _check(result)
    lower, upper = result.metrics["lipschitz/lower"], result.metrics["lipschitz/upper"]
    verdict = "holds" if lower <= upper <= LAG else "fails"
    module: Any = load(result.run_id, store=store)
    images = ((module.sample(14)[:, 0] + 1) * 127.5).clamp(0, 255).byte().numpy()
    return Line(
        what=words("demo_gan", n=overrides["trainer.max_epochs"]),
        number=words("demo_gan_number", fid=result.metrics["val/fid"], low=lower, high=upper),
        verdict=words("demo_verdict", verdict=words(verdict), what=words("demo_gan_verdict", lag=LAG - 1)),
        seconds=time.perf_counter() - started,
        drawing=tuple(draw(list(images), 7, colours)),
    )


def gpt(store: Store, full: bool, colours: bool, words: Words = ENGLISH) -> Line:
    """A small GPT-2 that reads Python's own documentation from nothing, and how it then goes on."""
    started = time.perf_counter()
    steps = 1000 if full else 200
    overrides: dict[str, Any] = {
        "trainer.max_steps": steps,
        "schedule.steps": steps,
        "schedule.warmup_steps": steps // 5,
    }
    overrides |= {"model.n_layers": 2, "model.width": 128, "model.prompts": ["The "], "model.baselines": False}
    overrides |= {"trainer.val_check_interval": steps // 4, "trainer.limit_val_batches": 16, "threads": 1}
    overrides |= {"optimizer.lr": 4e-3}  # twice the shipped rate: a smaller model takes it, and is done sooner
    result = run(resolve("gpt2_pydoc", overrides=overrides), store=store, label=Label(tags={"demo": "gpt"}))
    _check(result)
    curve = history(store, result.run_id, ["val/bits_per_byte"])["value"].to_numpy()
    last = max((result.folder / "media" / "samples").glob("*.json"))
    [said] = json.loads(last.read_text(encoding="utf-8"))
    text = " ".join((said["prompt"] + said["text"]).split())
    verdict = "holds" if (np.diff(curve) < 0).all() else "fails"
    return Line(
        what=words("demo_gpt", n=steps),
        number=words("demo_gpt_number", first=curve[0], last=curve[-1]),
        verdict=words("demo_verdict", verdict=words(verdict), what=words("demo_gpt_verdict")),
        seconds=time.perf_counter() - started,
        drawing=(*textwrap.wrap(text, 100)[:3], ""),
    )


def paths(store: Store, full: bool, colours: bool, words: Words = ENGLISH) -> Line:
    """Which momenta cross the poor minimum of the function of kexue.fm/archives/6261; descent without any does not."""
    started = time.perf_counter()
    # To lr .03, where a step is still shorter than the poor minimum is wide: descent cannot leave by overshooting.
    overrides = {"model.lr_range": [1e-3, 0.03], "model.n_beta": 24 if full else 12, "threads": 1}
    length = {"data.steps": 1000 if full else 300, "trainer.max_epochs": 1}
    result = run(resolve("paths", overrides=overrides | length), store=store, label=Label(tags={"demo": "paths"}))
    _check(result)
    with np.load(result.folder / "paths.npz") as arrays:
        basin = arrays["basin"]  # (lr, beta), beta from 0 upwards
    reached = basin == 0
    verdict = "holds" if reached.any() and not reached[:, 0].any() else "fails"
    image = np.where(reached, 255, np.where(basin > 0, 60, 0)).astype(np.uint8).T[::-1]
    return Line(
        what=words("demo_paths", n=basin.size),
        number=words("demo_paths_number", share=reached.mean(), without=reached[:, 0].mean()),
        verdict=words("demo_verdict", verdict=words(verdict), what=words("demo_paths_verdict")),
        seconds=time.perf_counter() - started,
        drawing=tuple(draw([image], 1, colours)),
    )


def sweep(store: Store, full: bool, colours: bool, words: Words = ENGLISH) -> Line:
    """After equal passes over the data the loss is that of lr / B: the gradient flow has gone on for equally long."""
    started = time.perf_counter()
    content: dict[str, Any] = {
        "name": f"demo-{1 + sum(name.startswith('demo-') for name in study_names(store))}",
        "experiment": "classifier",
        "settings": {"model.network": "softmax", "trainer.max_epochs": 4, "trainer.accelerator": "cpu"},
        "space": {"data.batch_size": SIZES, "optimizer.lr": RATES},
        "sampler": "grid",
        "objectives": {"metric": "val/loss", "direction": "min"},
        "repeats": 4 if full else 1,
        "keep_best": 0,
    }
    label = Label(tags={"demo": "sweep"}, kind="sweep")
    found = run_sweep(design_of(content), Conduct(), store=store, label=label, say=lambda line: None)
    _check(found.run)
    cells: dict[float, dict[int, list[float]]] = {}  # lr / B -> seed -> losses
    for trial in latest(found.study.trials):
        ratio = round(trial.params["optimizer.lr"] / trial.params["data.batch_size"], 9)
        cells.setdefault(ratio, {}).setdefault(trial.params["seed"], []).append(trial.values[0])
    groups = [losses for seeds in cells.values() for losses in seeds.values()]
    apart = max(max(losses) / min(losses) for losses in groups) - 1
    ends = [loss for losses in groups for loss in losses]
    verdict = "holds" if apart <= ALIKE else "fails"
    return Line(
        what=words("demo_sweep", n=len(ends)),
        number=words("demo_sweep_number", apart=apart, most=max(ends) / min(ends)),
        verdict=words("demo_verdict", verdict=words(verdict), what=words("demo_sweep_verdict", least=ALIKE)),
        seconds=time.perf_counter() - started,
    )


def rules(store: Store, full: bool, colours: bool, words: Words = ENGLISH) -> Line:
    """Which modules the standard library imports together, and the article's own algorithm beside the quick one."""
    started = time.perf_counter()
    mined = mine(Request("stdlib"), store=store, label=Label(tags={"demo": "rules"}), say=lambda line: None)
    _check(mined.result)
    found = [dict(mine_itemsets(stdlib_baskets(), 0.03, method=method)) for method in ("fast", "article")]
    verdict = "holds" if found[0] == found[1] else "fails"
    return Line(
        what=words("demo_rules", n=mined.plain["baskets"]),
        number=words("demo_rules_number", itemsets=mined.plain["itemsets"], rules=mined.plain["rules"]),
        verdict=words("demo_verdict", verdict=words(verdict), what=words("demo_rules_verdict")),
        seconds=time.perf_counter() - started,
        drawing=(*(f"{arrow(row)}  ({row['confidence']:.0%})" for row in mined.plain["best"][:3]), ""),
    )


def lexicon(store: Store, full: bool, colours: bool, words: Words = ENGLISH) -> Line:
    """The words of an English text without its spaces, found without a dictionary, and a sentence cut by them."""
    started = time.perf_counter()
    request = mine_lexicon.Request(("pydoc",))
    mined = mine_lexicon.mine(request, store=store, label=Label(tags={"demo": "lexicon"}), say=lambda line: None)
    _check(mined.result)
    bits = mined.plain["facts"]["bits_per_character"]
    borders = mined.plain["score"]["border_f"]
    sentence = next("".join(line) for line in pydoc_words() if sum(map(len, line)) > 70)
    verdict = "holds" if borders >= 0.8 else "fails"
    return Line(
        what=words("demo_lexicon"),
        number=words("demo_lexicon_number", n=mined.plain["words"], **bits),
        verdict=words("demo_verdict", verdict=words(verdict), what=words("demo_lexicon_verdict", f=borders)),
        seconds=time.perf_counter() - started,
        drawing=(sentence[:100], " ".join(Segmenter.load(mined.result.folder).cut(sentence[:100])), ""),
    )


def claims(store: Store, full: bool, colours: bool, words: Words = ENGLISH) -> Line:
    """Statements of the articles put to the test, three of which fail as they are written."""
    started = time.perf_counter()
    names = ["5383", "5525", "5655", "6051", "6234"] if full else list(SHOWN)
    findings = run_claims(names, Settings(), store, lambda line: None)
    verdicts = {finding.claim.id: finding.decision.verdict for finding in findings}
    found = list(verdicts.values())
    locked = read_lock()
    verdict = "holds" if all(locked.get(claim) == word for claim, word in verdicts.items()) else "fails"
    return Line(
        what=words("demo_claims", n=len(verdicts)),
        number=words("demo_claims_number", holds=found.count("holds"), fails=found.count("fails")),
        verdict=words("demo_verdict", verdict=words(verdict), what=words("demo_claims_verdict")),
        seconds=time.perf_counter() - started,
    )


def _check(result: Result) -> None:
    if result.status != "FINISHED":
        raise RuntimeError(
            f"demo run {result.run_id[:8]} ended {result.status}: {result.error}; see taolu show {result.run_id[:8]}"
        )


FAMILIES: dict[str, Callable[[Store, bool, bool, Words], Line]] = {
    "vae": vae,
    "gan": gan,
    "gpt": gpt,
    "paths": paths,
    "sweep": sweep,
    "rules": rules,
    "lexicon": lexicon,
    "claims": claims,
}


def demo(store: Store, say: Say, *, full: bool = False, colours: bool = False, words: Words = ENGLISH) -> list[Line]:
    """Every family's line, said as it comes.

    Args:
        store: the runs go there.
        say: prints one line.
        full: the longer form, up to 5 minutes.
        colours: draw with terminal colours.
        words: of the language.
    """
    lines = []
    for family in FAMILIES.values():
        line = family(store, full, colours, words)
        cells = [padded(line.what, 34), padded(line.number, 44), padded(line.verdict, 42)]
        say("  ".join([*cells, f"{line.seconds:5.1f} s"]))
        for row in line.drawing:
            say(row)
        lines.append(line)
    return lines


def draw(images: list[np.ndarray], columns: int, colours: bool) -> list[str]:
    """Rows of text showing grey images beside each other, bright on dark.

    Args:
        images: uint8 (H, W) each, equal sizes.
        columns: images in a row.
        colours: two pixels a character with terminal colours; else one pixel in two characters of rising ink.
    """
    rows = []
    for start in range(0, len(images), columns):
        strip = np.concatenate([np.pad(image, ((0, 0), (0, 1))) for image in images[start : start + columns]], axis=1)
        rows += _blocks(strip) if colours else _ink(strip)
        rows.append("")
    return rows


def _ink(strip: np.ndarray) -> list[str]:
    levels = " .:-=+*#%@"
    return ["".join(levels[int(pixel) * len(levels) // 256] * 2 for pixel in row).rstrip() for row in strip]


def _blocks(strip: np.ndarray) -> list[str]:
    strip = np.pad(strip, ((0, len(strip) % 2), (0, 0)))
    return [
        "".join(f"\x1b[38;5;{_grey(top)};48;5;{_grey(bottom)}m▀" for top, bottom in zip(upper, lower, strict=True))
        + "\x1b[0m"
        for upper, lower in zip(strip[::2], strip[1::2], strict=True)
    ]


def _grey(pixel: int) -> int:
    return 232 + int(pixel) * 24 // 256  # the 24 greys of the 256-colour palette
