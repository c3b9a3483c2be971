r"""Adafactor: rates adapted to every number by moments of rows and columns, which take next to no memory.

Shapes: a matrix theta has n rows and m columns; its moments are R (n, 1) and C (1, m).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_modules.optimizers.stepping import POSITIVE, SHARE, Limit, SteppingOptimizer

CPU_BLOCK_ELEMENTS = 256 * 1024  # a thread: in larger tensors U is computed twice, which costs more than cache
DEVICE_BLOCK_ELEMENTS = 1 << 24  # elsewhere than on a CPU: temporaries of 64 MiB, kernels that still fill a GPU
DECAY = Limit(lambda value: -1 <= value <= 0, "lie in [-1, 0]; the paper's is -0.8")
ABOVE_ZERO = Limit(lambda value: value > 0, "be greater than 0; infinity never clips")
N_ROWS = Limit(lambda value: value >= 1 and value % 1 == 0, "be a whole number, at least 1")


class Adafactor(SteppingOptimizer):
    r"""RMSprop whose second moment is an outer product of row and column means, with steps relative to theta's size.

    .. math::
        \beta_t &= 1 - t^{beta2\_decay}, \qquad S = g \otimes g + eps1 \\
        R &\leftarrow \beta_t R + (1 - \beta_t)\,\mathrm{mean}_{columns} S, \qquad
        C \leftarrow \beta_t C + (1 - \beta_t)\,\mathrm{mean}_{rows} S, \qquad V = R\,C / \mathrm{mean}\,R \\
        U &= g / \sqrt V, \qquad \hat U = U / \max(1, \mathrm{RMS}(U) / clip\_threshold) \\
        \alpha_t &= \max(eps2, \mathrm{RMS}(\theta))\,\min(lr, 1/\sqrt t) \\
        \theta &\leftarrow \theta - lr\,weight\_decay\,\theta - \alpha_t \hat U

    A tensor with fewer than two axes of at least `min_factored_dim` keeps V itself, V = beta_t V + (1 - beta_t) S. With
    more than two axes the two longest are factored, the later of equals, and each position of the others has its own R
    and C; torch.optim and transformers take the last two, which for a 3x3 kernel keeps 2/3 of V. With `beta1` the step
    is the running mean m = beta1 m + (1 - beta1) alpha_t U instead of alpha_t U, as in the paper's own code. R, C, V
    and m are float32 for half-precision parameters: in bfloat16 V would stop moving once 1 - beta_t is below 2^-9.
    Beyond its state a step needs temporaries of one block of rows (1 MiB each a thread; 64 MiB on a GPU).

    lr is the upper bound of a relative step, so a schedule lowers the bound and warms up to it; 1/sqrt(t) takes over
    after 1/lr^2 steps, 10^4 by default. `relative_step=False` takes lr alone, and `scale_parameter=False` leaves out
    max(eps2, RMS(theta)): with both, lr is a rate in units of theta, as RMSprop's.

    torch.optim.Adafactor with eps = (e, eps2) keeps e out of the moments and bounds V from below instead; where squared
    gradients are far above eps1 and both factor, they are equal.

    Args:
        params: parameters or groups.
        lr: largest relative step; the relative step itself without `relative_step`.
        relative_step: bound lr by 1/sqrt(t).
        scale_parameter: multiply steps by the RMS of the tensor they change.
        beta2_decay: exponent, in [-1, 0]; -1 averages all past squared gradients alike.
        beta1: share of m kept, in [0, 1), which takes as much memory as the parameters; null = no m.
        eps1: added to squared gradients, greater than 0.
        eps2: least RMS a tensor is taken to have, greater than 0.
        clip_threshold: largest RMS of U, greater than 0.
        min_factored_dim: least length of a factored axis; 128 factors every matrix of GPT-2 and none of a LoRA.
        weight_decay: decoupled, at least 0.
        maximize: ascend.
        skip_nonfinite: skip, and count, a step whose gradients are not finite.

    Source: Shazeer & Stern 2018, algorithms 4, 5 and 6; kexue.fm/archives/7302, the full version.

    >>> theta = torch.nn.Parameter(torch.full((256, 128), 2.0))
    >>> optimizer = Adafactor([theta])
    >>> theta.square().sum().backward()
    >>> optimizer.step()
    >>> round(theta[0, 0].item(), 6)  # a step of 1 % of theta
    1.98
    >>> sum(kept.numel() for kept in optimizer.state[theta].values() if torch.is_tensor(kept))
    384
    """

    whole_tensors = True
    limits: ClassVar[Mapping[str, Limit]] = {
        "beta2_decay": DECAY,
        "beta1": SHARE._replace(optional=True),
        "eps1": POSITIVE,
        "eps2": POSITIVE,
        "clip_threshold": ABOVE_ZERO,
        "min_factored_dim": N_ROWS,
    }

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-2,
        relative_step: bool = True,
        scale_parameter: bool = True,
        beta2_decay: float = -0.8,
        beta1: float | None = None,
        eps1: float = 1e-30,
        eps2: float = 1e-3,
        clip_threshold: float = 1.0,
        min_factored_dim: int = 128,
        weight_decay: float = 0.0,
        maximize: bool = False,
        skip_nonfinite: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "relative_step": relative_step,
                "scale_parameter": scale_parameter,
                "beta2_decay": beta2_decay,
                "beta1": beta1,
                "eps1": eps1,
                "eps2": eps2,
                "clip_threshold": clip_threshold,
                "min_factored_dim": min_factored_dim,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "skip_nonfinite": skip_nonfinite,
            },
        )

    def initial_state(self, group: dict[str, Any], theta: Tensor) -> dict[str, Any]:
        """No steps; zeros for R and C or for V, and for m if it is kept."""
        kind = torch.promote_types(theta.dtype, torch.float32)
        axes = factored_axes(theta.shape, group["min_factored_dim"])
        state: dict[str, Any] = {"step": 0}
        if axes is None:
            state["V"] = torch.zeros_like(theta, dtype=kind)
        else:
            for name, reduced in zip("CR", axes, strict=True):
                shape = [1 if axis == reduced else n for axis, n in enumerate(theta.shape)]
                state[name] = theta.new_zeros(shape, dtype=kind)
        if group["beta1"] is not None:
            state["m"] = torch.zeros_like(theta, dtype=kind)
        return state

    def step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Updates the parameters one by one."""
        for theta in parameters:
            state = self.state[theta]
            if not state:
                state.update(self.initial_state(group, theta))
            state["step"] += 1
            if theta.grad is not None and theta.numel():
                self._step_tensor(group, theta, theta.grad, state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but the float32 moments of half-precision parameters stay float32."""
        super().load_state_dict(state_dict)
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for index, theta in zip(saved, parameters, strict=True):
            for name, kept in state_dict["state"].get(index, {}).items():
                if torch.is_tensor(kept):
                    self.state[theta][name] = kept.detach().to(theta.device, copy=True)

    def _step_tensor(self, group: dict[str, Any], theta: Tensor, g: Tensor, state: dict[str, Any]) -> None:
        """Algorithm 4 or 5, in passes over blocks: moments, RMS of U, update. No wait for the device."""
        t = state["step"]
        moments = updated_moments(g, state, t ** group["beta2_decay"], group["eps1"])
        blocks = cut(g, *moments)
        only = [direction(*blocks[0])] if len(blocks) == 1 else []
        rms = root_mean_square(only or starmap(direction, blocks), moments[0].dtype)
        step = min(group["lr"], t**-0.5) if group["relative_step"] else group["lr"]
        alpha = (-step if group["maximize"] else step) / (rms / group["clip_threshold"]).clamp_(min=1)
        if group["scale_parameter"]:
            size = root_mean_square((part for (part,) in cut(theta)), rms.dtype)
            alpha = alpha * size.clamp_(min=group["eps2"])
        kept = [state["m"]] if "m" in state else []
        for U, (part, *m) in zip(only or starmap(direction, blocks), cut(theta, *kept), strict=True):
            U.mul_(alpha)
            if m:
                U = m[0].lerp_(U, 1 - group["beta1"])
            self.decay(group, [part])
            part.sub_(U)


def factored_axes(shape: Sequence[int], min_factored_dim: int = 1) -> tuple[int, int] | None:
    """The two longest axes, in order; None if one of them is shorter than `min_factored_dim` or there is but one.

    >>> factored_axes((512, 256, 3, 3), 128), factored_axes((12, 64, 64)), factored_axes((512, 8), 128)
    ((0, 1), (1, 2), None)
    """
    longest = sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))[-2:]
    if len(longest) < 2 or min(shape[axis] for axis in longest) < min_factored_dim:
        return None
    return min(longest), max(longest)


def updated_moments(g: Tensor, state: dict[str, Any], weight: float, eps1: float) -> list[Tensor]:
    """V, or R / mean R and C, of a state that has taken in g with the weight 1 - beta_t."""
    if "V" in state:
        for g_block, V in cut(g, state["V"]):
            V.lerp_(g_block.to(V.dtype).square().add_(eps1), weight)
        return [state["V"]]
    R, C = state["R"], state["C"]
    rows, columns = factored_axes(g.shape) or (0, 1)
    sums = []
    for (g_block,) in cut(g):
        S = g_block.to(R.dtype).square()
        sums.append((S.sum(columns, keepdim=True), S.sum(rows, keepdim=True)))
    for moment, axis, parts in zip((R, C), (columns, rows), zip(*sums, strict=True), strict=True):
        total = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0) if axis == 0 else torch.cat(parts)
        moment.lerp_(total.div_(g.shape[axis]).add_(eps1), weight)
    return [R / R.mean(rows, keepdim=True), C]


def direction(g: Tensor, *moments: Tensor) -> Tensor:
    """U = g / sqrt(V), V being the product of the moments; a new tensor."""
    U = g * moments[0].rsqrt()
    for moment in moments[1:]:
        U.mul_(moment.rsqrt())
    return U


def root_mean_square(parts: Iterable[Tensor], dtype: torch.dtype) -> Tensor:
    """Of all numbers of the parts together, 0-d, computed in the dtype.

    >>> root_mean_square([torch.tensor([1.0, 2.0]), torch.tensor([2.0])], torch.float64).square().round(decimals=12)
    tensor(3., dtype=torch.float64)
    """
    sizes, norms = zip(*((part.numel(), torch.linalg.vector_norm(part, dtype=dtype)) for part in parts), strict=True)
    norm: Tensor = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    return norm / math.sqrt(sum(sizes))


def cut(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Views of about a block's elements along the first axis; tensors of length 1 there come whole in each."""
    first = tensors[0]
    cpu = first.device.type == "cpu"
    size = CPU_BLOCK_ELEMENTS * torch.get_num_threads() if cpu else DEVICE_BLOCK_ELEMENTS
    if first.numel() <= size or first.ndim == 0:
        return [tensors]
    n = first.shape[0]
    rows = max(1, size * n // first.numel())
    n_blocks = -(-n // rows)
    return list(zip(*(torch.split(t, rows) if t.shape[0] == n else (t,) * n_blocks for t in tensors), strict=True))
