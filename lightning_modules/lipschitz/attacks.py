"""Inputs changed a little so that a classifier errs: noise, FGSM, PGD, and a few pixels.

Shapes: B images x (B, C, H, W) with pixels in [low, high], labels y (B,); `losses(x, y)` gives each row's loss (B,),
from that row alone. Every function returns changed images (B, C, H, W), in [low, high].
"""

from collections.abc import Callable

import torch
from torch import Tensor

Losses = Callable[[Tensor, Tensor], Tensor]
Span = tuple[float, float]  # low, high

STEPS = 10
AT_ONCE = 2**21  # pixels of images that are tried together: 8 MB
CANDIDATES = 64  # pixels tried in a round: all of an 8x8 image


def with_noise(x: Tensor, unit_noise: Tensor, sd: float, span: Span) -> Tensor:
    """X + sd unit_noise, cut off at the ends of the range."""
    return (x + sd * unit_noise).clamp(*span)


def fgsm(losses: Losses, x: Tensor, y: Tensor, radius: float, span: Span) -> Tensor:
    """Every pixel moved by `radius` in the direction in which the loss rises. Source: Goodfellow et al. 2015.

    >>> fgsm(lambda x, y: -x.flatten(1).sum(1), torch.full((1, 1, 1, 2), 0.5), torch.zeros(1), 0.25, (0.0, 1.0))
    tensor([[[[0.2500, 0.2500]]]])
    """
    return (x + radius * _gradient(losses, x, y).sign()).clamp(*span)


def pgd(losses: Losses, x: Tensor, y: Tensor, radius: float, span: Span, steps: int = STEPS) -> Tensor:
    """The worst of `steps` steps of ascent by the gradient's sign, no pixel ever more than `radius` from x.

    Starts at x, not at a random point, and keeps the point of largest loss: it is never weaker than no attack.
    The first step has the full radius, as `fgsm`, so it is never weaker than that either; then steps are shorter.

    Source: Madry et al. 2018.
    """
    best, most = x, losses(x, y).detach()
    at, size = x, radius
    for _ in range(steps):
        moved = at + size * _gradient(losses, at, y).sign()
        at = torch.minimum(torch.maximum(moved, x - radius), x + radius).clamp(*span)
        best, most = _worse(best, most, at, losses(at, y).detach())
        size = 2.5 * radius / steps
    return best


@torch.no_grad()
def few_pixels(
    losses: Losses, x: Tensor, y: Tensor, n_pixels: int, span: Span, candidates: int = CANDIDATES
) -> list[Tensor]:
    """The images after 1, 2, ... n_pixels pixels have been set to an extreme, greedily.

    Of the pixels that promise most to first order, at most `candidates`, each is tried with all channels at the end
    of the range where the loss should rise, and at the other; the best is kept, if it is any better.

    Source: the attack of Su, Vargas & Sakurai 2019, who search by differential evolution.
    """
    found = []
    most = losses(x, y).detach()
    for _ in range(n_pixels):
        gradient = _gradient(losses, x, y)
        up = torch.where(gradient > 0, span[1], span[0]).to(x)
        gain = (gradient * (up - x)).sum(1).flatten(1)  # (B, H W)
        pixels = gain.topk(min(candidates, gain.shape[1]), dim=1).indices
        best = x
        for group in torch.split(pixels, max(1, AT_ONCE // x.numel()), dim=1):
            for values in (up, sum(span) - up):
                tried = _set(x, group, values)  # (B, k, C, H, W)
                rows = losses(tried.flatten(0, 1), y.repeat_interleave(group.shape[1])).view(len(x), -1)
                worst = tried[torch.arange(len(x)), rows.argmax(1)]
                best, most = _worse(best, most, worst, rows.amax(1))
        x = best
        found.append(x)
    return found


def _set(x: Tensor, pixels: Tensor, values: Tensor) -> Tensor:
    """Copies of each image, (B, k, C, H, W), the i-th with pixel `pixels[:, i]` as in `values` (B, C, H, W)."""
    where = pixels[:, :, None, None].expand(-1, -1, x.shape[1], 1)  # (B, k, C, 1)
    taken = values.flatten(2).unsqueeze(1).expand(-1, pixels.shape[1], -1, -1).gather(3, where)
    copies = x.flatten(2).unsqueeze(1).repeat(1, pixels.shape[1], 1, 1).scatter(3, where, taken)
    return copies.view(*pixels.shape, *x.shape[1:])


def _gradient(losses: Losses, x: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(losses(x, y).sum(), x)[0]


def _worse(best: Tensor, most: Tensor, tried: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row the image of larger loss, and that loss."""
    is_worse = (found > most).view(-1, *[1] * (best.dim() - 1))
    return torch.where(is_worse, tried, best), torch.maximum(found, most)
