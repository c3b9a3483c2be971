"""The module: its terms, its randomness, its pictures, and what it refuses."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.data.sampling import noise
from lightning_modules.grids import enlarge, tile
from lightning_modules.vae import VAE
from lightning_modules.vae.losses import bernoulli_nll, gaussian_kl, gaussian_nll, one_sample_kl

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


def images(n: int = 24, seed: int = 0) -> Tensor:
    """Binary images of one bright row each."""
    row = torch.randint(8, (n,), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(row, 8).float().view(n, 1, 8, 1).repeat(1, 1, 1, 8)


def quiet_trainer(**settings: Any) -> pl.Trainer:
    """A Trainer that writes and prints nothing."""
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", num_sanity_val_steps=0, **{**off, **settings})


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
    assert set(pictures) == {"samples", "reconstructions", "manifold"}
    rows = torch.cat([x[:8], model(x[:8]), x[8:16], model(x[8:16])])
    torch.testing.assert_close(pictures["reconstructions"], enlarge(tile(rows, 8)).detach())
    assert all(0 <= picture.min() <= picture.max() <= 1 for picture in pictures.values())
    assert all(picture.shape[0] == 1 and min(picture.shape[1:]) >= 320 for picture in pictures.values())


@pytest.mark.parametrize(("n", "n_shown"), [(1, 1), (5, 5), (11, 8)])
def test_few_images_stand_above_their_reconstructions_too(n: int, n_shown: int) -> None:
    model, x = vae(), images(n)
    validated(model, Loader(x, n))
    rows = torch.cat([x[:n_shown], model(x[:n_shown])])
    torch.testing.assert_close(model.pictures()["reconstructions"], enlarge(tile(rows, n_shown)).detach())


def test_pictures_of_more_latent_dimensions_have_no_manifold() -> None:
    assert set(vae(latent_dim=3).pictures()) == {"samples"}
    assert vae(latent_dim=3).arrays() == {}


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
        ({"network": "rnn"}, "model.network = rnn: must be mlp or cnn"),
        ({"decoder": "laplace"}, "model.decoder = laplace: must be bernoulli or gaussian"),
        ({"kl": "exact"}, "model.kl = exact: must be closed_form or one_sample"),
        ({"shape": (28, 28)}, "model.shape = (28, 28): must be channels, height and width"),
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
