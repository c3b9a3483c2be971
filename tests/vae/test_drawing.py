"""What the pictures show, pixel by pixel."""

import torch

from lightning_modules.vae.drawing import DOT, beside_reconstructions, hues, manifold, scatter, ways


def test_a_dot_of_a_class_has_its_colour_and_lies_where_the_code_is() -> None:
    picture = scatter(torch.tensor([[-1.0, 2.0], [1.0, -2.0], [1.0, 2.0]]), torch.tensor([0, 1, 1]))
    corners = [picture[:, 12, 126], picture[:, 468, 354], picture[:, 12, 354]]  # the larger side fills the picture
    torch.testing.assert_close(torch.stack(corners), torch.tensor([hues(2)[0], hues(2)[1], hues(2)[1]]))
    assert 0 < (picture.amax(0) > 0.5).float().mean() < 3 * (2 * DOT + 1) ** 2 / 480**2


def test_codes_of_many_dimensions_are_shown_along_their_principal_axes() -> None:
    plane = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0, 1.0])
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))[0]
    shown = scatter(torch.nn.functional.pad(plane, (0, 3)) @ turn, None)
    dots = (shown.amax(0) > 0.5).nonzero().float()
    assert dots[:, 1].std() > 3 * dots[:, 0].std()


def test_codes_that_are_all_the_same_are_one_dot_in_the_middle() -> None:
    dots = (scatter(torch.ones(9, 1), None).amax(0) > 0.5).nonzero().float()
    assert dots.mean(0).tolist() == [240, 240]


def test_ways_lead_from_one_code_to_the_next_and_leave_out_an_odd_one() -> None:
    codes = torch.randn(5, 3)
    lines = ways(codes, 8)
    assert lines.shape == (2, 8, 3)
    torch.testing.assert_close(lines[:, [0, -1]], codes[:4].view(2, 2, 3))


def test_the_manifold_has_the_median_in_the_middle() -> None:
    assert manifold()[7, 7].abs().max() < 1e-6


def test_one_image_stands_above_its_reconstruction() -> None:
    grid = beside_reconstructions(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), columns=8)
    assert grid[0, 1:3, 1:3].eq(0).all()
    assert grid[0, 4:6, 1:3].eq(1).all()
