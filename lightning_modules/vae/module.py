"""Variational auto-encoders as a Lightning module, after kexue.fm/archives/5383.

Shapes: B images of C channels, H x W pixels; D latent dimensions; k draws of z for an image; K classes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_modules.data.sampling import draw, noise, process, row_noise
from lightning_modules.optimizers import configure
from lightning_modules.vae import networks
from lightning_modules.vae.gallery import Gallery
from lightning_modules.vae.likelihood import Likelihood, importance_sampling
from lightning_modules.vae.losses import (
    active_units,
    bernoulli_nll,
    bernoulli_nlls,
    gaussian_kl,
    gaussian_nll,
    gaussian_nlls,
    latent_moments,
    log_mean_exp,
    one_sample_kl,
    optimal_log_sigma,
)
from lightning_modules.vae.settings import check_settings

FIRST_SIGMA = 0.3  # where a sigma that is not given starts: the spread of pixels in [0, 1]; from 1 latents may collapse
SIGMA_MOMENTUM = 0.1  # of the optimal sigma's running mean: torch's for BatchNorm
AT_ONCE = 500  # images that pass a network without gradient: the cnn needs half a gigabyte for 5,000 of 28x28

Batch = Tensor | tuple[Tensor, ...] | list[Tensor]


class Terms(NamedTuple):
    """What one pass over a batch gives."""

    loss: Tensor  # (B,), what is minimised
    quantities: dict[str, Tensor]  # by metric name, their means over all entries are recorded
    mean: Tensor | None  # (B, D), of the posterior; the loss prior has none


class VAE(pl.LightningModule):
    """Variational auto-encoder; minimises -ln p(x|z) + beta KL(q(z|x) || p(z)), or another loss of the same family.

    All quantities are sums over pixels and latent dimensions and means over images, in nats. `elbo` is the bound on
    ln p(x) that the loss stands for, whatever `beta` weighs; of an autoencoder there is none. Batches are images
    (B, C, H, W), alone or first in a pair with their labels.

    Args:
        latent_dim: Numbers that describe an image; 2 can be drawn as a map.
        network: mlp = one hidden layer on each side; cnn = two 3x3 convolutions of stride 2 (32 and 64 filters) and
            16 dense units, for images of at least 8x8; linear = a linear map on each side, and the same posterior
            variances for every image (with gaussian pixels: probabilistic PCA).
        hidden_dim: Units of the mlp's hidden layer; the others have none to choose.
        decoder: Distribution of a pixel: bernoulli needs values in [0, 1], gaussian takes any.
        sigma: Standard deviation of a gaussian decoder's pixels; null = learnt, one for all pixels; optimal = the
            likeliest one of each batch, its running mean outside of training.
        loss: elbo = draws z from q(z|x), equations (4) and (5) of kexue.fm/archives/5383; iwae = the bound of n_samples
            weighted draws, equation (11); prior = n_samples draws from p(z) that the batch shares and no encoder,
            equation (7); autoencoder = no draw and no KL, only reconstruction.
        n_samples: Draws of z, for each image or (prior) each batch.
        beta: Weight of the KL term of the loss elbo; 1 makes it the negative ELBO, 0 leaves an auto-encoder with noise.
        kl: closed_form = exact KL of two normal distributions; one_sample = ln q(z|x) - ln p(z) at the same draw, which
            the loss iwae takes in any case.
        mean_scale: Standard deviation over the batch that posterior means are brought to, so that KL >= D/2 of its
            square and cannot collapse (BN-VAE, Zhu et al. 2020); null = they stay as they are.
        conditional: Whether encoder and decoder see the label.
        shape: Channels, height and width of an image.
        n_classes: K, for a conditional VAE.
        seed: Number from which every draw follows.
        optimizer: Name and settings of the optimizer; None = the default one.
        schedule: Name and settings of the learning-rate schedule; None = constant.
    """

    objective = ("val/elbo", "max")
    full_weights = True  # a likelihood of bfloat16 weights is nats off
    encoder: nn.Sequential  # where `has_encoder`
    log_sigma: Tensor  # 0-d; a Gaussian decoder's alone

    def __init__(
        self,
        latent_dim: int = 2,
        network: Literal["mlp", "cnn", "linear"] = "mlp",
        hidden_dim: int = 256,
        decoder: Literal["bernoulli", "gaussian"] = "bernoulli",
        sigma: float | Literal["optimal"] | None = None,
        loss: Literal["elbo", "iwae", "prior", "autoencoder"] = "elbo",
        n_samples: int = 1,
        beta: float = 1.0,
        kl: Literal["closed_form", "one_sample"] = "closed_form",
        mean_scale: float | None = None,
        conditional: bool = False,
        shape: tuple[int, int, int] = (1, 28, 28),
        n_classes: int | None = None,
        seed: int = 0,
        optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        n_classes = n_classes if conditional else None  # a VAE that sees no label takes data of any classes
        self.save_hyperparameters()
        check_settings(self.hparams)
        self.latent_dim, self.decoder_name, self.beta, self.kl_name, self.seed = latent_dim, decoder, beta, kl, seed
        self.loss_name, self.n_samples, self.n_classes = loss, n_samples, n_classes
        if loss == "autoencoder":
            self.objective = ("val/reconstruction", "min")
        self._build((shape[0], shape[1], shape[2]), network, hidden_dim, mean_scale)  # a list, when it comes from YAML
        self.fits_sigma = sigma == "optimal"
        if decoder == "gaussian":
            log_sigma = torch.tensor(math.log(sigma if isinstance(sigma, int | float) else FIRST_SIGMA))
            if sigma is None:
                self.log_sigma = nn.Parameter(log_sigma)
            else:
                self.register_buffer("log_sigma", log_sigma, persistent=self.fits_sigma)
        self._gallery = Gallery()
        self._moments = torch.zeros(3, latent_dim)  # of the posterior means over this validation

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Reconstructed pixel means, decoded at the posterior means; (B, C, H, W) to (B, C, H, W)."""
        return self.decode(self.encode(x, y)[0], y)

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), each (B, D), in float32 at least.

        Args:
            x: (B, C, H, W).
            y: Labels int64 (B,) of a conditional VAE.

        Raises:
            ValueError: The loss is prior, which trains no encoder.
        """
        if not self.has_encoder:
            raise ValueError("model.loss = prior: trains no encoder; use --model.loss elbo")
        if self.planes is not None:
            plane = self.planes(y).unflatten(1, (1, *x.shape[2:]))  # (B, 1, H, W)
            x = torch.cat([x, plane.to(x.dtype)], 1)
        mean, log_var = _in_full(self.encoder(x)).chunk(2, 1)
        return mean, log_var

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Means of the pixels given z, and the labels of a conditional VAE; (B, D) to (B, C, H, W)."""
        pixels = self._pixels(z, y)
        return pixels.sigmoid() if self.decoder_name == "bernoulli" else pixels

    def log_likelihood(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Log-likelihood ln p(x|z) of each image under its own draws.

        Args:
            x: (B, C, H, W).
            z: (B, k, D).
            y: Labels int64 (B,) of a conditional VAE.

        Returns:
            (B, k).
        """
        pixels = self._pixels(z.flatten(0, 1), _each(y, z.shape[1]))
        return -self._reconstruction(torch.unflatten(pixels, 0, z.shape[:2]), x)

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Pixel means (n, C, H, W) decoded from n draws of the prior, the labels of a conditional VAE in turn.

        The same seed gives the same images. An autoencoder has no prior: there they show what its codes are not.
        """
        z = torch.randn(n, self.latent_dim, generator=draw(seed, "prior", 0)).to(self.device)
        y = torch.arange(n, device=self.device) % self.n_classes if self.n_classes else None
        return torch.cat([self.decode(z[rows], None if y is None else y[rows]) for rows in _parts_of(n)])

    @property
    def has_encoder(self) -> bool:
        """Whether there is q(z|x); the loss prior trains none."""
        return self.loss_name != "prior"

    @property
    def has_likelihood(self) -> bool:
        """Whether `nll` is defined; an autoencoder has no p(x)."""
        return self.loss_name != "autoencoder"

    @torch.no_grad()
    def nll(self, batch: Batch, n_samples: int = 1000, seed: int = 0, first_row: int = 0) -> Likelihood:
        """-ln p(x) of each image, -ln p(x|label) of a conditional VAE, by importance sampling in evaluation mode.

        Draws come from q(z|x); for the loss prior, which has none, from the prior, where few of them count unless D is
        small. Bernoulli pixels have a likelihood where they are 0 or 1; of grey ones this is a cross-entropy, and
        `is_normalised` False. Gaussian pixels have a density.

        Args:
            batch: Images (B, C, H, W), alone or first in a pair with their labels.
            n_samples: Draws of z for an image.
            seed: Of the draws; an image gets the same ones whatever other images there are.
            first_row: Number of the first image in the whole set, where that comes in parts.

        Raises:
            ValueError: Fewer than one sample; the loss is autoencoder, which has no likelihood.
        """
        if not self.has_likelihood:
            raise ValueError("model.loss = autoencoder: has no likelihood; use --model.loss elbo")
        x, y = self._parts(batch)
        x, y = x.to(self.device), None if y is None else y.to(self.device)
        with _evaluating(self):
            mean, log_var = self._proposal(x, y)
            found = importance_sampling(
                lambda rows, z: self.log_likelihood(x[rows], z, None if y is None else y[rows]),
                mean,
                log_var,
                n_samples,
                n_pixels=x[0].numel(),
                seed=seed,
                first_row=first_row,
            )
        is_grey = self.decoder_name == "bernoulli" and bool(((x > 0) & (x < 1)).any())
        return found._replace(is_normalised=not is_grey)

    def with_noise(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images, labels of a conditional VAE, and noise for each, (B, k D): what `per_sample_loss` takes."""
        x, y = self._parts(batch)
        epsilon = self._row_noise("per_sample_loss", 0, len(x)).to(x)
        rows = epsilon.view(len(x), -1) if self.has_encoder else epsilon.view(1, -1).expand(len(x), -1)
        return (x, rows) if y is None else (x, y, rows)

    def per_sample_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The loss of each image at its own noise, (B,): what `lightning_modules.dynamics` measures."""
        x, epsilon = batch[0], batch[-1]
        y = batch[1] if len(batch) == 3 else None
        rows = epsilon if self.has_encoder else epsilon[:1]
        return self._terms(x, y, rows.reshape(-1, self.latent_dim)).loss

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The loss to minimise and, detached, the terms it is made of."""
        x, y = self._parts(batch)
        step, k = (self.current_epoch, batch_idx), self.n_samples
        if not self.has_encoder:
            epsilon = torch.randn(k, self.latent_dim, generator=draw(self.seed, "prior/shared", step))
        else:
            epsilon = noise(self.seed, "posterior", step, len(x) * k, self.latent_dim)
        terms = self._terms(x, y, epsilon.to(x.device), fits_sigma=self.fits_sigma)
        return {"loss": terms.loss.mean(), **_quantities(terms)}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the same terms for the validation set, with the same noise for an image in every epoch."""
        x, y = self._parts(batch)
        terms = self._terms(x, y, self._row_noise("val", self._first_row(batch_idx, len(x)), len(x)).to(x.device))
        for name, value in _quantities(terms).items():
            self.log(f"val/{name}", value, on_step=False, on_epoch=True, batch_size=len(x), sync_dist=True)
        if terms.mean is not None:
            self._moments = self._moments + latent_moments(terms.mean)
        self._gallery.keep(batch, terms.mean, is_first=batch_idx == 0)

    def on_validation_epoch_start(self) -> None:
        """Forgets the sums of the epoch before."""
        self._moments = torch.zeros(3, self.latent_dim, device=self.device)
        self._gallery.forget_codes()

    def on_validation_epoch_end(self) -> None:
        """Logs the number of active units, which only the whole set shows."""
        self._gallery.gather()
        if self.has_encoder:
            moments = self.trainer.strategy.reduce(self._moments, reduce_op="sum")
            self.log("val/active_units", active_units(moments), sync_dist=True)
        if self.decoder_name == "gaussian":
            self.log("val/decoder_sigma", self.log_sigma.exp(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule named in the settings."""
        return configure(self.parameters(), self.hparams["optimizer"], self.hparams["schedule"])

    def check_data(self, data: Any) -> None:
        """Refuses data this model cannot describe.

        Args:
            data: Anything with `value_range`, the least and the greatest value a pixel can take.

        Raises:
            ValueError: A Bernoulli decoder is given pixels outside [0, 1]; single images are to be normalised.
        """
        low, high = data.value_range
        if self.decoder_name == "bernoulli" and not 0 <= low <= high <= 1:
            raise ValueError(
                f"model.decoder = bernoulli: needs pixels in [0, 1], data has [{low:g}, {high:g}]; "
                "use --data.pixels unit or --model.decoder gaussian"
            )
        if self.hparams["mean_scale"] is not None and data.batch_size < 2:
            raise ValueError(f"data.batch_size = {data.batch_size}: model.mean_scale normalises over at least 2 images")

    def pictures(self) -> dict[str, Tensor]:
        """Images by name, each (C, H, W) in [0, 1], see `Gallery.pictures`."""
        with _evaluating(self):
            return self._gallery.pictures(self)

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """The file latent.npz, see `Gallery.arrays`."""
        with _evaluating(self):
            return self._gallery.arrays(self)

    def _build(self, shape: tuple[int, int, int], network: str, hidden_dim: int, mean_scale: float | None) -> None:
        """The two networks; a label is one more plane to the encoder, and a one-hot vector beside z to the decoder."""
        n_in, seen = self.latent_dim + (self.n_classes or 0), (shape[0] + bool(self.n_classes), *shape[1:])
        self.planes = nn.Embedding(self.n_classes, math.prod(shape[1:])) if self.n_classes else None
        if self.has_encoder:
            self.encoder = networks.encoder(network, seen, self.latent_dim, hidden_dim)
            if mean_scale is not None:
                self.encoder.append(networks.ScaledMeans(self.latent_dim, mean_scale))
        self.decoder = networks.decoder(network, shape, n_in, hidden_dim)

    def _terms(self, x: Tensor, y: Tensor | None, epsilon: Tensor, fits_sigma: bool = False) -> Terms:
        """Equation (4), (5), (7) or (11) of kexue.fm/archives/5383, z = mean + epsilon * sigma.

        Args:
            x: (B, C, H, W).
            y: Labels (B,) of a conditional VAE.
            epsilon: (B k, D), the draws of an image next to one another; of the loss prior (k, D), shared by all.
            fits_sigma: Whether sigma is the batch's optimal one.
        """
        if not self.has_encoder:
            bound = log_mean_exp(-self._reconstruction(self._pixels(epsilon).unsqueeze(0), x))
            return Terms(-bound, {"elbo": bound}, None)
        mean, log_var = self.encode(x, y)
        k, sigma = self.n_samples, (0.5 * log_var).exp()
        is_drawn = self.loss_name != "autoencoder"
        z = _each(mean, k) + epsilon * _each(sigma, k) if is_drawn else mean  # (B k, D)
        pixels = self._pixels(z, _each(y, k))
        if k > 1:
            pixels = torch.unflatten(pixels, 0, (-1, k))
        log_sigma = self._fitted_log_sigma(pixels, x if k == 1 else x.unsqueeze(1)) if fits_sigma else None
        reconstruction = self._reconstruction(pixels, x, log_sigma)  # (B,) or (B, k)
        if not is_drawn:
            return Terms(reconstruction, {"reconstruction": reconstruction}, mean)
        is_iwae = self.loss_name == "iwae"
        if self.kl_name == "closed_form" and not is_iwae:
            kl = gaussian_kl(mean, log_var)
        else:
            kl = one_sample_kl(z, _each(mean, k), _each(log_var, k)).view_as(reconstruction)
        quantities = {"reconstruction": reconstruction, "kl": kl, "sigma_ratio": sigma}  # the prior's sigma is 1
        if is_iwae:
            bound = log_mean_exp(-(reconstruction + kl).view(-1, k))
            return Terms(-bound, {"elbo": bound, **quantities}, mean)
        if k > 1:
            reconstruction, kl = reconstruction.mean(1), kl.view(len(x), -1).mean(1)
        return Terms(reconstruction + self.beta * kl, quantities, mean)

    def _pixels(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The decoder's output (B, C, H, W): logits of a Bernoulli, means of a Gaussian."""
        z = z.to(self.dtype)
        if self.n_classes:
            if y is None:
                raise ValueError("decode: a conditional VAE needs the labels too, int64 (B,)")
            classes = torch.arange(self.n_classes, device=z.device)
            z = torch.cat([z, (y.unsqueeze(1) == classes).to(z.dtype)], 1)  # F.one_hot does not work under vmap
        return _in_full(self.decoder(z))

    def _reconstruction(self, pixels: Tensor, x: Tensor, log_sigma: Tensor | None = None) -> Tensor:
        """-ln p(x|z): (B,) for pixels (B, C, H, W), (B, k) for draws (B or 1, k, C, H, W); sigma as held by default."""
        is_one = pixels.ndim == x.ndim
        if self.decoder_name == "bernoulli":
            return bernoulli_nll(pixels, x) if is_one else bernoulli_nlls(pixels, x)
        return (gaussian_nll if is_one else gaussian_nlls)(
            pixels, x, self.log_sigma if log_sigma is None else log_sigma
        )

    def _fitted_log_sigma(self, pixels: Tensor, x: Tensor) -> Tensor:
        """The batch's optimal ln sigma, which the running mean follows."""
        log_sigma = optimal_log_sigma(pixels, x)
        n_processes = process()[1]
        if n_processes > 1:  # their images are one batch
            square = (2 * log_sigma).exp()
            torch.distributed.all_reduce(square)
            log_sigma = 0.5 * (square / n_processes).log()
        self.log_sigma.lerp_(log_sigma, SIGMA_MOMENTUM)
        return log_sigma

    def _proposal(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, D) of what z is drawn from to find p(x): the posterior, else the prior."""
        if not self.has_encoder:
            return x.new_zeros(len(x), self.latent_dim), x.new_zeros(len(x), self.latent_dim)
        codes = [self.encode(x[rows], None if y is None else y[rows]) for rows in _parts_of(len(x))]
        return torch.cat([mean for mean, _ in codes]), torch.cat([log_var for _, log_var in codes])

    def _row_noise(self, stream: str, first_row: int, n_rows: int) -> Tensor:
        """Noise (B k, D) that belongs to the rows of a whole set; for the loss prior (k, D), one for them all."""
        k = self.n_samples
        if not self.has_encoder:
            return torch.randn(k, self.latent_dim, generator=draw(self.seed, f"{stream}/shared"))
        return row_noise(self.seed, stream, first_row * k, n_rows * k, self.latent_dim)

    def _parts(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Images, and the labels of a conditional VAE."""
        if isinstance(batch, Tensor) or not self.n_classes:
            if self.n_classes:
                raise ValueError("batch: images alone; model.conditional needs pairs (images, labels)")
            return batch if isinstance(batch, Tensor) else batch[0], None
        return batch[0], batch[1]

    def _first_row(self, batch_idx: int, n_rows: int) -> int:
        """Where this batch starts in the whole validation set; a loader that knows is asked."""
        first_row = getattr(self.trainer.val_dataloaders, "first_row", None)
        return int(first_row(batch_idx)) if first_row else batch_idx * n_rows


def _each(rows: Tensor | None, k: int) -> Any:
    """Every row k times in succession; None of None."""
    return rows if k == 1 or rows is None else rows.repeat_interleave(k, 0)


def _parts_of(n: int) -> list[slice]:
    """Rows of n images a few hundred at a time, at least one part."""
    return [slice(start, start + AT_ONCE) for start in range(0, max(n, 1), AT_ONCE)]


def _in_full(x: Tensor) -> Tensor:
    """The tensor in float32 or wider: sums over pixels in bfloat16 would keep two digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _quantities(terms: Terms) -> dict[str, Tensor]:
    means = {name: values.detach().mean() for name, values in terms.quantities.items()}
    if "kl" in means and "elbo" not in means:
        return {"elbo": -(means["reconstruction"] + means["kl"]), **means}
    return means


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """In evaluation mode; afterwards in the mode it was."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
