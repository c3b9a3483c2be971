"""A variational auto-encoder as a Lightning module: one posterior sample an image, after kexue.fm/archives/5383.

Shapes: B images of C channels, H x W pixels; D latent dimensions.
"""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_modules.data.sampling import draw, noise, row_noise
from lightning_modules.grids import enlarge, tile
from lightning_modules.optimizers import configure
from lightning_modules.vae import networks
from lightning_modules.vae.losses import (
    active_units,
    bernoulli_nll,
    gaussian_kl,
    gaussian_nll,
    latent_moments,
    one_sample_kl,
)

FIRST_SIGMA = 0.3  # where a learnt sigma starts: about the spread of pixels in [0, 1]; from 1 latents tend to collapse
N_KEPT = 16  # validation images shown beside their reconstructions
N_SAMPLES = 64
COLUMNS = 8
MANIFOLD_SIDE = 15  # the grid of the programs that accompany kexue.fm/archives/5383

Batch = Tensor | tuple[Tensor, ...] | list[Tensor]


class Terms(NamedTuple):
    """What one pass over a batch gives: the two terms of the negative ELBO, and the posterior they came from."""

    reconstruction: Tensor  # (B,), -ln p(x|z) in nats
    kl: Tensor  # (B,), in nats
    mean: Tensor  # (B, D)
    sigma: Tensor  # (B, D), the posterior's standard deviation


