"""The module: its terms, its randomness, its pictures, and what it refuses."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.utils.data import DataLoader, TensorDataset

from experiments.build import build_parts
from experiments.config import resolve
from experiments.errors import ConfigError
from lightning_modules.data.sampling import draw, noise
from lightning_modules.grids import enlarge, tile
from lightning_modules.vae import VAE
from lightning_modules.vae.losses import (
    bernoulli_nll,
    gaussian_kl,
    gaussian_log_density,
    gaussian_nll,
    one_sample_kl,
)
from tests.data.recording import one_of

SHAPE = (1, 8, 8)


class Loader:
    """Batches in order that knows the row where each begins."""

    def __init__(self, x: Tensor, batch_size: int) -> None:
        self.batches = x.split(batch_size)  # type: ignore[no-untyped-call]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return ((x, torch.zeros(len(x))) for x in self.batches)

    def first_row(self, batch_idx: int) -> int:
        return batch_idx * self.batch_size


def vae(**settings: Any) -> VAE:
    """A VAE for 8x8 images whose weights depend on nothing else."""
    torch.manual_seed(0)
    return VAE(**{"shape": SHAPE, "hidden_dim": 32, **settings})


UNLABELLED = """
import pytorch_lightning as pl

class Unlabelled(pl.LightningDataModule):
    shape, value_range = (1, 8, 8), (0.0, 1.0)
