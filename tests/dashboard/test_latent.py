from __future__ import annotations

import numpy as np
import pytest

from dashboard import latent

WORDS = {name: name for name in ("latent_codes", "latent_class", "latent_point")}


def space(dim: int = 2, channels: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    """A grid of 3 x 4 points with images of 8 x 6 pixels, each of one brightness, and five codes of two classes."""
    brightness = np.arange(12, dtype=np.uint8).reshape(3, 4, 1, 1, *(1 for _ in channels))
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (3, 4)], indexing="ij"), -1)
    return {
        "grid": np.concatenate([grid, np.zeros((3, 4, dim - 2))], -1),
        "decoded": np.broadcast_to(20 * brightness, (3, 4, 8, 6, *channels)),
        "codes": np.arange(5.0 * dim).reshape(5, dim),
        "labels": np.array([0, 1, 0, 1, 1]),
    }


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_chosen_image_is_framed_in_its_place(channels: tuple[int, ...]) -> None:
    arrays = space(channels=channels)
    assert latent.is_latent(arrays)
    image = latent.manifold(arrays["decoded"], 2, 1)
    factor = image.width // 24
    assert image.size == (24 * factor, 24 * factor)
    assert image.getpixel((6 * factor, 16 * factor)) == latent.FRAME
    assert image.getpixel((9 * factor, 20 * factor)) == (180, 180, 180)
    assert image.getpixel((0, 0)) == (0, 0, 0)


def test_codes_lie_as_the_map_does() -> None:
    figure = latent.codes_chart(space(3), np.array([1.0, 2.0, 3.0]), WORDS)
    assert [trace.name for trace in figure.data] == ["latent_class 0", "latent_class 1", "latent_point"]
    assert (figure.data[0].x.tolist(), figure.data[0].y.tolist()) == ([1, 7], [0, 6])
    assert (figure.data[2].x.tolist(), figure.data[2].y.tolist()) == ([2], [1])
    assert figure.layout.yaxis.autorange == "reversed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grid", np.zeros((3, 4))),
        ("grid", np.zeros((4, 3, 2))),
        ("decoded", np.zeros((3, 4, 8, 6))),
        ("decoded", np.zeros((3, 4, 8, 6, 2), np.uint8)),
        ("decoded", np.zeros((3, 4, 1, 9_000), np.uint8)),
        ("codes", np.zeros((5, 3))),
        ("labels", np.zeros(4, int)),
        ("labels", np.full(5, "<b>")),
    ],
)
def test_arrays_that_do_not_fit_one_another_are_refused(name: str, value: np.ndarray) -> None:
    assert not latent.is_latent({**space(), name: value})
