"""A step of each optimizer at 10 M parameters, as 1, 138 and 1,200 tensors: ours, its peers, and the naive loop.

    ours             `lightning_modules.optimizers`, defaults unless the name says otherwise
    torch.* loop     torch's namesake a tensor at a time; foreach: lists of tensors; fused: its kernel, if it has one
    pytorch_optimizer  the package of that name; left out, with the reason, where it is not installed
    naive            the equation as one would write it first: a tensor at a time, out of place

In turn in one process, medians of the rounds; ratios are medians of the ratios within a round. On a CPU processor time
of one thread; with --device cuda time on the wall between two waits. Writes results/optimizers.json, or
optimizers_cuda.json.
Imports only torch and lightning_modules, so that it runs where the rest is not installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from measure import machine, median, versions
from torch import Tensor

from lightning_modules.optimizers import OPTIMIZERS, build

STEPS = 2  # timed in a round, after one that brings the contender's memory back
BLOCK = [(768, 256), (768,), (256, 256), (256,), (1024, 256), (1024,), (256, 1024), (256,), *[(256,)] * 4]
LAYOUTS: dict[str, list[tuple[int, ...]]] = {
    "1": [(10_000_000,)],
    "138": [(3800, 256), (512, 256), (256,), (256,), *BLOCK * 11, (800, 256), (800,)],  # a small transformer
    "1200": [(128, 130), (128,)] * 600,
}
# ours over the quickest of these peers, at most; one figure for each layout
TARGETS: dict[str, tuple[str, tuple[float, float, float]]] = {
    "rmsprop": ("torch", (0.55, 1.0, 1.0)),
    "momentum": ("torch", (1.1, 1.1, 1.1)),
    "adam": ("torch", (1.05, 1.05, 1.05)),
    "lion": ("pytorch_optimizer", (0.5, 0.5, 0.5)),
    "tiger": ("pytorch_optimizer", (0.6, 0.6, 0.6)),
}
NAIVE_TARGET = 1.0  # of every optimizer and layout
LOOP, FOREACH, FUSED = {"foreach": False}, {"foreach": True}, {"fused": True}
TORCHS: dict[str, tuple[str, dict[str, Any], tuple[dict[str, Any], ...]]] = {
    "sgd": ("SGD", {"lr": 1e-3}, (LOOP, FOREACH, FUSED)),
    "momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}, (LOOP, FOREACH, FUSED)),
    "nesterov": ("SGD", {"lr": 1e-3, "momentum": 0.9, "nesterov": True}, (LOOP, FOREACH, FUSED)),
    "rmsprop": ("RMSprop", {"lr": 1e-3}, (LOOP, FOREACH)),
    "adagrad": ("Adagrad", {"lr": 1e-3}, (LOOP, FOREACH, FUSED)),
    "adam": ("Adam", {"lr": 1e-3}, (LOOP, FOREACH, FUSED)),
    "adafactor": ("Adafactor", {}, (LOOP, FOREACH)),
}
OTHERS = {"lion": "Lion", "tiger": "Tiger", "adafactor": "AdaFactor"}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "momentum": {"torch form": {"form": "torch"}},
    "nesterov": {"half": {"form": "half"}},
    "rmsprop": {"epsilon outside": {"epsilon_place": "outside"}, "scalar": {"scale": "scalar"}},
    "adam": {"epsilon inside": {"epsilon_place": "inside"}},
}


def naive_update(name: str, n: int, p: Tensor, g: Tensor, s: dict[str, Tensor]) -> Tensor | None:
    """The new parameter after step n by the equation as it stands; `s` holds what is kept; None if not written here."""
    if name == "sgd":
        return p - 1e-3 * g
    if name == "momentum":
        s["v"] = 0.9 * s["v"] - 1e-3 * g
        return p + s["v"]
    if name == "nesterov":
        s["v"] = 0.9 * s["v"] - 1e-3 * g
        return p + 0.9 * s["v"] - 1e-3 * g
    if name == "rmsprop":
        s["G"] = 0.99 * s["G"] + 0.01 * g * g
        return p - 1e-3 * g / (s["G"] + 1e-8).sqrt()
    if name == "adagrad":
        s["G"] = s["G"] + g * g
        return p - 1e-3 * g / (s["G"].sqrt() + 1e-10)
    if name == "adam":
        s["v"] = 0.9 * s["v"] + 0.1 * g
        s["G"] = 0.999 * s["G"] + 0.001 * g * g
        return p - 1e-3 * (s["v"] / (1 - 0.9**n)) / ((s["G"] / (1 - 0.999**n)).sqrt() + 1e-8)
    if name == "lion":
        p = p - 1e-4 * (0.9 * s["v"] + 0.1 * g).sign()
        s["v"] = 0.99 * s["v"] + 0.01 * g
        return p
    if name == "tiger":
        s["v"] = 0.965 * s["v"] + 0.035 * g
        return p - 1e-3 * s["v"].sign()
    return None


def naive(name: str, parameters: list[Tensor]) -> Callable[[], object] | None:
    """A step of the naive loop, or None where there is none."""
    kept = [{key: torch.zeros_like(p) for key in "vG"} for p in parameters]
    count = iter(range(1, 1_000_000))
    if naive_update(name, 1, torch.zeros(1), torch.ones(1), {key: torch.zeros(1) for key in "vG"}) is None:
        return None

    @torch.no_grad()
    def step() -> None:
        n = next(count)
        for p, s in zip(parameters, kept, strict=True):
            if p.grad is not None:
                p.copy_(naive_update(name, n, p, p.grad, s))  # type: ignore[arg-type]

    return step


def parameters(layout: str, device: str) -> list[Tensor]:
    """Standard normal parameters with gradients of size 0.01, from a seed."""
    draws = torch.Generator(device).manual_seed(0)
    made: list[Tensor] = []
    for shape in LAYOUTS[layout]:
        p = torch.nn.Parameter(torch.randn(shape, generator=draws, device=device))
        p.grad = 0.01 * torch.randn(shape, generator=draws, device=device)
        made.append(p)
    return made


def contenders(name: str, layout: str, device: str) -> dict[str, Callable[[], object]]:
    """Steps to compare for one optimizer, each on tensors of its own."""
    found: dict[str, Callable[[], object]] = {}
    lr = {} if name == "adafactor" else {"lr": 1e-4 if name == "lion" else 1e-3}
    for label, settings in {"": {}, **VARIANTS.get(name, {})}.items():
        found[f"ours {label}".strip()] = build(name, parameters(layout, device), **lr, **settings).step
    kind, settings, ways = TORCHS.get(name, ("", {}, ()))
    for way in ways:
        label = "fused" if "fused" in way else "foreach" if way["foreach"] else "loop"
        found[f"torch.{kind} {label}"] = getattr(torch.optim, kind)(parameters(layout, device), **settings, **way).step
    if name in OTHERS and find_spec("pytorch_optimizer") is not None:
        peer = getattr(import_module("pytorch_optimizer"), OTHERS[name])
        found["pytorch_optimizer"] = peer(parameters(layout, device), **lr).step
    step = naive(name, parameters(layout, device))
    return found if step is None else {**found, "naive": step}


def compare(name: str, layout: str, device: str, rounds: int) -> dict[str, Any]:
    """Milliseconds a step of all contenders, and ours over the quickest of each kind of peer."""
    steps = contenders(name, layout, device)
    times: dict[str, list[float]] = {label: [] for label in steps}
    order = cycle(steps)
    for _ in range((rounds + 1) * len(steps)):
        label = next(order)
        times[label].append(milliseconds(steps[label], device))
    times = {label: values[1:] for label, values in times.items()}  # the first round makes buffers
    row: dict[str, Any] = {"ms": {label: median(values) for label, values in times.items()}}
    for kind in ("torch", "pytorch_optimizer", "naive"):
        peers = [values for label, values in times.items() if label.split(".")[0] == kind]
        if peers:
            best = min(peers, key=median)
            row[f"ours_over_{kind}"] = median([a / b for a, b in zip(times["ours"], best, strict=True)])
    return row


def milliseconds(step: Callable[[], object], device: str) -> float:
    """A step's time, after one that is not timed."""
    step()
    clock = time.perf_counter if device == "cuda" else time.thread_time
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    for _ in range(STEPS):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1000 * (clock() - start) / STEPS


