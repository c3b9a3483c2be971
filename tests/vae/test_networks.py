"""The stacks keep the sizes they promise."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.vae.networks import (
    ScaledMeans,
    cnn_decoder,
    cnn_encoder,
    linear_decoder,
    linear_encoder,
    mlp_decoder,
    mlp_encoder,
)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 3]), st.integers(8, 32), st.integers(8, 32))
def test_cnn_gives_back_every_image_size(channels: int, height: int, width: int) -> None:
    x = torch.zeros(2, channels, height, width)
    code = cnn_encoder((channels, height, width), latent_dim=3)(x)
    assert code.shape == (2, 6)
    assert cnn_decoder((channels, height, width), latent_dim=3)(code[:, :3]).shape == x.shape


def test_cnn_halves_twice_and_has_sixteen_dense_units() -> None:
    layers = [tuple(p.shape) for p in cnn_encoder((3, 28, 28), latent_dim=2).parameters() if p.ndim > 1]
    assert layers == [(32, 3, 3, 3), (64, 32, 3, 3), (16, 64 * 7 * 7), (4, 16)]


def test_every_pixel_depends_on_the_code() -> None:
    torch.manual_seed(0)
    change = cnn_decoder((1, 11, 14), latent_dim=2)
    assert (change(torch.zeros(1, 2)) != change(torch.ones(1, 2))).all()


def test_mlp_has_one_hidden_layer_on_each_side() -> None:
    encoder, decoder = mlp_encoder((1, 28, 28), 2, 256), mlp_decoder((1, 28, 28), 2, 256)
    assert [tuple(p.shape) for p in encoder.parameters() if p.ndim > 1] == [(256, 784), (4, 256)]
    assert [tuple(p.shape) for p in decoder.parameters() if p.ndim > 1] == [(256, 2), (784, 256)]
    assert decoder(encoder(torch.zeros(5, 1, 28, 28))[:, :2]).shape == (5, 1, 28, 28)


def test_linear_networks_are_one_linear_map_on_each_side() -> None:
    encoder, decoder = linear_encoder((3, 4, 5), 2), linear_decoder((3, 4, 5), 2)
    assert [tuple(p.shape) for p in encoder.parameters()] == [(2, 60), (2,), (2,)]
    assert [tuple(p.shape) for p in decoder.parameters()] == [(60, 2), (60,)]
    code = encoder(torch.randn(7, 3, 4, 5))
    assert code.shape == (7, 4)
    assert (code[:, 2:] == code[0, 2:]).all()  # the same variances for every image


def test_scaled_means_have_the_scale_over_a_batch_and_keep_the_variances() -> None:
    code = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * 9 + 4
    scaled = ScaledMeans(3, 0.6)(code)
    torch.testing.assert_close(scaled[:, :3].std(0, correction=0), torch.full((3,), 0.6))
    assert torch.equal(scaled[:, 3:], code[:, 3:])
