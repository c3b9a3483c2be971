"""What every optimizer here shares, so that an optimizer's own file is its equation and little else.

A subclass names its settings in `__init__`, their allowed ranges in `limits`, its per-parameter tensors in `buffers`,
and writes its equation once, in `update`, with in-place `torch._foreach_*` operations on lists of tensors. `step`
decides what those lists hold: on a CPU blocks that stay in the cache while the equation's operations pass over them one
after another, elsewhere all tensors of a device and dtype at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

BLOCK_ELEMENTS = 64 * 1024  # a thread: parameter, gradient, buffer, temporary of float32 are 1 MiB, half a usual L2
Row = tuple[Tensor, ...]  # parameter, gradient, buffers: same shape each


class Limit(NamedTuple):
    """The allowed values of a setting, and the words that name them.

    Args:
        holds: whether a number (or a word) is allowed.
        words: ends the sentence "optimizer.lr = -1: must ...".
        optional: whether None is allowed too.
        kind: of the value.
    """

    holds: Callable[[Any], bool]
    words: str
    optional: bool = False
    kind: type = Real

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError unless `value`, or each number of a tuple, is allowed."""
        several = isinstance(value, tuple)
        if value is None and self.optional:
            return
        if not all(isinstance(one, self.kind) and self.holds(one) for one in (value if several else (value,))):
            shown, each = (list(value), "each ") if several else (value, "")
            raise ValueError(f"optimizer.{name} = {shown}: {each}must {self.words}")


NOT_NEGATIVE = Limit(lambda value: 0 <= value < math.inf, "be at least 0 and finite")
POSITIVE = Limit(lambda value: 0 < value < math.inf, "be greater than 0 and finite")
SHARE = Limit(lambda value: 0 <= value < 1, "lie in [0, 1)")


def one_of(*allowed: str) -> Limit:
    """The limit of a setting that is one of a few words."""
    return Limit(lambda word: word in allowed, f"be one of {', '.join(allowed)}", kind=str)