"""


def images(n: int = 24, seed: int = 0) -> Tensor:
    """Binary images of one bright row each."""
    row = torch.randint(8, (n,), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(row, 8).float().view(n, 1, 8, 1).repeat(1, 1, 1, 8)


def quiet_trainer(**settings: Any) -> pl.Trainer:
    """A Trainer that writes and prints nothing."""
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", num_sanity_val_steps=0, **{**off, **settings})


def gradient(model: VAE, batch: Any) -> Tensor:
    """The gradient of the training loss by all parameters."""
    loss = model.training_step(batch, 0)["loss"]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def validated(model: VAE, loader: Any) -> dict[str, float]:
    """The validation metrics of a model over a loader."""
    return dict(quiet_trainer().validate(model, loader, verbose=False)[0])


@pytest.mark.parametrize("kl", ["closed_form", "one_sample"])
def test_training_terms_are_those_of_the_source(kl: str) -> None:
    model, x = vae(latent_dim=3, beta=0.5, kl=kl, seed=7), images()
    terms = model.training_step((x, torch.zeros(24)), 4)
    mean, log_var = model.encode(x)
    z = mean + noise(7, "posterior", (0, 4), 24, 3) * (0.5 * log_var).exp()
    reconstruction = bernoulli_nll(model.decoder(z), x).mean()
    divergence = (gaussian_kl(mean, log_var) if kl == "closed_form" else one_sample_kl(z, mean, log_var)).mean()
    torch.testing.assert_close(terms["reconstruction"], reconstruction)
    torch.testing.assert_close(terms["kl"], divergence)
    torch.testing.assert_close(terms["elbo"], -reconstruction - divergence)
    torch.testing.assert_close(terms["loss"], reconstruction + 0.5 * divergence)
    torch.testing.assert_close(terms["sigma_ratio"], log_var.exp().sqrt().mean())


@pytest.mark.parametrize(("loss", "kl"), [("elbo", "closed_form"), ("elbo", "one_sample"), ("iwae", "closed_form")])
@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
def test_the_terms_of_several_draws_are_those_of_each_draw(loss: str, kl: str, decoder: str) -> None:
    model, x = vae(latent_dim=3, loss=loss, kl=kl, n_samples=4, seed=7, decoder=decoder), images()
    terms = model.training_step(x, 4)
    mean, log_var = (part.repeat_interleave(4, 0) for part in model.encode(x))
    z = mean + noise(7, "posterior", (0, 4), 24 * 4, 3) * (0.5 * log_var).exp()
    log_p = model.log_likelihood(x, z.view(24, 4, 3))  # (24, 4)
    log_ratio = (gaussian_log_density(z, mean, log_var) - Normal(0.0, 1.0).log_prob(z).sum(1)).view(24, 4)  # type: ignore[no-untyped-call]
    divergence = gaussian_kl(mean, log_var).mean() if (loss, kl) == ("elbo", "closed_form") else log_ratio.mean()
    single = log_p.mean() - divergence
    bound = (log_p - log_ratio).exp().mean(1).log().mean() if loss == "iwae" else single
    expected = {"reconstruction": -log_p.mean(), "kl": divergence, "elbo": bound, "loss": -bound}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_one_weighted_draw_is_the_one_sample_loss() -> None:
    x = images()
    one = vae(kl="one_sample").training_step(x, 0)["loss"]
    torch.testing.assert_close(vae(loss="iwae").training_step(x, 0)["loss"], one)


def test_draws_from_the_prior_are_shared_by_the_batch() -> None:
    model, x = vae(loss="prior", n_samples=5, seed=7), images()
    terms = model.training_step(x, 4)
    z = torch.randn(5, 2, generator=draw(7, "prior/shared", (0, 4)))
    log_p = -torch.stack([bernoulli_nll(model.decoder(z[i : i + 1]).expand_as(x), x) for i in range(5)], 1)
    torch.testing.assert_close(terms["loss"], -log_p.exp().mean(1).log().mean())
    assert set(terms) == {"loss", "elbo"}


def test_an_autoencoder_reconstructs_from_the_mean_alone() -> None:
    model, x = vae(loss="autoencoder"), images()
    terms = model.training_step(x, 0)
    torch.testing.assert_close(terms["loss"], bernoulli_nll(model.decoder(model.encode(x)[0]), x).mean())
    assert set(terms) == {"loss", "reconstruction"}
    assert model.objective[0] in validated(model, Loader(x, 8))


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "iwae", "n_samples": 3},
        {"loss": "prior", "n_samples": 3},
        {"loss": "autoencoder"},
        {"n_samples": 3},
        {"decoder": "gaussian", "sigma": "optimal"},
        {"mean_scale": 0.6},
        {"conditional": True, "n_classes": 2},
        {"network": "linear", "decoder": "gaussian"},
    ],
)
def test_every_variant_validates_alike_in_any_batches_and_row_by_row(settings: dict[str, Any]) -> None:
    model, x = vae(**settings), images(21)
    y = torch.arange(21) % 2
    whole, ragged = (validated(model, DataLoader(TensorDataset(x, y), batch_size=size)) for size in (21, 7))
    assert ragged == pytest.approx(whole, rel=1e-5)
    assert model.objective[0] in whole
    noisy = model.eval().with_noise((x, y))
    losses = model.per_sample_loss(noisy)
    one_by_one = torch.func.vmap(lambda *row: model.per_sample_loss(tuple(part[None] for part in row))[0])(*noisy)
    assert losses.shape == (21,)
    torch.testing.assert_close(one_by_one, losses)


@pytest.mark.parametrize(
    "settings",
    [{}, {"loss": "iwae", "n_samples": 3}, {"loss": "prior", "n_samples": 3}, {"conditional": True, "n_classes": 2}],
)
def test_the_mean_gradient_of_two_processes_is_that_of_one(settings: dict[str, Any]) -> None:
    x, y = images(8), torch.arange(8) % 2
    halves = []
    for rank in range(2):
        with one_of(2, rank):
            halves.append(gradient(vae(**settings), [x[4 * rank : 4 * rank + 4], y[4 * rank : 4 * rank + 4]]))
    torch.testing.assert_close((halves[0] + halves[1]) / 2, gradient(vae(**settings), [x, y]), rtol=1e-5, atol=1e-6)


RANK = """
import sys, torch
from torch import distributed as dist
from tests.vae.test_module import gradient, images, vae
rank, x = int(sys.argv[1]), images(8)
model, alone = (vae(decoder="gaussian", sigma="optimal") for _ in range(2))
one = gradient(alone, x)
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
half = gradient(model, x[4 * rank : 4 * rank + 4])
dist.all_reduce(half)
torch.testing.assert_close(half / 2, one, rtol=1e-5, atol=1e-6)
torch.testing.assert_close(model.log_sigma, alone.log_sigma)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_the_optimal_sigma_of_two_processes_is_that_of_their_images_together(tmp_path: Path) -> None:
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(rank), f"{tmp_path}/meet"]) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]


