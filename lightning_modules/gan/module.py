"""A generative adversarial network as a Lightning module: one training step is one step of the generator.

Shapes: B samples of C channels, H x W pixels, in [-1, 1]; Z latent dimensions; K classes; n critic steps.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_modules.data.gathering import gathered
from lightning_modules.data.sampling import draw, noise, process, row_noise
from lightning_modules.gan.average import Average
from lightning_modules.gan.drawing import draw_points
from lightning_modules.gan.losses import LossName, critic_loss, generator_loss
from lightning_modules.gan.measures import diversity, lipschitz_bounds, mode_coverage
from lightning_modules.gan.networks import Critic, Generator, NetworkName
from lightning_modules.gan.settings import check_data, check_settings, chosen_constraint
from lightning_modules.grids import enlarge, tile
from lightning_modules.lipschitz import ConstraintName
from lightning_modules.metrics import sliced_wasserstein
from lightning_modules.optimizers import configure

OPTIMIZER = {"class": "torch.Adam", "lr": 2e-4, "betas": [0.0, 0.9]}  # Miyato et al. 2018, table 1, setting E
N_MEASURED = 1024  # validation samples that are compared with as many generated ones
N_SAMPLES, COLUMNS = 64, 8
CHUNK = 500  # samples generated at once
EXPLODED = 1e6  # a mean score beyond it says that the critic has no bound any more
VARIED, COLLAPSED = 0.3, 0.03  # diversity once reached, and below which the samples are all alike then

Batch = Tensor | tuple[Tensor, ...] | list[Tensor]


class GAN(pl.LightningModule):
    """Generator and critic trained in turn, the critic under the Lipschitz constraint named.

    The loader's batch holds n_critic times the rows of a critic's batch, cut inside; so batches, generator steps and
    the step axis are one count. `data.batch_size` is the critic's; a loader of one's own yields n_critic times that.
    Images lie in [-1, 1]. With ema_decay, samples, pictures and figures are the averaged generator's.

    Validation records the critic's loss and gap on real samples it never saw, both Lipschitz bounds of the critic, the
    sliced Wasserstein distance (`val/swd`) and diversity of 1,024 samples, and the modes reached of data that know
    theirs. A run whose critic explodes ends; it, and one whose samples become all alike, say so in `trouble`.

    Args:
        network: mlp = three hidden layers; dcgan = strided convolutions; resnet = residual blocks. The last two need
            images of 4 to 8 pixels a side doubled once or more, as 8, 28 and 32 are.
        latent_dim: Numbers that a sample is made from.
        width: Units of a hidden layer, or channels: of the dcgan's largest maps, of all the resnet's.
        loss: standard and non_saturating = cross-entropy; hinge; wasserstein = difference of mean scores.
        constraint: How the critic is kept Lipschitz.
        weight: lambda of a constraint that is a penalty; null = the usual one.
        clip: Largest absolute weight of the constraint clip; null = 0.01.
        n_power_iterations: Of a spectral constraint; null = the usual ones.
        target: Lipschitz constant that a gradient penalty or spectral constraint aims at; null = 1.
        n_critic: Steps of the critic before each of the generator.
        ema_decay: Of the average of the generator's weights, ramped from 0.1; 0 = none.
        conditional: Whether generator and critic are told the class.
        shape: Channels, height and width of a sample.
        n_classes: K.
        seed: Number from which every draw follows.
        optimizer: Name and settings of the generator's optimizer; None = Adam, lr 2e-4, betas 0 and 0.9.
        critic_optimizer: Of the critic's; None = the generator's.
        schedule: Name and settings of the learning-rate schedule of both, a step a generator step; None = constant.

    Source: Goodfellow et al. 2014; Arjovsky et al. 2017, algorithm 1; kexue.fm/archives/6051.
    """

    most_varied: Tensor  # 0-d, the greatest diversity so far

    objective = ("val/swd", "min")
    full_weights = True  # a penalty or a bound of bfloat16 weights is percents off
    batches_per_step = "n_critic"  # the setting that says how many of the data's batches a step takes

    def __init__(
        self,
        network: NetworkName = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        loss: LossName = "wasserstein",
        constraint: ConstraintName = "none",
        weight: float | None = None,
        clip: float | None = None,
        n_power_iterations: int | None = None,
        target: float | None = None,
        n_critic: int = 1,
        ema_decay: float = 0.0,
        conditional: bool = False,
        shape: tuple[int, int, int] = (1, 28, 28),
        n_classes: int = 10,
        seed: int = 0,
        optimizer: dict[str, Any] | None = None,
        critic_optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_settings(
            network=network,
            latent_dim=latent_dim,
            width=width,
            loss=loss,
            constraint=constraint,
            n_critic=n_critic,
            ema_decay=ema_decay,
        )
        check_data(shape, n_classes if conditional else None)
        self.constraint = chosen_constraint(constraint, weight, clip, n_power_iterations, target)
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.loss_name, self.n_critic, self.latent_dim, self.seed = loss, n_critic, latent_dim, seed
        self.shape = (shape[0], shape[1], shape[2])  # a list, when it comes from YAML
        self.n_classes = n_classes if conditional else 0
        with torch.random.fork_rng(devices=[]):  # torch's layers draw from the global generator alone
            torch.default_generator.set_state(draw(seed, "gan/weights").get_state())
            self.generator = Generator(network, self.shape, latent_dim, width, self.n_classes)
            self.critic = Critic(network, self.shape, width, self.n_classes)
        self.memory_format = torch.contiguous_format if network == "mlp" else torch.channels_last
        for part in (self.generator, self.critic):
            part.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.constraint.apply_to(self.critic, *self._example())
        self.average = Average(self.generator, ema_decay) if ema_decay else None
        self.trouble: str | None = None  # why the run has failed to learn, once it has
        self.register_buffer("most_varied", torch.tensor(0.0))
        self._measured: list[tuple[Tensor, Tensor | None]] = []  # validation samples, with their labels
        self._shown: Tensor | None = None  # some of them, for the pictures of points

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Samples (B, C, H, W) from noise (B, Z), of classes int64 (B,) where they are told; averaged weights if on."""
        samples: Tensor = (self.average or self.generator)(z, labels)
        return samples

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Samples (n, C, H, W) in [-1, 1], of classes in turn; the same seed gives the same."""
        z = torch.randn(n, self.latent_dim, generator=draw(seed, "gan/sample")).to(self.device).to(self.dtype)
        return self._generated(z, torch.arange(n, device=self.device) % max(self.n_classes, 1))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """n_critic steps of the critic, one of the generator; the terms of the last of each.

        `loss` is what the critic minimises, its penalty included; `critic_gap` is E D(x) - E D(G(z)).
        """
        step = (self.current_epoch, batch_idx)
        x, labels = self._real(batch)
        optimizer, critic_optimizer = self.optimizers()  # type: ignore[attr-defined]
        z = noise(self.seed, "gan/critic", step, len(x), self.latent_dim).to(x)
        epsilon = torch.special.ndtr(noise(self.seed, "gan/epsilon", step, len(x))).to(x)  # uniform in (0, 1)
        terms: dict[str, Tensor] = {}
        for i in range(self.n_critic):
            # Every n-th row: k processes then cut their shares of a batch as one process cuts the whole.
            part = slice(i, None, self.n_critic)
            of_class = None if labels is None else labels[part]
            terms = self._critic_step(x[part], of_class, z[part], epsilon[part], critic_optimizer)
        z = noise(self.seed, "gan/generator", step, len(x) // self.n_critic, self.latent_dim).to(x)
        terms["generator_loss"] = self._generator_step(z, of_class, optimizer)
        for schedule in _as_list(self.lr_schedulers()):
            schedule.step()
        return terms

    def _critic_step(
        self, real: Tensor, labels: Tensor | None, z: Tensor, epsilon: Tensor, optimizer: Any
    ) -> dict[str, Tensor]:
        real = real.contiguous(memory_format=self.memory_format)
        with torch.no_grad():
            fake = self.generator(z, labels)
        critic = self._told(labels)
        scores = _in_full(critic(torch.cat([real, fake])))  # one pass: a product of twice the rows is quicker than two
        scores_real, scores_fake = scores.chunk(2)
        loss = critic_loss(self.loss_name, scores_real, scores_fake)
        scores_of = (scores_real, scores_fake)
        penalty = self.constraint.penalty(self.critic, real, fake, epsilon, critic=critic, scores=scores_of)
        terms = {"critic_gap": (scores_real.detach() - scores_fake.detach()).mean()}
        if penalty is not None:
            loss = loss + penalty
            terms["penalty"] = penalty.detach()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.constraint.after_step(self.critic)
        return {"loss": loss.detach(), **terms}

    def _generator_step(self, z: Tensor, labels: Tensor | None, optimizer: Any) -> Tensor:
        with _frozen(self.critic):
            fake = self.generator(z, labels)
            loss = generator_loss(self.loss_name, _in_full(self.critic(fake, labels)))
            optimizer.zero_grad()
            self.manual_backward(loss)
        optimizer.step()
        if self.average is not None:
            self.average.update(self.generator)
        return loss.detach()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the critic's loss and gap on real samples it never saw."""
        x, labels = self._real(batch, is_cut=False)
        first_row = getattr(self.trainer.val_dataloaders, "first_row", None)
        row = int(first_row(batch_idx)) if first_row else batch_idx * len(x)
        z = row_noise(self.seed, "gan/validation", row, len(x), self.latent_dim).to(x)
        real = _in_full(self.critic(x, labels))
        fake = _in_full(self.critic(self.generator(z, labels), labels))
        quantities = {
            "val/critic_loss": critic_loss(self.loss_name, real, fake),
            "val/critic_gap": real.mean() - fake.mean(),
        }
        self.log_dict(quantities, on_step=False, on_epoch=True, batch_size=len(x), sync_dist=True)
        if sum(len(seen) for seen, _ in self._measured) * process()[1] < N_MEASURED:
            self._measured.append((x, labels))

    def on_validation_epoch_end(self) -> None:
        """Logs both bounds of the critic, and how samples compare with real ones; tells a run that learns no more."""
        real = torch.cat(gathered([x for x, _ in self._measured]))[:N_MEASURED]
        told = [y for _, y in self._measured if y is not None]
        labels = torch.cat(gathered(told))[:N_MEASURED] if self.n_classes else None
        self._measured = []
        self._shown = real
        z = torch.randn(len(real), self.latent_dim, generator=draw(self.seed, "gan/measured")).to(real)
        fake = self._generated(z, labels)
        upper, lower = lipschitz_bounds(self.critic, real, fake, labels)
        quantities = {"lipschitz/upper": upper, "lipschitz/lower": lower}
        if fake.isfinite().all():
            quantities |= self._compared(real.flatten(1).float(), fake.flatten(1).float())
        else:
            quantities["val/swd"] = math.nan
        self.log_dict(quantities, sync_dist=True)
        self._judge(quantities)

    def configure_optimizers(self) -> Any:
        """The generator's optimizer and the critic's, each with the schedule."""
        chosen = self.hparams["optimizer"] or OPTIMIZER
        critics = self.hparams["critic_optimizer"] or chosen
        pairs = ((self.generator, chosen), (self.critic, critics))
        built = [configure(part.parameters(), settings, self.hparams["schedule"]) for part, settings in pairs]
        return tuple(each if isinstance(each, dict) else {"optimizer": each} for each in built)

    def check_data(self, data: Any) -> None:
        """Refuses data of another shape, or that the generator's last layer cannot make.

        Args:
            data: Anything with `shape`, (C, H, W), and `value_range`, the least and the greatest value of a pixel.

        Raises:
            ValueError: Samples are of another shape, or do not fill [-1, 1].
        """
        if tuple(data.shape) != self.shape:
            raise ValueError(f"data.shape = {tuple(data.shape)}: model.shape is {self.shape}; give it the data's")
        low, high = data.value_range
        if (low, high) != (-1, 1):
            raise ValueError(
                f"data.pixels: values in [{low:g}, {high:g}]: the generator ends in tanh and makes [-1, 1]; "
                "use --data.pixels symmetric"
            )

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """torch.compile of the two networks, which the steps call; arguments are torch's."""
        self.generator.compile(*args, **kwargs)
        self.critic.compile(*args, **kwargs)

    def pictures(self) -> dict[str, Tensor]:
        """Images by name, each (C, H, W) in [0, 1], of the same noise each time: samples, and ways between samples.

        Points of the plane are drawn over the critic's score.
        """
        if self.shape == (2, 1, 1):
            return {} if self._shown is None else {"samples": self._points(self._shown)}
        a, b = torch.randn(2, COLUMNS, 1, self.latent_dim, generator=draw(self.seed, "gan/ways"))
        angle = torch.linspace(0, math.pi / 2, COLUMNS)[:, None]
        z = (angle.cos() * a + angle.sin() * b).flatten(0, 1).to(self.device).to(self.dtype)  # normal all along the way
        rows = torch.arange(COLUMNS, device=self.device).repeat_interleave(COLUMNS) % max(self.n_classes, 1)
        grids = {"samples": self.sample(N_SAMPLES, self.seed), "interpolations": self._generated(z, rows)}
        return {name: enlarge(tile((x.float() + 1) / 2, COLUMNS)).cpu() for name, x in grids.items()}

    @torch.no_grad()
    def _generated(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Samples of the generator in evaluation mode, a chunk at a time."""
        was_training = self.generator.training
        self.generator.eval()
        told = labels if self.n_classes else None
        chunks = [
            self(z[i : i + CHUNK], None if told is None else told[i : i + CHUNK]) for i in range(0, len(z), CHUNK)
        ]
        self.generator.train(was_training)
        return torch.cat(chunks)

    def _told(self, labels: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The critic of x alone: of labels (B,) for B rows, or for B real and B generated ones."""
        if labels is None:
            return self.critic
        return lambda x: self.critic(x, labels.repeat(len(x) // len(labels)))

    def _real(self, batch: Batch, *, is_cut: bool = True) -> tuple[Tensor, Tensor | None]:
        """Samples of a batch and, where the networks are told, their labels; refuses what does not fit."""
        x = batch if isinstance(batch, Tensor) else batch[0]
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"samples of shape {tuple(x.shape[1:])}: model.shape is {self.shape}; give it the data's")
        if is_cut and len(x) % self.n_critic:
            raise ValueError(
                f"a batch of {len(x)} rows: model.n_critic = {self.n_critic} parts must be equal; use a loader of "
                f"{self.n_critic} times the critic's batch size"
            )
        if not self.n_classes:
            return x, None
        if isinstance(batch, Tensor) or len(batch) < 2:
            raise ValueError("a batch without labels: model.conditional needs pairs (samples, labels)")
        return x, batch[1]

    def _example(self) -> tuple[Tensor, ...]:
        """What the critic takes, of one sample."""
        x = torch.zeros(1, *self.shape)
        return (x, torch.zeros(1, dtype=torch.int64)) if self.n_classes else (x,)

    def _compared(self, real: Tensor, fake: Tensor) -> dict[str, float]:
        found = {
            "val/swd": sliced_wasserstein(real, fake),
            "val/diversity": diversity(real, fake),
        }
        data: Any = getattr(self.trainer, "datamodule", None)
        if hasattr(data, "centres"):
            modes = mode_coverage(fake.cpu(), data.centres, data.spread)
            found["val/modes"] = float(modes.covered)
            found["val/high_quality_fraction"] = modes.high_quality_fraction
        return found

    def _judge(self, quantities: dict[str, float]) -> None:
        """Says why the run learns nothing more, once; one that has diverged is ended."""
        gap = abs(float(self.trainer.callback_metrics.get("val/critic_gap", 0.0)))
        varied = quantities.get("val/diversity")
        said = None
        if varied is None:
            said = "diverged: samples are not finite; use a lower lr or a --model.constraint"
        elif not gap < EXPLODED:
            said = f"diverged: the critic's mean scores are {gap:.3g} apart; use a lower lr or a --model.constraint"
        else:
            self.most_varied.clamp_(min=varied)
            if self.most_varied >= VARIED and varied < COLLAPSED:
                most = float(self.most_varied)
                said = f"mode collapse: diversity {varied:.2g} after {most:.2g}; use a --model.constraint or a lower lr"
        self.trouble = self.trouble or said
        self.trainer.should_stop |= said is not None and said.startswith("diverged")

    def _points(self, real: Tensor) -> Tensor:
        label = None if not self.n_classes else 0
        critic = self.critic.of_class(label)
        points = (real.flatten(1), self.sample(len(real), self.seed).flatten(1))
        return draw_points(lambda x: critic(x[..., None, None].to(real)).squeeze(1), *points)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """No gradients of the module's parameters: the backward pass goes through it to its input alone."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def _in_full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _as_list(schedules: Any) -> list[Any]:
    return [] if schedules is None else schedules if isinstance(schedules, list) else [schedules]
