r"""Tiger: the sign of the momentum, with gradient accumulation inside the momentum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_modules.optimizers.lion import descend
from lightning_modules.optimizers.stepping import SHARE, Limit, SteppingOptimizer

N_MICRO_BATCHES = Limit(lambda value: value >= 1 and value % 1 == 0, "be a whole number, at least 1")


class Tiger(SteppingOptimizer):
    r"""Lion with beta1 = beta2 = beta: one buffer, which also accumulates gradients.

    .. math::
        m_t = \left[(beta - 1)\,\chi_{(t-1)/k} + 1\right] m_{t-1} + \frac{1 - beta}{k}\,g_t, \qquad
        \theta_t = \theta_{t-1} - \chi_{t/k}\,lr\,(\mathrm{sign}(m_t) + weight\_decay\,\theta_{t-1}), \qquad m_0 = 0

    where k = `accumulation` and chi_{t/k} = 1 if k divides t, else 0; with k = 1 that is m = beta m + (1 - beta) g.
    With k > 1 only every k-th `step()` moves theta, by the mean of the window's k gradients, and nothing beside m is
    kept for it: call `zero_grad()` and `step()` after every micro-batch. A gradient that is missing in some
    micro-batches of a window counts as 0 there, one that is missing in all leaves its parameter alone; a step skipped
    as not finite is no part of a window. Schedulers and step counters, Lightning's too, see k steps a window, most of
    which change no weight; `--trainer.accumulate_grad_batches` is the usual way, and keeps the gradient in memory
    between micro-batches.

    With `scale_parameter` the rate is relative: lr RMS(theta_{t-1}) for tensors of two or more axes, and lr / 2 without
    decay for vectors and scalars. The author asks for names (bias, beta, gamma) where this asks for axes, and takes one
    RMS for each row of an embedding. A matrix of zeros never moves then.

    torch.optim has no Tiger. The author's code shrinks the weights when a gradient is NaN; `skip_nonfinite` only skips.

    Args:
        params: parameters or groups.
        lr: the length of a step in every number of theta; of a relative step, with `scale_parameter`: 0.001 to 0.002.
        beta: share of m kept by a window, in [0, 1); the author: 0.965 for language, 0.945 for images.
        accumulation: k, micro-batches in a window, at least 1.
        scale_parameter: relative rates by tensor.
        weight_decay: decoupled, at least 0.
        maximize: ascend.
        skip_nonfinite: skip, and count, a step whose gradients are not finite.

    Source: kexue.fm/archives/9512, equations (1), (2), (4) and (5).

    >>> theta = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = Tiger([theta], lr=0.25, accumulation=2)
    >>> for g in ([3.0, -1.0], [-2.0, 5.0]):
    ...     theta.grad = torch.tensor(g)
    ...     optimizer.step()
    ...     theta.tolist()
    [1.0, 1.0]
    [0.75, 0.75]
    """

    buffers = ("m",)
    whole_settings: ClassVar[Mapping[str, Any]] = {**SteppingOptimizer.whole_settings, "scale_parameter": True}
    limits: ClassVar[Mapping[str, Limit]] = {"beta": SHARE, "accumulation": N_MICRO_BATCHES}

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        beta: float = 0.965,
        accumulation: int = 1,
        scale_parameter: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
        skip_nonfinite: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "beta": beta,
                "accumulation": accumulation,
                "scale_parameter": scale_parameter,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "skip_nonfinite": skip_nonfinite,
                "position": 0,  # micro-batches already in the open window
            },
        )

    def step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """One micro-batch: a parameter's first one in a window decays its m, the window's last one moves theta."""
        group["position"] = (group["position"] + 1) % group["accumulation"]
        moves = group["position"] == 0
        if group["accumulation"] == 1:
            self._accumulate(group, parameters, first=True, moves=True)
            return
        entering = [p for p in parameters if not self._in_window(p)]
        entered = [p for p in parameters if self._in_window(p)]
        self._accumulate(group, entering, first=True, moves=moves)
        self._accumulate(group, entered, first=False, moves=moves)
        for p in entering:
            self.state[p]["in_window"] = True
        if moves:
            window = [p for p in group["params"] if self._in_window(p)]
            for settings, alike in rates(group, [p for p in window if p.grad is None]):
                move(settings, alike, [self.state[p]["m"] for p in alike])
            for p in window:
                self.state[p]["in_window"] = False

    def _in_window(self, p: Tensor) -> bool:
        return p in self.state and bool(self.state[p].get("in_window"))

    def _accumulate(self, group: dict[str, Any], parameters: list[Tensor], *, first: bool, moves: bool) -> None:
        for settings, alike in rates(group, parameters) if moves else [(group, parameters)]:
            super().step_group({**settings, "first": first, "moves": moves}, alike)

    def decay(self, group: dict[str, Any], theta: list[Tensor]) -> None:
        """Nothing yet: `move` decays in passing."""

    def update(self, group: dict[str, Any], theta: list[Tensor], g: list[Tensor], *buffers: list[Tensor]) -> None:
        """Equation (5)."""
        (m,), k = buffers, group["accumulation"]
        # m + (1 - beta) (g / k - m), later in the window m + (1 - beta) g / k
        descend(m, g, -(1 - group["beta"]) / k, -k if group["first"] else 0.0)
        if group["moves"]:
            move(group, theta, m)


def move(group: dict[str, Any], theta: list[Tensor], m: list[Tensor]) -> None:
    """In place theta <- theta - lr (sign(m) + weight_decay theta)."""
    descend(theta, list(torch._foreach_sign(m)), group["lr"], group["weight_decay"])


def rates(group: dict[str, Any], parameters: list[Tensor]) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
    """The settings under which parameters move, and those parameters; by equations (2) and (4) if the group asks."""
    vectors = [p for p in parameters if p.ndim < 2 or not group["scale_parameter"]]
    matrices = [p for p in parameters if p.ndim >= 2 and p.numel()] if group["scale_parameter"] else []
    if vectors:
        relative = {"lr": group["lr"] / 2, "weight_decay": 0.0} if group["scale_parameter"] else {}
        yield {**group, **relative}, vectors
    if matrices:  # one wait for the device
        norms = torch.stack([n.double().to(matrices[0].device) for n in torch._foreach_norm(matrices)]).tolist()
        for p, norm in zip(matrices, norms, strict=True):
            yield {**group, "lr": group["lr"] * norm / p.numel() ** 0.5}, [p]
