"""Terms that are added to a loss to keep a function's Lipschitz constant small; pure functions.

Shapes: B samples x (B, ...), real or generated (fake); a critic maps them to one score each, (B,) or (B, 1). Every
function returns the mean over the batch, 0-d, in float32 at least and outside autocast: bfloat16 is 2 % off.
The gradient of a norm at 0 is 0 here, so a critic that is flat somewhere gives no NaN.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

SMALLEST_DISTANCE = 1e-8  # of a real from a fake sample

Critic = Callable[[Tensor], Tensor]


def input_gradient(critic: Critic, x: Tensor) -> Tensor:
    """The gradient of each sample's score in the sample, (B, ...) as x; differentiable in the critic's weights.

    The critic may not mix samples, as BatchNorm in training mode does.

    >>> input_gradient(lambda x: x.square().sum(1), torch.tensor([[1.0, 2.0]]))
    tensor([[2., 4.]], grad_fn=<MulBackward0>)
    """
    with torch.autocast(x.device.type, enabled=False), torch.enable_grad():
        x = _full(x.detach()).requires_grad_()
        scores = critic(x)
        gradient: Tensor = torch.autograd.grad(scores.sum(), x, create_graph=True)[0]
        return gradient


def gradient_norm(critic: Critic, x: Tensor) -> Tensor:
    """The norm of `input_gradient` of each sample, (B,)."""
    norms: Tensor = torch.linalg.vector_norm(input_gradient(critic, x).flatten(1), dim=1)
    return norms


def interpolate(real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """x_inter = epsilon x_real + (1 - epsilon) x_fake, with one epsilon (B,) in [0, 1] a sample."""
    epsilon = epsilon.to(real).reshape(-1, *[1] * (real.dim() - 1))
    return epsilon * real + (1 - epsilon) * fake


def two_sided(critic: Critic, real: Tensor, fake: Tensor, epsilon: Tensor, target: float = 1.0) -> Tensor:
    """E (|grad f(x_inter)| - target)^2. Source: Gulrajani et al. 2017, equation 3; kexue.fm/archives/6051."""
    return (gradient_norm(critic, interpolate(real, fake, epsilon)) - target).square().mean()


def one_sided(critic: Critic, real: Tensor, fake: Tensor, epsilon: Tensor, target: float = 1.0) -> Tensor:
    """E max(|grad f(x_inter)| - target, 0)^2, which kexue.fm/archives/6051 prefers."""
    return (gradient_norm(critic, interpolate(real, fake, epsilon)) - target).relu().square().mean()


def zero_centred(critic: Critic, x: Tensor) -> Tensor:
    """E |grad f(x)|^2 / 2: R1 at real samples, R2 at fake ones. Source: Mescheder et al. 2018, equations 9 and 10."""
    return input_gradient(critic, x).flatten(1).square().sum(1).mean() / 2


def wgan_div(critic: Critic, real: Tensor, fake: Tensor, power: float = 6.0) -> Tensor:
    """(E |grad f(x_real)|^power + E |grad f(x_fake)|^power) / 2.

    Source: Wu et al. 2018, with power 6; taken at the two ends and not between them, as the author of
    kexue.fm/archives/6051 does.
    """
    squares = input_gradient(critic, torch.cat([real, fake])).flatten(1).square().sum(1)
    return squares.pow(power / 2).mean()  # of both halves, equally many


def gan_qp(score_real: Tensor, score_fake: Tensor, real: Tensor, fake: Tensor, order: int = 2) -> Tensor:
    """E (f(x_real) - f(x_fake))^2 / (2 d(x_real, x_fake)), the term GAN-QP adds to the Wasserstein loss of a critic.

    Source: Su 2018 (arXiv:1811.07296); d is the mean absolute difference for `order` 1, its root mean square for 2,
    so that one weight suits all image sizes.
    """
    difference = _full(real - fake).flatten(1)
    distance = difference.abs().mean(1) if order == 1 else difference.square().mean(1).sqrt()
    gap = _full(score_real - score_fake).flatten()
    return (gap.square() / (2 * distance.clamp_min(SMALLEST_DISTANCE))).mean()


def frobenius(weights: Iterable[Tensor]) -> Tensor:
    """The sum of |W|_F^2 over the weights: |W|_2 is at most |W|_F. Source: kexue.fm/archives/6051.

    >>> float(frobenius([torch.eye(3), 2 * torch.eye(2)]))
    11.0
    """
    return torch.stack([_full(weight).square().sum() for weight in weights]).sum()


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
