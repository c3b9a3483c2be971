r"""Nesterov's momentum: the standard form, the dynamics article's beta / 2 form, and the implicit scheme behind it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from lightning_modules.optimizers.momentum import fused_momentum
from lightning_modules.optimizers.solving import solve
from lightning_modules.optimizers.stepping import POSITIVE, SHARE, Limit, SteppingOptimizer, all_finite, one_of

SHIFTS = {"standard": 1.0, "half": 0.5, "implicit": 0.0}  # c / beta, see the class
UNSOLVED = (
    "nesterov, form implicit: a step was taken before its equation was solved; a smaller lr or larger max_evaluations "
    "or tolerance helps (unsolved_steps counts on)"
)


class Nesterov(SteppingOptimizer):
    r"""Momentum whose gradient is taken ahead of theta.

    .. math::
        v \leftarrow beta\,v - lr\,\nabla L(\theta + c\,v), \qquad \theta \leftarrow \theta + v

    c = beta is the standard form, c = beta / 2 the article's (``form="half"``). As everywhere, the parameters hold the
    shifted :math:`\Theta = \theta + c\,v`, where the gradient is taken, and not :math:`\theta` (`unshifted` gives it):

    .. math::
        v \leftarrow beta\,v - lr\,\nabla L(\Theta), \qquad
        \Theta \leftarrow \Theta + (1 - s + s\,beta)\,v - s\,lr\,\nabla L(\Theta), \qquad s = c / beta

    The implicit form takes the gradient half-way to where it leads,
    :math:`v' = beta\,v - lr\,\nabla L(\theta + v' / 2)`, with theta itself in the parameters. The equation is solved
    from gradients alone (see `solving`), so `step` needs a closure that clears the gradients, computes them and returns
    the loss, and calls it several times. Lightning passes such a closure. Each call must see the same noise: draws from
    (seed, step) do; dropout does not, as it is seeded once a batch. Gradients must not be accumulated over batches.
    Float32 or float64, all on one device.

    On a quadratic of curvature h the steps are stable for lr·h below 2 (1 + beta) / (1 + 2 beta) (standard) and 2
    (half), and always (implicit); momentum's are below 2 (1 + beta). All forms are of order 1.
    torch.optim.SGD(nesterov=True) is the standard form with lr outside v: the same until lr changes.

    Args:
        params: parameters or groups; one form for all groups.
        lr: step size alpha.
        beta: share of the velocity kept, in [0, 1).
        form: see above.
        tolerance: form implicit: largest residual, as a share of the step.
        max_evaluations: form implicit: of the closure in a step; then the step is taken as it is, counted in
            `unsolved_steps`, and the first time a warning is given.
        weight_decay: decoupled, at least 0; of what the parameters hold.
        maximize: ascend.
        skip_nonfinite: skip, and count, a step whose gradients are not finite.

    Source: kexue.fm/archives/5655, equations (19), (20) and after; Sutskever et al. 2013 for the shift.

    >>> theta = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = Nesterov([theta], lr=0.1, beta=0.5)
    >>> theta.square().sum().backward()
    >>> optimizer.step()
    >>> round(theta.item(), 6), round(optimizer.unshifted(theta).item(), 6)
    (0.7, 0.8)
    """

    buffers = ("v",)
    whole_settings: ClassVar[Mapping[str, Any]] = {**SteppingOptimizer.whole_settings, "form": "implicit"}
    limits: ClassVar[Mapping[str, Limit]] = {
        "beta": SHARE,
        "form": one_of(*SHIFTS),
        "tolerance": POSITIVE,
        "max_evaluations": Limit(lambda n: n >= 2, "be at least 2"),
    }

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-2,
        beta: float = 0.9,
        form: Literal["standard", "half", "implicit"] = "standard",
        tolerance: float = 1e-5,
        max_evaluations: int = 100,
        weight_decay: float = 0.0,
        maximize: bool = False,
        skip_nonfinite: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "beta": beta,
                "form": form,
                "tolerance": tolerance,
                "max_evaluations": max_evaluations,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "skip_nonfinite": skip_nonfinite,
            },
        )

    @property
    def unsolved_steps(self) -> int:
        """Implicit steps that needed more than `max_evaluations`; kept in the state_dict."""
        return int(self.param_groups[0].get("unsolved_steps", 0))

    def unshifted(self, parameter: Tensor) -> Tensor:
        """theta, a copy, of a parameter that holds Theta = theta + c v."""
        v = self.state.get(parameter, {}).get("v")
        if v is None:
            return parameter.detach().clone()
        group = next(group for group in self.param_groups if any(parameter is p for p in group["params"]))
        theta: Tensor = parameter.detach() - SHIFTS[group["form"]] * group["beta"] * v
        return theta

    def update(self, group: dict[str, Any], theta: list[Tensor], g: list[Tensor], *buffers: list[Tensor]) -> None:
        """The framework form: theta is Theta here."""
        (v,) = buffers
        share, lr, beta = SHIFTS[group["form"]], group["lr"], group["beta"]
        torch._foreach_add_(theta, g, alpha=-share * lr)
        rate = 1 - share + share * beta
        if fused_momentum(theta, g, v, beta=beta, gain=-lr, rate=rate):
            return
        torch._foreach_mul_(v, beta)
        torch._foreach_add_(v, g, alpha=-lr)
        torch._foreach_add_(theta, v, alpha=rate)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients anew; form implicit calls it until the equation is solved.

        Returns:
            The closure's loss (implicit: at the last point tried), or None.

        Raises:
            ValueError: form implicit without a closure.
        """
        forms = {group["form"] for group in self.param_groups}
        if forms != {"implicit"}:
            if "implicit" in forms:
                raise ValueError(f"optimizer.form: groups have {sorted(forms)}; all must be implicit, or none")
            return super().step(closure)
        if closure is None:
            raise ValueError("optimizer.form = implicit: step needs a closure that returns the loss: step(closure)")
        return self._implicit_step(closure)

    def _implicit_step(self, closure: Callable[[], Any]) -> Any:
        """Equation (19), solved for the middle x = theta + v' / 2, from where inertia alone would lead."""
        pairs = [(group, p) for group in self.param_groups for p in group["params"]]
        before = [p.clone() for _, p in pairs]
        for group, p in pairs:
            if "v" in self.state.get(p, {}):
                p.add_(self.state[p]["v"], alpha=group["beta"] / 2)
        with torch.enable_grad():
            loss = closure()
        self._refuse_sparse(p for _, p in pairs if p.grad is not None)
        finite = all_finite([p.grad for _, p in pairs if p.grad is not None])
        skipped = not finite and any(group["skip_nonfinite"] for group in self.param_groups)
        moving = []
        for (group, p), old in zip(pairs, before, strict=True):
            if skipped or p.grad is None:
                p.copy_(old)
            else:
                moving.append(self._unknown(group, p, old))
        if skipped:
            self.param_groups[0]["skipped_steps"] = self.skipped_steps + 1
        return self._solve(moving, closure, loss, finite) if moving else loss

    def _unknown(self, group: dict[str, Any], theta: Tensor, before: Tensor) -> _Unknown:
        """What the equation needs of one parameter, whose value before the step was `before`."""
        state = self.state[theta]
        if not state:
            state.update(self.initial_state(group, theta))
        start, root = before * (1 - group["lr"] * group["weight_decay"]), math.sqrt(group["lr"] / 2)
        target = start + state["v"] * (group["beta"] / 2)
        # at lr 0 the middle is the target, whatever the unit of u
        return _Unknown(theta, state["v"], start, target, root or 1.0, -root if group["maximize"] else root)

    def _solve(self, moving: list[_Unknown], closure: Callable[[], Any], loss: Any, finite: bool) -> Any:
        """Solves x = target - kappa grad L(x), kappa = lr / 2, and moves theta and v.

        In u = x / sqrt(kappa) the residual is the gradient of a function, even if groups differ in lr.
        """
        start, target, u = (
            torch.cat([(x / one.root).reshape(-1) for one, x in zip(moving, column, strict=True)])
            for column in zip(*((one.start, one.target, one.theta) for one in moving), strict=True)
        )

        def residual(u: Tensor) -> Tensor:
            pulls = [one.theta.grad * one.force for one in moving if one.theta.grad is not None]
            return u - target + torch.cat([pull.reshape(-1) for pull in pulls])

        def move_and_evaluate(u: Tensor) -> Tensor:
            nonlocal loss
            _spread(u, moving)
            with torch.enable_grad():
                loss = closure()
            return residual(u)

        settings = self.param_groups[0]
        if finite:
            distance, limit = settings["tolerance"], settings["max_evaluations"]
            u, solved = solve(move_and_evaluate, u, residual(u), start, distance, limit)
        else:
            u, solved = u - residual(u), True  # no more finite than any optimizer's theta would be
        _spread(u, moving)
        for one in moving:
            one.v.copy_(one.theta).sub_(one.start).mul_(2)
            one.theta.copy_(one.start + one.v)
        if not solved:
            settings["unsolved_steps"] = self.unsolved_steps + 1
            warnings.warn(UNSOLVED, stacklevel=2)
        return loss


class _Unknown(NamedTuple):
    """One parameter: target is theta + beta v / 2, u is x / root, and force times the gradient pulls u."""

    theta: Tensor
    v: Tensor
    start: Tensor
    target: Tensor
    root: float
    force: float


def _spread(u: Tensor, moving: list[_Unknown]) -> None:
    """U back into the parameters."""
    pieces = torch.split(u, [one.theta.numel() for one in moving])
    for one, piece in zip(moving, pieces, strict=True):
        one.theta.copy_(piece.view_as(one.theta) * one.root)