class SteppingOptimizer(Optimizer):
    """Groups, closures, gradients that are missing, negated or not finite, weight decay, lazily made buffers, blocks.

    Decoupled weight decay, theta <- (1 - lr * weight_decay) theta, comes before the update (Loshchilov & Hutter 2019).
    A group's numbers are read anew at every step, so schedulers may change any. Buffers have the parameter's dtype.

    Args:
        params: parameters, or groups `{"params": ..., setting: value}`; real and dense.
        defaults: the settings, `lr`, `weight_decay`, `maximize` and `skip_nonfinite` among them.

    Raises:
        ValueError: a setting out of its limit; a complex or sparse parameter.
    """

    buffers: ClassVar[tuple[str, ...]] = ()
    """Names of the tensors kept for each parameter; zeros of its shape unless `initial_state` says otherwise."""
    limits: ClassVar[Mapping[str, Limit]] = {}
    """Allowed values of the subclass's settings, checked for every group."""
    whole_tensors: ClassVar[bool] = False
    """True if the equation needs uncut tensors (norms, rows and columns)."""
    whole_settings: ClassVar[Mapping[str, Any]] = {"skip_nonfinite": True}
    """Values of settings with which it needs them: a process that held a part of each would come to its own result."""
    counts_steps: ClassVar[bool] = False
    """True if the equation needs the number of updates, from 1: `group["step"]` in `update`."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self.param_groups[0].setdefault("skipped_steps", 0)

    def update(self, group: dict[str, Any], theta: list[Tensor], g: list[Tensor], *buffers: list[Tensor]) -> None:
        """The equation, in place.

        Args:
            group: settings (and `step`, see `counts_steps`).
            theta: parameters or pieces of them, of one device and dtype.
            g: gradients in the same order; not to be written to.
            buffers: in the order of `buffers`.
        """
        raise NotImplementedError

    def initial_state(self, group: dict[str, Any], theta: Tensor) -> dict[str, Any]:
        """What is kept for a parameter before its first update; its gradient is in `theta.grad`."""
        return {name: torch.zeros_like(theta) for name in self.buffers}

    @property
    def skipped_steps(self) -> int:
        """Steps not taken because a gradient was not finite (`skip_nonfinite`); kept in the state_dict."""
        return int(self.param_groups[0].get("skipped_steps", 0))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, and settings and parameters are checked."""
        super().add_param_group(param_group)
        group, name = self.param_groups[-1], type(self).__name__
        for setting, limit in {"lr": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE, **self.limits}.items():
            limit.check(setting, group[setting])
        for p in group["params"]:
            if p.is_complex():
                raise ValueError(
                    f"{name}: a parameter is complex; give view_as_real of it, or take torch.optim's namesake"
                )
            if p.layout != torch.strided:
                raise ValueError(f"{name}: a parameter has layout {p.layout}; dense ones only")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients anew; may be left out.

        Returns:
            The closure's loss, or None.

        Raises:
            RuntimeError: a sparse gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        chosen = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        self._refuse_sparse(p for _, parameters in chosen for p in parameters)
        checked = [p.grad for group, parameters in chosen if group["skip_nonfinite"] for p in parameters]
        if not all_finite(checked):
            self.param_groups[0]["skipped_steps"] = self.skipped_steps + 1
            return loss
        for group, parameters in chosen:
            self.step_group(group, parameters)
        return loss

    def step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Updates the parameters of one group, all of which have gradients, block by block."""
        alike: dict[Any, list[Row]] = {}
        for p in parameters:
            kind: tuple[Any, ...] = (p.device, p.dtype, p.is_contiguous())
            row: tuple[Any, ...] = (p, p.grad)
            if self.buffers or self.counts_steps:
                state = self.state[p]
                if not state:
                    state.update(self.initial_state(group, p))
                row += tuple([state[name] for name in self.buffers if name in state])
                if self.counts_steps:
                    state["step"] = step = state.get("step", 0) + 1
                    kind += (step,)
            alike.setdefault(kind, []).append(row)
        plain = not (group["weight_decay"] or group["maximize"])
        for (device, dtype, contiguous, *step), rows in alike.items():
            settings = {**group, "step": step[0]} if step else group
            whole = device.type != "cpu" or (plain and contiguous and self.is_one_pass(group, dtype))
            for block in (rows,) if whole else blocks(rows, self.whole_tensors):
                theta, g, *buffers = map(list, zip(*block, strict=True))
                if group["maximize"]:
                    g = list(torch._foreach_neg(g))
                self.decay(settings, theta)
                self.update(settings, theta, g, *buffers)

    def is_one_pass(self, group: dict[str, Any], dtype: torch.dtype) -> bool:
        """Whether `update` passes over contiguous tensors once, so that blocks would save no memory traffic."""
        return False

    def decay(self, group: dict[str, Any], theta: list[Tensor]) -> None:
        """Decoupled weight decay of one block."""
        if group["weight_decay"]:
            torch._foreach_mul_(theta, 1 - group["lr"] * group["weight_decay"])

    def _refuse_sparse(self, parameters: Iterable[Tensor]) -> None:
        for p in parameters:
            if p.grad.layout != torch.strided:  # type: ignore[union-attr]
                name = type(self).__name__
                raise RuntimeError(
                    f"{name}: a gradient is sparse; take torch.optim.SparseAdam or Embedding(sparse=False)"
                )


def may_fuse(*lists: list[Tensor]) -> bool:
    """Whether torch's fused kernels read these tensors rightly: on CPU or CUDA, contiguous, of equal dtype.

    torch 2.13's CPU kernels walk over memory without looking at strides.
    """
    first = lists[0][0]
    return (
        first.device.type in ("cpu", "cuda")
        and all(map(Tensor.is_contiguous, chain(*lists)))
        and all(same[0].dtype == first.dtype for same in lists)
    )


def by_device(tensors: Iterable[Any]) -> dict[tuple[torch.device, torch.dtype], list[Tensor]]:
    """The tensors that are not empty, sorted by device and dtype."""
    sorted_: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            sorted_.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    return sorted_


def all_finite(tensors: list[Any]) -> bool:
    """Whether no number in the tensors is infinite or NaN; one wait for each device.

    >>> all_finite([torch.ones(2), torch.tensor(float("nan"))])
    False
    """
    largest = (torch.stack(list(torch._foreach_norm(same, math.inf))) for same in by_device(tensors).values())
    return all(bool(norms.isfinite().all()) for norms in largest)


def blocks(rows: Iterable[Row], whole_tensors: bool = False) -> Iterator[list[Row]]:
    """The rows cut or gathered so that a block fits a CPU's cache.

    Large contiguous tensors are cut into flat views of equal length, small ones are gathered, up to half a block more.

    >>> before = torch.get_num_threads()
    >>> torch.set_num_threads(1)
    >>> [[piece.numel() for piece, in block] for block in blocks([(torch.zeros(3),), (torch.zeros(150_000),)])]
    [[50000], [50000], [50000], [3]]
    >>> torch.set_num_threads(before)
    """
    size = BLOCK_ELEMENTS * torch.get_num_threads()
    most = size * 3 // 2  # rather one block too long than two, one of them short: each costs some microseconds
    gathered: list[Row] = []
    n_elements = 0
    for row in rows:
        n = row[0].numel()
        if n > most:
            if whole_tensors or not all(tensor.is_contiguous() for tensor in row):
                yield [row]
            else:
                length = math.ceil(n / math.ceil(n / size))
                yield from (
                    [piece] for piece in zip(*(torch.split(tensor.view(-1), length) for tensor in row), strict=True)
                )
            continue
        if gathered and n_elements + n > most:
            yield gathered
            gathered, n_elements = [], 0
        gathered.append(row)
        n_elements += n
    if gathered:
        yield gathered
