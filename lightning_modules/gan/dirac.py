"""The smallest GAN: both distributions are single points, and training is a motion one can follow with a pencil.

Real samples lie at 0, generated ones at theta; the critic is D(x) = w . x. Shapes: theta and w (..., 2); R regimes.
The plane, and not the line of the source, lets spectral normalisation turn w.
"""

from typing import Any, Literal, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_modules.gan.drawing import draw_orbit
from lightning_modules.optimizers import configure
from lightning_modules.paths.traces import Trace

Regime = Literal["gan", "wgan", "sn", "gp", "gp_zero"]
REGIMES: tuple[Regime, ...] = get_args(Regime)
START = (1.0, 0.0, 0.0, 0.8)  # theta and w
MOST_POINTS = 4096  # kept of each way


class DiracGAN(pl.LightningModule):
    """Follows theta and w of five GANs side by side, the critic's step first, as training has it.

    gan and wgan circle about the equilibrium for ever, sn swings through it, gp settles on a circle where |w| = 1,
    gp_zero comes to rest at 0. The average of theta comes close to 0 wherever theta circles.

    Args:
        weight: lambda of the two gradient penalties.
        ema_decay: Of the average of theta, in (0, 1).
        optimizer: Name and settings of theta's optimizer; None = the default one.
        critic_optimizer: Of w's; None = theta's.
        schedule: Name and settings of the learning-rate schedule of both; None = constant.

    Source: kexue.fm/archives/6583; Mescheder et al. 2018, sections 2 and 3.
    """

    average: Tensor  # (R, 2)

    def __init__(
        self,
        weight: float = 0.1,
        ema_decay: float = 0.995,
        optimizer: dict[str, Any] | None = None,
        critic_optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ValueError(f"model.weight = {weight}: must be at least 0 and finite; 0.1 shows the spiral")
        if not 0 < ema_decay < 1:
            raise ValueError(f"model.ema_decay = {ema_decay}: must lie in (0, 1); 0.995 averages about 200 steps")
        self.save_hyperparameters()
        self.automatic_optimization = False  # gradients by formula
        self.weight, self.ema_decay = weight, ema_decay
        self.theta = nn.ParameterList(torch.tensor(START[:2], dtype=torch.float64) for _ in REGIMES)
        self.w = nn.ParameterList(torch.tensor(START[2:], dtype=torch.float64) for _ in REGIMES)
        self.register_buffer("average", self().clone())
        self.trace = Trace(MOST_POINTS, torch.cat([self(), self.average], 1))

    def forward(self) -> Tensor:
        """Where the generated points are, (R, 2)."""
        return torch.stack([theta.detach() for theta in self.theta])

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """A step of w, then one of theta; the distances of theta and of its average from 0 in each regime."""
        optimizer, critic_optimizer = self.optimizers()  # type: ignore[attr-defined]
        for name, theta, w in zip(REGIMES, self.theta, self.w, strict=True):
            w.grad = -velocities(name, theta.detach(), w.detach(), self.weight)[1]
        critic_optimizer.step()
        for name, theta, w in zip(REGIMES, self.theta, self.w, strict=True):
            theta.grad = -velocities(name, theta.detach(), w.detach(), self.weight)[0]
        optimizer.step()
        schedules: Any = self.lr_schedulers()
        for schedule in schedules or []:
            schedule.step()
        return self._record()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs both distances of each regime."""
        found = {f"val/{name}": value for name, value in self._distances().items()}
        self.log_dict(found, batch_size=1)

    def configure_optimizers(self) -> Any:
        """The optimizers of theta and of w, each with the schedule."""
        chosen, schedule = self.hparams["optimizer"], self.hparams["schedule"]
        pairs = ((self.theta, chosen), (self.w, self.hparams["critic_optimizer"] or chosen))
        built = [configure(points, settings, schedule) for points, settings in pairs]
        return tuple(each if isinstance(each, dict) else {"optimizer": each} for each in built)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What was recorded goes along."""
        checkpoint["dirac"] = self.trace.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """And goes on."""
        self.trace.load_state_dict(checkpoint["dirac"])

    def pictures(self) -> dict[str, Tensor]:
        """The way of theta and of its average by regime, each (3, H, W) in [0, 1]."""
        ways = self.trace.points  # (n, R, 4)
        return {name: draw_orbit(ways[:, i, :2], ways[:, i, 2:]) for i, name in enumerate(REGIMES)}

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """The file dirac.npz: `step` (n,), `regime` (R,), `theta` and `average` (n, R, 2)."""
        ways = self.trace.points.numpy()
        arrays = {"step": self.trace.times.long().numpy(), "regime": np.array(REGIMES)}
        return {"dirac.npz": {**arrays, "theta": ways[..., :2], "average": ways[..., 2:]}}

    def _record(self) -> dict[str, Tensor]:
        t = self.trace.time
        decay = min(self.ema_decay, (1 + t) / (10 + t))  # as `average.Average`
        theta = self()
        self.average.lerp_(theta, 1 - decay)
        self.trace.add(t + 1, torch.cat([theta, self.average], 1).cpu())
        return self._distances()

    def _distances(self) -> dict[str, Tensor]:
        pairs = (("distance", self()), ("average_distance", self.average))
        return {
            f"{what}_{name}": distance
            for what, points in pairs
            for name, distance in zip(REGIMES, points.norm(dim=1), strict=True)
        }


def velocities(regime: Regime, theta: Tensor, w: Tensor, weight: float = 0.1) -> tuple[Tensor, Tensor]:
    """The motion (theta', w') of both players for infinitely small steps: minus the gradients of their losses.

    - gan: w' = -s(w.theta) theta, theta' = s(-w.theta) w, s the logistic function: the non-saturating loss.
    - wgan: w' = -theta, theta' = w.
    - sn: D(x) = w.x / |w|; w' = -(theta - (theta.n) n) / |w|, theta' = n = w / |w|.
    - gp: wgan with -2 weight (|w| - 1) n in w': the penalty weight (|w| - 1)^2.
    - gp_zero: wgan with -2 weight w in w': the penalty weight |w|^2.

    Args:
        regime: Name.
        theta: (..., 2).
        w: (..., 2), not 0 for sn and gp.
        weight: lambda of the penalties.

    Source: kexue.fm/archives/6583; Mescheder et al. 2018, sections 2 and 3.

    >>> velocities("gp_zero", torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), weight=0.5)
    (tensor([0., 2.]), tensor([-1., -2.]))
    """
    if regime == "gan":
        score = (w * theta).sum(-1, keepdim=True)
        return torch.sigmoid(-score) * w, -torch.sigmoid(score) * theta
    if regime == "wgan":
        return w, -theta
    if regime == "gp_zero":
        return w, -theta - 2 * weight * w
    length = w.norm(dim=-1, keepdim=True)
    n = w / length
    if regime == "gp":
        return w, -theta - 2 * weight * (length - 1) * n
    return n, -(theta - (theta * n).sum(-1, keepdim=True) * n) / length