def test_a_conditional_vae_sees_the_label_on_both_sides() -> None:
    model, x = vae(conditional=True, n_classes=3), images(2)
    zero, one = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    assert (model.encode(x, zero)[0] != model.encode(x, one)[0]).all()
    assert (model.decode(torch.zeros(2, 2), zero) != model.decode(torch.zeros(2, 2), one)).any()


@pytest.mark.parametrize("network", ["mlp", "cnn", "linear"])
def test_a_conditional_vae_learns_to_draw_the_class_it_is_told(network: str) -> None:
    y = torch.arange(320) % 8
    x = torch.nn.functional.one_hot(y, 8).float().view(-1, 1, 8, 1).repeat(1, 1, 1, 8)  # the row of that number
    model = vae(network=network, conditional=True, n_classes=8, beta=4.0, optimizer={"class": "torch.Adam", "lr": 1e-2})
    quiet_trainer(max_epochs=6, limit_val_batches=0).fit(model, DataLoader(TensorDataset(x, y), batch_size=32))
    assert (model.sample(64).sum((1, 3)).argmax(1) == torch.arange(64) % 8).float().mean() > 0.9


def test_normalised_means_keep_the_kl_from_collapsing() -> None:
    # Pixels of noise tell nothing: a plain VAE's KL goes to 0, and here it cannot.
    x = torch.randint(2, (256, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    kls = {}
    for scale in (None, 0.6):
        model = vae(latent_dim=4, mean_scale=scale, beta=4.0, optimizer={"class": "torch.Adam", "lr": 1e-2})
        quiet_trainer(max_epochs=15, limit_val_batches=0).fit(model, Loader(x, 64))
        kls[scale] = model.train().training_step(x, 0)["kl"].item()
    assert kls[None] < 0.1
    assert kls[0.6] >= 4 / 2 * 0.6**2  # D/2 times the square of the scale


def test_the_optimal_sigma_is_the_root_mean_square_error_of_the_batch_and_its_running_mean_is_kept() -> None:
    model, x = vae(decoder="gaussian", sigma="optimal"), images()
    mean, log_var = model.encode(x)
    x_mean = model.decode(mean + noise(0, "posterior", (0, 0), 24, 2) * (0.5 * log_var).exp())
    mse = (x - x_mean).square().mean()
    terms = model.training_step(x, 0)
    torch.testing.assert_close(terms["reconstruction"], 32 * (2 * math.pi * math.e * mse).log())  # P/2 ln 2 pi e MSE
    torch.testing.assert_close(model.log_sigma, 0.9 * torch.tensor(0.3).log() + 0.05 * mse.log())
    assert "log_sigma" in model.state_dict()
    assert "log_sigma" not in dict(model.named_parameters())
    assert torch.equal(model.per_sample_loss(model.with_noise(x)), model.per_sample_loss(model.with_noise(x)))


def test_a_linear_vae_reaches_the_exact_likelihood_of_probabilistic_pca() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(16, 2, generator=generator)).Q.T * torch.tensor([[2.0], [1.2]])
    x = torch.randn(300, 2, generator=generator) @ mixing + 0.7 * torch.randn(300, 16, generator=generator) + 0.3
    torch.manual_seed(0)
    model = VAE(2, "linear", decoder="gaussian", shape=(1, 4, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=1500)
    images = x.view(-1, 1, 4, 4)
    for step in range(1500):
        optimizer.zero_grad()
        model.training_step(images, step)["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    # Tipping & Bishop 1999, equation 3.8: the likelihood at its maximum, from the eigenvalues of the covariance.
    values = torch.linalg.eigvalsh(torch.cov(x.T, correction=0).double()).flip(0)
    variance = values[2:].mean()
    exact = -0.5 * (values[:2].log().sum() + 14 * variance.log() + 16 * math.log(2 * math.pi) + 16)
    with torch.no_grad():
        elbo = -model.per_sample_loss(model.with_noise(images.repeat(100, 1, 1, 1))).mean()
        nll = model.nll(images, n_samples=50)
    assert elbo.item() == pytest.approx(exact.item(), abs=0.05)
    assert -nll.summary().nll == pytest.approx(exact.item(), abs=0.05)
    variances = model.encode(images[:1])[1][0].exp().sort().values.double()
    torch.testing.assert_close(variances, variance / values[:2], rtol=0.1, atol=0)  # sigma_x^2 / lambda_i


def test_every_term_but_the_loss_is_a_detached_number() -> None:
    terms = vae().training_step(images(), 0)
    assert set(terms) == {"loss", "elbo", "reconstruction", "kl", "sigma_ratio"}
    assert [name for name, term in terms.items() if term.requires_grad] == ["loss"]
    assert all(term.ndim == 0 for term in terms.values())


def test_a_step_seen_twice_sees_the_same_noise_and_another_step_other_noise() -> None:
    model, x = vae(), images()
    first, again, other = (model.training_step(x, batch_idx)["loss"] for batch_idx in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_fixed_sigma_is_no_parameter_and_a_learnt_one_gets_a_gradient() -> None:
    fixed, learnt, x = vae(decoder="gaussian", sigma=0.5), vae(decoder="gaussian"), images()
    assert "log_sigma" not in dict(fixed.named_parameters())
    learnt.training_step(x, 0)["loss"].backward()  # type: ignore[no-untyped-call]
    assert learnt.log_sigma.grad is not None
    assert learnt.log_sigma.grad != 0


def test_the_gaussian_decoder_uses_the_sigma_given() -> None:
    model, x = vae(decoder="gaussian", sigma=0.5), images()
    mean, log_var = model.encode(x)
    x_mean = model.decode(mean + noise(0, "posterior", (0, 0), 24, 2) * (0.5 * log_var).exp())
    nll = gaussian_nll(x_mean, x, torch.tensor(0.5).log()).mean()
    torch.testing.assert_close(model.training_step(x, 0)["reconstruction"], nll)


def test_validation_elbo_improves_in_every_epoch() -> None:
    elbos: list[float] = []

    class Keep(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            elbos.append(float(trainer.callback_metrics[VAE.objective[0]]))

    model = vae(optimizer={"class": "torch.Adam", "lr": 3e-3})
    train, val = Loader(images(640), 64), Loader(images(64, seed=1), 64)
    quiet_trainer(max_epochs=4, callbacks=[Keep()]).fit(model, train, val)
    assert elbos == sorted(elbos)
    assert elbos[-1] > elbos[0] + 5  # of about 45 nats


def test_validation_does_not_depend_on_the_batch_size() -> None:
    model, x = vae(latent_dim=3), images(50)
    whole, ragged = validated(model, Loader(x, 50)), validated(model, Loader(x, 7))
    assert set(whole) == {f"val/{name}" for name in ("elbo", "reconstruction", "kl", "sigma_ratio", "active_units")}
    assert ragged == pytest.approx(whole, rel=1e-5)  # float32 sums in another order


def test_validation_repeats_itself_with_any_loader() -> None:
    model, loader = vae(), DataLoader(TensorDataset(images(20)), batch_size=8)
    assert validated(model, loader) == validated(model, loader)


def test_active_units_are_counted_over_the_whole_set() -> None:
    model = vae(latent_dim=3)
    with torch.no_grad():
        model.get_parameter("encoder.3.weight")[0] = 0  # the first mean no longer depends on the image
        model.get_parameter("encoder.3.weight")[1:3] *= 20
    assert validated(model, Loader(images(50), 16))["val/active_units"] == 2


def test_a_gaussian_decoder_logs_its_sigma() -> None:
    logged = validated(vae(decoder="gaussian", sigma=0.5), Loader(images(8), 8))
    assert logged["val/decoder_sigma"] == pytest.approx(0.5)


def test_a_checkpoint_gives_the_same_model_back(tmp_path: Path) -> None:
    model = vae(decoder="gaussian", shape=[1, 8, 8], optimizer={"class": "torch.Adam", "lr": 1e-3})
    trainer = quiet_trainer(max_epochs=1, enable_checkpointing=True, default_root_dir=tmp_path)
    trainer.fit(model, Loader(images(), 8))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = VAE.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert dict(loaded.hparams) == dict(model.hparams)
    assert torch.equal(loaded(images()), model(images()))
    assert torch.equal(loaded.log_sigma, model.log_sigma)


def test_a_checkpoint_without_the_newer_settings_still_loads(tmp_path: Path) -> None:
    model = vae()
    trainer = quiet_trainer(max_epochs=1, enable_checkpointing=True, default_root_dir=tmp_path)
    trainer.fit(model, Loader(images(), 8))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    state = torch.load(tmp_path / "model.ckpt", weights_only=True)
    for name in ("loss", "n_samples", "mean_scale", "conditional", "n_classes"):
        del state["hyper_parameters"][name]
    torch.save(state, tmp_path / "old.ckpt")
    loaded = VAE.load_from_checkpoint(tmp_path / "old.ckpt", weights_only=True)
    assert torch.equal(loaded(images()), model(images()))


def test_losses_stay_in_float32_under_bfloat16() -> None:
    model, x = vae(), images()
    full = model.training_step(x, 0)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.training_step(x, 0)["loss"]
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(full.item(), rel=1e-2)  # three digits of a bfloat16


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 11)])
def test_reconstructions_and_samples_have_the_shape_of_the_images(network: str, shape: tuple[int, int, int]) -> None:
    model = vae(network=network, shape=shape)
    assert model(torch.zeros(2, *shape)).shape == (2, *shape)
    assert model.sample(5).shape == (5, *shape)


def test_samples_depend_on_the_seed_alone() -> None:
    model = vae()
    assert torch.equal(model.sample(3, seed=1), model.sample(3, seed=1))
    assert not torch.equal(model.sample(3, seed=1), model.sample(3, seed=2))


def test_pictures_show_originals_above_reconstructions() -> None:
    model, x = vae(), images(20)
    validated(model, Loader(x, 20))
    pictures = model.pictures()
    assert set(pictures) == {"samples", "reconstructions", "manifold", "latent"}
    rows = torch.cat([x[:8], model(x[:8]), x[8:16], model(x[8:16])])
    torch.testing.assert_close(pictures["reconstructions"], enlarge(tile(rows, 8)).detach())
    assert all(0 <= picture.min() <= picture.max() <= 1 for picture in pictures.values())
    assert {name: len(picture) for name, picture in pictures.items() if len(picture) != 1} == {"latent": 3}
    assert all(min(picture.shape[1:]) >= 320 for picture in pictures.values())


@pytest.mark.parametrize(("n", "n_shown"), [(1, 1), (5, 5), (11, 8)])
def test_few_images_stand_above_their_reconstructions_too(n: int, n_shown: int) -> None:
    model, x = vae(), images(n)
    validated(model, Loader(x, n))
    rows = torch.cat([x[:n_shown], model(x[:n_shown])])
    torch.testing.assert_close(model.pictures()["reconstructions"], enlarge(tile(rows, n_shown)).detach())


def test_before_a_validation_more_latent_dimensions_have_samples_to_show_alone() -> None:
    assert set(vae(latent_dim=3).pictures()) == {"samples"}
    assert vae(latent_dim=3).arrays() == {}


@pytest.mark.parametrize(
    "settings", [{"latent_dim": 3}, {"loss": "autoencoder"}, {"conditional": True, "n_classes": 2}]
)
def test_without_a_plane_of_the_prior_ways_between_images_are_shown(settings: dict[str, Any]) -> None:
    model, x = vae(**settings), images(20)
    y = torch.arange(20) % 2
    validated(model, DataLoader(TensorDataset(x, y), batch_size=20))
    kept = y[:16] if model.n_classes else None
    ends = model.encode(x[:16], kept)[0].detach().view(8, 2, -1)
    arrays = model.arrays()["latent.npz"]
    torch.testing.assert_close(torch.tensor(arrays["grid"])[:, [0, -1]], ends)
    assert arrays["decoded"].shape == (8, 8, 8, 8)
    first = model.decode(ends[:, 0], None if kept is None else kept[::2])[:, 0]
    assert arrays["decoded"][:, 0].tolist() == (255 * first).round().byte().tolist()
    assert arrays["labels"].tolist() == y.tolist()
    assert set(model.pictures()) == {"samples", "reconstructions", "interpolation", "latent"}


def test_codes_of_validation_images_are_kept_up_to_a_number_and_anew_each_time() -> None:
    model, x = vae(), images(2100)
    for _ in range(2):
        validated(model, Loader(x, 300))
    codes = model.arrays()["latent.npz"]["codes"]
    assert codes.shape == (2000, 2)
    torch.testing.assert_close(torch.tensor(codes), model.encode(x[:2000])[0].detach())
    assert "labels" not in model.arrays()["latent.npz"]  # this loader's are no whole numbers


def test_samples_of_a_conditional_vae_have_a_column_for_each_class() -> None:
    model = vae(conditional=True, n_classes=3)
    z = torch.randn(24, 2, generator=draw(0, "prior", 0))
    torch.testing.assert_close(model.sample(24), model.decode(z, torch.arange(24) % 3).detach())
    torch.testing.assert_close(model.pictures()["samples"], enlarge(tile(model.sample(24), 3)))


def test_pictures_of_a_gaussian_decoder_span_the_range_of_the_data() -> None:
    model, x = vae(decoder="gaussian"), 2 * images(8) - 1
    validated(model, Loader(x, 8))
    rows = torch.cat([x, model(x).clamp(-1, 1)]) / 2 + 0.5
    torch.testing.assert_close(model.pictures()["reconstructions"], enlarge(tile(rows, 8)).detach())


@pytest.mark.parametrize(("shape", "pixels"), [((1, 8, 8), (8, 8)), ((3, 8, 9), (8, 9, 3))])
def test_arrays_hold_the_manifold(shape: tuple[int, int, int], pixels: tuple[int, ...]) -> None:
    model = vae(shape=shape)
    arrays = model.arrays()["latent.npz"]
    grid, decoded = arrays["grid"], arrays["decoded"]
    assert grid.shape == (15, 15, 2)
    assert grid[7, 7] == pytest.approx([0, 0], abs=1e-6)  # the medians
    assert grid[0, 14] == pytest.approx([-1.6449, 1.6449], abs=1e-4)  # the quantiles at .05 and .95
    assert (str(decoded.dtype), decoded.shape) == ("uint8", (15, 15, *pixels))
    with torch.no_grad():
        image = model.decode(torch.tensor(grid[3, 5])[None])[0].movedim(0, -1).squeeze(-1)
    assert (255 * image).round().byte().tolist() == decoded[3, 5].tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dim": 0}, "model.latent_dim = 0: must be at least 1"),
        ({"hidden_dim": 0}, "model.hidden_dim = 0: must be at least 1"),
        ({"beta": -0.5}, "model.beta = -0.5: must be at least 0"),
        ({"beta": float("nan")}, "model.beta = nan: must be at least 0"),
        ({"decoder": "gaussian", "sigma": 0.0}, "model.sigma = 0.0: must be above 0"),
        ({"sigma": 0.1}, "model.sigma = 0.1: a bernoulli decoder has none"),
        ({"network": "rnn"}, "model.network = rnn: must be mlp, cnn or linear"),
        ({"decoder": "laplace"}, "model.decoder = laplace: must be bernoulli or gaussian"),
        ({"kl": "exact"}, "model.kl = exact: must be closed_form or one_sample"),
        ({"shape": (28, 28)}, "model.shape = (28, 28): must be channels, height and width"),
        ({"decoder": "gaussian", "sigma": "best"}, "model.sigma = best: must be a number, optimal, or null"),
        ({"decoder": "gaussian", "sigma": "optimal", "loss": "iwae"}, "model.sigma = optimal: is not the optimum of"),
        ({"loss": "vae"}, "model.loss = vae: must be elbo, iwae, prior or autoencoder"),
        ({"loss": "iwae", "n_samples": 0}, "model.n_samples = 0: must be at least 1"),
        ({"loss": "autoencoder", "n_samples": 2}, "model.n_samples = 2: the loss autoencoder draws nothing"),
        ({"loss": "iwae", "beta": 2.0}, "model.beta = 2.0: weighs the KL of the loss elbo"),
        ({"mean_scale": 0.0}, "model.mean_scale = 0.0: must be above 0"),
        ({"mean_scale": 0.6, "loss": "prior"}, "model.mean_scale: the loss prior has no encoder"),
        ({"conditional": True}, "model.conditional: needs the number of classes"),
        ({"conditional": True, "n_classes": 2, "loss": "prior"}, "model.conditional: the loss prior shares its draws"),
        ({"network": "cnn", "shape": (1, 7, 30)}, "model.network = cnn: image 7x30 is too small to halve twice"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        vae(**settings)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_a_beta_of_zero_is_allowed() -> None:
    terms = vae(beta=0.0).training_step(images(), 0)
    assert terms["loss"] == terms["reconstruction"]


def test_data_without_classes_suit_a_vae_that_sees_no_label(tmp_path: Path) -> None:
    (tmp_path / "unlabelled.py").write_text(UNLABELLED, encoding="utf-8")
    data = f"{tmp_path}/unlabelled.py:Unlabelled"
    module, _ = build_parts(resolve("vae", ["--data", data]))
    assert module.hparams["n_classes"] is None
    with pytest.raises(ConfigError, match=r"^model.conditional: needs the number of classes; give data with labels"):
        build_parts(resolve("vae", ["--data", data, "--model.conditional", "true"]))
    module, _ = build_parts(resolve("vae", ["--model.conditional", "true", "--model.decoder", "gaussian"]))
    assert module.hparams["n_classes"] == 10
    module, _ = build_parts(resolve("vae", ["--model.decoder", "gaussian", "--model.sigma", "optimal"]))
    assert module.hparams["sigma"] == "optimal"


def test_bernoulli_pixels_outside_the_unit_interval_are_refused() -> None:
    data = SimpleNamespace(value_range=(-1.0, 1.0))
    vae(decoder="gaussian").check_data(data)
    vae().check_data(SimpleNamespace(value_range=(0.0, 1.0)))
    with pytest.raises(ValueError) as refusal:
        vae().check_data(data)
    assert str(refusal.value) == (
        "model.decoder = bernoulli: needs pixels in [0, 1], data has [-1, 1]; "
        "use --data.pixels unit or --model.decoder gaussian"
    )


def test_batches_that_do_not_fit_the_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^batch: images alone; model.conditional needs pairs"):
        vae(conditional=True, n_classes=2).training_step(images(), 0)
    with pytest.raises(ValueError, match=r"^decode: a conditional VAE needs the labels too"):
        vae(conditional=True, n_classes=2).decode(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"^model.loss = prior: trains no encoder"):
        vae(loss="prior").encode(images())
    with pytest.raises(ValueError, match=r"^data.batch_size = 1: model.mean_scale normalises over at least 2 images"):
        vae(mean_scale=0.6).check_data(SimpleNamespace(value_range=(0.0, 1.0), batch_size=1))
