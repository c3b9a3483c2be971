"""How a classifier's accuracy stands up to changes of its inputs and of its weights, and the radius it is certain of.

Shapes: B images x (B, C, H, W), labels y (B,), scores (B, K).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_modules.data.sampling import draw
from lightning_modules.lipschitz.attacks import few_pixels, fgsm, pgd, with_noise
from lightning_modules.lipschitz.audit import plain_copy
from lightning_modules.lipschitz.perturbation import Parameters, gaussian, worst_case

RADIUS = 0.1  # of FGSM and PGD in each pixel, and the noise's standard deviation; shares of the range of the pixels
PERCENTS = (1, 3, 10)  # by which weights are moved
GAUSSIAN_DRAWS = 5


def certified_radius(scores: Tensor, y: Tensor, lipschitz: float) -> Tensor:
    """How far, in the Euclidean norm, each image can move before its class can change, (B,); 0 where it is wrong.

    margin / (sqrt(2) L): a difference of two scores changes by at most sqrt(2) L |dx|. No attack gets below it.

    Args:
        scores: (B, K).
        y: Labels (B,).
        lipschitz: L of the scores, an upper bound; infinite where none is known.

    Source: Tsuzuku, Sato & Sugiyama 2018, proposition 1.

    >>> certified_radius(torch.tensor([[3.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]), 2.0)
    tensor([0.7071, 0.0000])
    """
    own = scores.gather(1, y.unsqueeze(1)).squeeze(1)
    others = scores.scatter(1, y.unsqueeze(1), -math.inf).amax(1)
    return (own - others).clamp_min(0) / (math.sqrt(2) * lipschitz)


def robustness(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    losses: Callable[[Tensor, Tensor], Tensor],
    lipschitz: float = math.inf,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracies on x when inputs or weights change, and the mean certified radius, by name; nothing is left changed.

    accuracy; noise_, fgsm_, pgd_ (RADIUS of the range x spans), one_pixel_ and three_pixel_accuracy;
    weights_gaussian_P_accuracy (mean of GAUSSIAN_DRAWS) and weights_worst_P_accuracy with the weights moved by P
    percent; certified_radius in units of the pixels.

    Args:
        network: Maps x to scores (B, K).
        x: Images; they are measured in float32 at least, in evaluation mode.
        y: Labels.
        losses: Of scores (B, K) and labels, (B,): what attacks raise.
        lipschitz: Upper bound for the network.
        seed: Of the noise.

    Cost: about 450 passes over x, most of them forward and for the pixels; 0.1 CPU-s for 256 digits and an MLP.
    """
    with torch.inference_mode(False), torch.enable_grad():
        plain = plain_copy(network, torch.promote_types(x.dtype, torch.float32))
        x, y = x.detach().clone().to(next(plain.parameters())), y.detach().clone()
        clean = plain(x)
        found = {"accuracy": _accuracy(clean, y)}
        found |= _of_inputs(plain, x, y, losses, seed)
        found |= _of_weights(plain, x, y, losses, seed)
        found["certified_radius"] = float(certified_radius(clean, y, lipschitz).mean())
        return found


def _of_inputs(
    network: nn.Module, x: Tensor, y: Tensor, losses: Callable[[Tensor, Tensor], Tensor], seed: int
) -> dict[str, float]:
    low, high = (float(end) for end in x.aminmax())
    radius, span = RADIUS * (high - low), (low, high)

    def of(images: Tensor, labels: Tensor) -> Tensor:
        return losses(network(images), labels)

    noise = torch.randn(x.shape, generator=draw(seed, "robustness/noise")).to(x)
    pixels = few_pixels(of, x, y, 3, span)
    changed = {
        "noise": with_noise(x, noise, radius, span),
        "fgsm": fgsm(of, x, y, radius, span),
        "pgd": pgd(of, x, y, radius, span),
        "one_pixel": pixels[0],
        "three_pixel": pixels[2],
    }
    with torch.no_grad():
        return {f"{name}_accuracy": _accuracy(network(images), y) for name, images in changed.items()}


def _of_weights(
    network: nn.Module, x: Tensor, y: Tensor, losses: Callable[[Tensor, Tensor], Tensor], seed: int
) -> dict[str, float]:
    weights: Parameters = {name: w.detach() for name, w in network.named_parameters()}

    def scores(parameters: Parameters) -> Tensor:
        found: Tensor = functional_call(network, parameters, (x,))
        return found

    found = {}
    for percent in PERCENTS:
        generator = draw(seed, "robustness/weights", percent)
        worst = worst_case(lambda parameters: losses(scores(parameters), y).mean(), weights, percent / 100)
        with torch.no_grad():
            draws = [scores(gaussian(weights, percent / 100, generator)) for _ in range(GAUSSIAN_DRAWS)]
            found[f"weights_gaussian_{percent}_accuracy"] = _accuracy(torch.cat(draws), y.repeat(GAUSSIAN_DRAWS))
            found[f"weights_worst_{percent}_accuracy"] = _accuracy(scores(worst), y)
    return found


def _accuracy(scores: Tensor, y: Tensor) -> float:
    return float((scores.argmax(1) == y).float().mean())