class VAE(pl.LightningModule):
    """Variational auto-encoder; minimises -ln p(x|z) + beta KL(q(z|x) || p(z)), one draw z for each image.

    All quantities are sums over pixels and latent dimensions and means over images, in nats. `elbo` is the bound
    itself, whatever `beta` weighs. Batches are images (B, C, H, W), alone or first in a pair with their labels.

    Args:
        latent_dim: Numbers that describe an image; 2 can be drawn as a map.
        network: mlp = one hidden layer on each side; cnn = two 3x3 convolutions of stride 2 (32 and 64 filters) and
            16 dense units, for images of at least 8x8.
        hidden_dim: Units of the mlp's hidden layer; the cnn has none to choose.
        decoder: Distribution of a pixel: bernoulli needs values in [0, 1], gaussian takes any.
        sigma: Standard deviation of a gaussian decoder's pixels; null = learnt, one for all pixels.
        beta: Weight of the KL term; 1 makes the loss the negative ELBO, 0 leaves an auto-encoder with noise.
        kl: closed_form = exact KL of two normal distributions; one_sample = ln q(z|x) - ln p(z) at the same draw.
        shape: Channels, height and width of an image.
        seed: Number from which every draw follows.
        optimizer: Name and settings of the optimizer; None = the default one.
        schedule: Name and settings of the learning-rate schedule; None = constant.
    """

    objective = ("val/elbo", "max")
    log_sigma: Tensor  # 0-d; a Gaussian decoder's alone

    def __init__(
        self,
        latent_dim: int = 2,
        network: Literal["mlp", "cnn"] = "mlp",
        hidden_dim: int = 256,
        decoder: Literal["bernoulli", "gaussian"] = "bernoulli",
        sigma: float | None = None,
        beta: float = 1.0,
        kl: Literal["closed_form", "one_sample"] = "closed_form",
        shape: tuple[int, int, int] = (1, 28, 28),
        seed: int = 0,
        optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _check_shape(shape, network)
        _check_settings(latent_dim, network, hidden_dim, decoder, sigma, beta, kl)
        self.save_hyperparameters()
        self.latent_dim, self.decoder_name, self.beta, self.kl_name, self.seed = latent_dim, decoder, beta, kl, seed
        shape = (shape[0], shape[1], shape[2])  # a list, when it comes from YAML
        if network == "cnn":
            self.encoder = networks.cnn_encoder(shape, latent_dim)
            self.decoder = networks.cnn_decoder(shape, latent_dim)
        else:
            self.encoder = networks.mlp_encoder(shape, latent_dim, hidden_dim)
            self.decoder = networks.mlp_decoder(shape, latent_dim, hidden_dim)
        if decoder == "gaussian" and sigma is None:
            self.log_sigma = nn.Parameter(torch.tensor(math.log(FIRST_SIGMA)))
        elif sigma is not None:
            self.register_buffer("log_sigma", torch.tensor(math.log(sigma)), persistent=False)
        self._kept: Tensor | None = None  # first images of the validation set
        self._moments = torch.zeros(3, latent_dim)  # of the posterior means over this validation

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructed pixel means, decoded at the posterior means; (B, C, H, W) to (B, C, H, W)."""
        return self.decode(self.encode(x)[0])

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), each (B, D), in float32 at least."""
        mean, log_var = _in_full(self.encoder(x)).chunk(2, 1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        """Means of the pixels given z; (B, D) to (B, C, H, W)."""
        pixels = self._pixels(z)
        return pixels.sigmoid() if self.decoder_name == "bernoulli" else pixels

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Pixel means (n, C, H, W) decoded from n draws of the prior; the same seed gives the same images."""
        return self.decode(torch.randn(n, self.latent_dim, generator=draw(seed, "prior", 0)).to(self.device))

    def with_noise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images and a draw of noise for each, (B, D): what `per_sample_loss` takes."""
        x = _images(batch)
        return x, row_noise(self.seed, "per_sample_loss", 0, len(x), self.latent_dim).to(x)

    def per_sample_loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of each image at its own noise, (B,): what `lightning_modules.dynamics` measures."""
        terms = self._terms(*batch)
        return terms.reconstruction + self.beta * terms.kl

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The loss to minimise and, detached, the terms it is made of."""
        x = _images(batch)
        step = (self.current_epoch, batch_idx)
        terms = self._terms(x, noise(self.seed, "posterior", step, len(x), self.latent_dim).to(x.device))
        return {"loss": terms.reconstruction.mean() + self.beta * terms.kl.mean(), **_quantities(terms)}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the same terms for the validation set, with the same noise for an image in every epoch."""
        x = _images(batch)
        first_row = self._first_row(batch_idx, len(x))
        terms = self._terms(x, row_noise(self.seed, "val", first_row, len(x), self.latent_dim).to(x.device))
        for name, value in _quantities(terms).items():
            self.log(f"val/{name}", value, on_step=False, on_epoch=True, batch_size=len(x), sync_dist=True)
        self._moments = self._moments + latent_moments(terms.mean)
        if batch_idx == 0:
            self._kept = x[:N_KEPT].clone()  # a slice would keep the whole batch

    def on_validation_epoch_start(self) -> None:
        """Forgets the sums of the epoch before."""
        self._moments = torch.zeros(3, self.latent_dim, device=self.device)

    def on_validation_epoch_end(self) -> None:
        """Logs the number of active units, which only the whole set shows."""
        moments = self.trainer.strategy.reduce(self._moments, reduce_op="sum")
        self.log("val/active_units", active_units(moments), sync_dist=True)
        if self.decoder_name == "gaussian":
            self.log("val/decoder_sigma", self.log_sigma.exp(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule named in the settings."""
        return configure(self.parameters(), self.hparams["optimizer"], self.hparams["schedule"])

    def check_data(self, data: Any) -> None:
        """Refuses data this decoder cannot describe.

        Args:
            data: Anything with `value_range`, the least and the greatest value a pixel can take.

        Raises:
            ValueError: A Bernoulli decoder is given pixels outside [0, 1].
        """
        low, high = data.value_range
        if self.decoder_name == "bernoulli" and not 0 <= low <= high <= 1:
            raise ValueError(
                f"model.decoder = bernoulli: needs pixels in [0, 1], data has [{low:g}, {high:g}]; "
                "use --data.pixels unit or --model.decoder gaussian"
            )

    def pictures(self) -> dict[str, Tensor]:
        """Images by name, each (C, H, W) in [0, 1]: samples, reconstructions, the manifold of a 2-D latent space."""
        grids = {"samples": tile(self._shown(self.sample(N_SAMPLES, self.seed)), COLUMNS)}
        if self._kept is not None:
            grids["reconstructions"] = self._beside_reconstructions(self._kept)
        if self.latent_dim == 2:
            grids["manifold"] = tile(self._manifold()[1], MANIFOLD_SIDE)
        return {name: enlarge(grid).cpu() for name, grid in grids.items()}

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """The file latent.npz of a 2-D latent space: `grid` (n, n, 2), `decoded` uint8 (n, n, H, W[, C])."""
        if self.latent_dim != 2:
            return {}
        z, images = self._manifold()
        decoded = (255 * images).round().byte().movedim(1, -1).squeeze(-1)  # (n n, H, W[, C])
        arrays = {"grid": z.cpu().numpy(), "decoded": decoded.cpu().numpy()}
        side = MANIFOLD_SIDE
        return {"latent.npz": {name: array.reshape(side, side, *array.shape[1:]) for name, array in arrays.items()}}

    def _terms(self, x: Tensor, epsilon: Tensor) -> Terms:
        """Equation (4) or (5) of kexue.fm/archives/5383, z = mean + epsilon * sigma."""
        mean, log_var = self.encode(x)
        sigma = (0.5 * log_var).exp()
        z = mean + epsilon * sigma
        pixels = self._pixels(z)
        bernoulli = self.decoder_name == "bernoulli"
        reconstruction = bernoulli_nll(pixels, x) if bernoulli else gaussian_nll(pixels, x, self.log_sigma)
        kl = gaussian_kl(mean, log_var) if self.kl_name == "closed_form" else one_sample_kl(z, mean, log_var)
        return Terms(reconstruction, kl, mean, sigma)

    def _pixels(self, z: Tensor) -> Tensor:
        """The decoder's output (B, C, H, W): logits of a Bernoulli, means of a Gaussian."""
        return _in_full(self.decoder(z.to(self.dtype)))

    def _first_row(self, batch_idx: int, n_rows: int) -> int:
        """Where this batch starts in the whole validation set; a loader that knows is asked."""
        first_row = getattr(self.trainer.val_dataloaders, "first_row", None)
        return int(first_row(batch_idx)) if first_row else batch_idx * n_rows

    @torch.no_grad()
    def _beside_reconstructions(self, x: Tensor) -> Tensor:
        """Grid with rows of originals, each above the row of its reconstructions; a last row not full is left out."""
        columns = min(COLUMNS, len(x))
        x = x[: len(x) // columns * columns]
        rows = zip(torch.split(x, columns), torch.split(self(x), columns), strict=True)
        return tile(self._shown(torch.cat([images for pair in rows for images in pair])), columns)

    @torch.no_grad()
    def _manifold(self) -> tuple[Tensor, Tensor]:
        """Points (n n, 2) at equal steps of prior probability, the first number by row, and the images there."""
        quantiles = torch.special.ndtri(torch.linspace(0.05, 0.95, MANIFOLD_SIDE)).to(self.device)
        z = torch.cartesian_prod(quantiles, quantiles)
        return z, self._shown(self.decode(z))

    def _shown(self, images: Tensor) -> Tensor:
        """Pixels mapped to [0, 1]: from [0, 1], or for a Gaussian decoder from the range of the images kept."""
        low, high = (0.0, 1.0)
        if self.decoder_name == "gaussian" and self._kept is not None:
            low, high = (float(bound) for bound in self._kept.aminmax())
        return ((images.float() - low) / (high - low or 1.0)).clamp(0, 1)


def _images(batch: Batch) -> Tensor:
    return batch if isinstance(batch, Tensor) else batch[0]


def _in_full(x: Tensor) -> Tensor:
    """The tensor in float32 or wider: sums over pixels in bfloat16 would keep two digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _quantities(terms: Terms) -> dict[str, Tensor]:
    reconstruction, kl = terms.reconstruction.detach().mean(), terms.kl.detach().mean()
    return {
        "elbo": -(reconstruction + kl),
        "reconstruction": reconstruction,
        "kl": kl,
        "sigma_ratio": terms.sigma.detach().mean(),  # the prior's sigma is 1
    }


def _check_shape(shape: tuple[int, int, int], network: str) -> None:
    """Refuses an image size the network has no layers for."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"model.shape = {tuple(shape)}: must be channels, height and width; (1, 28, 28) is MNIST's")
    _, height, width = shape
    if network == "cnn" and min(height, width) < networks.CNN_SMALLEST:
        raise ValueError(
            f"model.network = cnn: image {height}x{width} is too small to halve twice, "
            f"needs at least {networks.CNN_SMALLEST}x{networks.CNN_SMALLEST}; use --model.network mlp"
        )


def _check_settings(
    latent_dim: int, network: str, hidden_dim: int, decoder: str, sigma: float | None, beta: float, kl: str
) -> None:
    """Refuses, by name, settings no VAE can be built from."""
    for is_wrong, message in (
        (latent_dim < 1, f"latent_dim = {latent_dim}: must be at least 1; 2 can be drawn as a map"),
        (network not in ("mlp", "cnn"), f"network = {network}: must be mlp or cnn"),
        (hidden_dim < 1, f"hidden_dim = {hidden_dim}: must be at least 1; 256 suits 28x28"),
        (decoder not in ("bernoulli", "gaussian"), f"decoder = {decoder}: must be bernoulli or gaussian"),
        (
            sigma is not None and decoder == "bernoulli",
            f"sigma = {sigma}: a bernoulli decoder has none; leave it out or use --model.decoder gaussian",
        ),
        (
            sigma is not None and not 0 < sigma < math.inf,
            f"sigma = {sigma}: must be above 0; 0.1 suits pixels in [0, 1], null learns it",
        ),
        (not 0 <= beta < math.inf, f"beta = {beta}: must be at least 0; 1 is the ELBO"),
        (kl not in ("closed_form", "one_sample"), f"kl = {kl}: must be closed_form or one_sample"),
    ):
        if is_wrong:
            raise ValueError(f"model.{message}")
