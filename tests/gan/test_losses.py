"""The losses against torch's cross-entropy and against what they are at known scores."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.gan.losses import critic_loss, generator_loss

scores = st.lists(st.floats(-30, 30), min_size=3, max_size=3).map(lambda row: torch.tensor(row, dtype=torch.float64))


@given(scores, scores)
def test_the_standard_losses_are_cross_entropies(real: Tensor, fake: Tensor) -> None:
    expected = F.binary_cross_entropy_with_logits(real, torch.ones_like(real)) + F.binary_cross_entropy_with_logits(
        fake, torch.zeros_like(fake)
    )
    torch.testing.assert_close(critic_loss("standard", real, fake), expected)
    torch.testing.assert_close(critic_loss("non_saturating", real, fake), expected)
    saturating = -F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    torch.testing.assert_close(generator_loss("standard", fake), saturating)
    certain = F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
    torch.testing.assert_close(generator_loss("non_saturating", fake), certain)


@given(scores, scores, st.floats(-5, 5))
def test_the_wasserstein_loss_of_a_critic_does_not_see_a_constant(real: Tensor, fake: Tensor, c: float) -> None:
    moved = critic_loss("wasserstein", real + c, fake + c)
    torch.testing.assert_close(moved, critic_loss("wasserstein", real, fake))


def test_the_hinge_stops_where_scores_are_beyond_one() -> None:
    sure = torch.tensor([1.0, 7.0])
    assert critic_loss("hinge", sure, -sure) == 0
    assert critic_loss("hinge", torch.zeros(2), torch.zeros(2)) == 2
    assert generator_loss("hinge", sure) == -4


def test_a_sure_critic_leaves_the_standard_generator_without_gradient_and_the_non_saturating_one_with_it() -> None:
    score = torch.tensor([-20.0], requires_grad=True)
    slopes = [
        float(torch.autograd.grad(generator_loss(name, score), score)[0].abs())
        for name in ("standard", "non_saturating")
    ]
    assert slopes[0] < 1e-8
    assert slopes[1] > 0.99
