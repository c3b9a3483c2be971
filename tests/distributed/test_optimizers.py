"""Every optimizer on two processes of half a batch, against one process of the whole, with a resume half-way."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lightning_modules.data.sampling import draw
from lightning_modules.optimizers import OPTIMIZERS, build
from tests.distributed.pair import pair

pytestmark = pytest.mark.xdist_group("signals")  # the worker whose forkserver has imported everything
STEPS = 20
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"lr": 1e-2}) for name in OPTIMIZERS),
    ("adafactor", {"min_factored_dim": 4, "beta1": 0.9, "weight_decay": 0.1}),
    ("nesterov", {"lr": 1e-2, "form": "implicit", "tolerance": 1e-9}),
    ("rmsprop", {"lr": 1e-2, "scale": "scalar", "skip_nonfinite": True}),
    ("tiger", {"lr": 1e-3, "accumulation": 4, "weight_decay": 0.1}),
    ("tiger", {"lr": 1e-2, "scale_parameter": True}),
]


def net() -> nn.Module:
    """Matrices that factor, vectors that do not."""
    found = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)).double()
    weights = draw(0, "net")
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=weights, dtype=torch.float64))
    return found


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Eight rows and what is wanted of them."""
    numbers = torch.randn(8, 11, generator=draw(0, "rows", step), dtype=torch.float64)
    return numbers[:, :6], numbers[:, 6:]


def fit(model: nn.Module, name: str, settings: dict[str, Any], rows: slice, steps: range, state: Any) -> Any:
    """So many steps on these rows of each batch; the optimizer's state after them."""
    optimizer = build(name, model.parameters(), **settings)
    if state is not None:
        optimizer.load_state_dict(state)
    for step in steps:
        x, y = (part[rows] for part in batch(step))

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = (model(x) - y).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]
    return copy.deepcopy(optimizer.state_dict())


def train(folder: Path) -> None:
    """The gaps of this rank's weights from those of one process, by optimizer."""
    rank = int(os.environ["LOCAL_RANK"])
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    mine, gaps = slice(4 * rank, 4 * rank + 4), []
    for name, settings in VARIANTS:
        alone, together = net(), net()
        fit(alone, name, settings, slice(None), range(STEPS), None)
        state = None
        for steps in (range(STEPS // 2), range(STEPS // 2, STEPS)):  # 10 is inside a window of 4: so are states
            state = fit(DistributedDataParallel(together), name, settings, mine, steps, state)
        moved = torch.cat([(a - b).flatten() for a, b in zip(alone.parameters(), net().parameters(), strict=True)])
        gap = torch.cat([(a - b).flatten() for a, b in zip(alone.parameters(), together.parameters(), strict=True)])
        gaps.append((float(gap.abs().max()), float(moved.abs().max())))
    torch.distributed.destroy_process_group()
    torch.save(gaps, folder / f"gaps{rank}.pt")


def test_two_processes_step_as_one_with_every_optimizer(tmp_path: Path) -> None:
    pair(train, tmp_path, tmp_path)
    for rank in range(2):
        for (name, settings), (gap, moved) in zip(VARIANTS, torch.load(tmp_path / f"gaps{rank}.pt"), strict=True):
            assert gap < 1e-6 < moved, (name, settings, gap, moved)