def missed(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What is slower than it should be; targets are those of the CPU."""
    for layout, by_name in rows.items():
        for name, row in by_name.items():
            limits = {"naive": NAIVE_TARGET}
            if name in TARGETS:
                peer, figures = TARGETS[name]
                limits[peer] = figures[list(LAYOUTS).index(layout)]
            for peer, limit in limits.items():
                ratio = row.get(f"ours_over_{peer}", 0.0)
                if ratio > limit:
                    yield f"{name}, {layout} tensors: {ratio:.2f} times {peer}, should be at most {limit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="these optimizers alone; then nothing is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.only or [name for name in OPTIMIZERS if not name.startswith("torch.")]
    rows: dict[str, dict[str, Any]] = {}
    for layout in LAYOUTS:
        rows[layout] = {}
        for name in names:
            rows[layout][name] = compare(name, layout, options.device, options.rounds)
            print(layout, name, json.dumps(rows[layout][name]), flush=True)
            gc.collect()
    has_peer = find_spec("pytorch_optimizer") is not None
    result = {
        "machine": machine() | ({"gpu": torch.cuda.get_device_name()} if options.device == "cuda" else {}),
        "versions": versions("torch", *(["pytorch_optimizer"] if has_peer else [])),
        "setting": {
            "clock": "wall" if options.device == "cuda" else "processor time of the thread",
            "threads": 1,
            "rounds": options.rounds,
            "steps": STEPS,
            "dtype": "float32",
            "parameters": {
                layout: sum(torch.Size(shape).numel() for shape in shapes) for layout, shapes in LAYOUTS.items()
            },
        },
        "left_out": {} if has_peer else {"pytorch_optimizer": "not installed"},
        "targets_on_cpu": {
            name: dict(zip(LAYOUTS, figures, strict=True)) | {"over": peer} for name, (peer, figures) in TARGETS.items()
        }
        | {"every optimizer": {"over": "naive", "all": NAIVE_TARGET}},
        "rows": rows,
        "missed": list(missed(rows)),
    }
    print("missed:", *(list(missed(rows)) or ["nothing"]), sep="\n  ")
    if not options.only:
        place = (
            Path(__file__).parent
            / "results"
            / ("optimizers_cuda.json" if options.device == "cuda" else "optimizers.json")
        )
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
