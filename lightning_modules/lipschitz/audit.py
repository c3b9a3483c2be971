"""How large the Lipschitz constant of a network can be and how large it is at least, in the Euclidean norm.

Shapes: N points (N, ...); the network maps them to scores (N, ...), each from its own point.
"""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lightning_modules.data.sampling import draw
from lightning_modules.lipschitz.norms import operator_norm

SEARCH_POINTS = 8  # where the search starts: those of the steepest points
SEARCH_ROUNDS = 5


class LayerNorm(NamedTuple):
    """The largest factor by which one layer can lengthen a difference; inf where that is not known."""

    name: str
    norm: float


class Audit(NamedTuple):
    """The bounds of the Lipschitz constant: lower <= it <= upper."""

    upper: float  # product of the layers' norms; inf where one is not known
    lower: float  # largest norm of a Jacobian that was met
    layers: tuple[LayerNorm, ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """The names of the layers that make `upper` infinite."""
        return tuple(layer.name for layer in self.layers if math.isinf(layer.norm))


class Residual(nn.Module):
    """x -> shortcut(x) + branch(x), whose Lipschitz constant is at most the sum of the two.

    Args:
        branch: What is learnt.
        shortcut: The identity, or what brings x to the branch's shape.
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape the branch returns."""
        summed: Tensor = self.shortcut(x) + self.branch(x)
        return summed


def audit(module: nn.Module, points: Tensor, *, others: Tensor | None = None, seed: int = 0) -> Audit:
    """Both bounds of a network's Lipschitz constant, in evaluation mode; the network stays as it is.

    The upper bound follows nn.Sequential, `Residual` and layers of known norm (`norms.operator_norm`); it holds for
    all inputs of this size. What is of no known kind counts as infinite, under its name.
    The lower bound is the largest norm of a Jacobian at the points, at the others, half-way and at random between
    them, and wherever a climb from the steepest of those gets. Everything is computed in float64.

    Args:
        module: Of one input; in evaluation mode no row's score depends on another row.
        points: (N, ...), as the network takes them: real samples.
        others: (N', ...), for a critic the generated ones; by default the points in reverse order.
        seed: Of the draws.

    Raises:
        ValueError: There are no points.

    Cost: about 50 products with each convolution, at one image; Jacobians at 4 N + 120 points, for each output a pass
    forward and backward through the network.
    """
    if not len(points):
        raise ValueError("points = 0 rows: the lower bound needs at least 1; give real samples")
    with torch.inference_mode(False), torch.enable_grad():
        network = plain_copy(module)
        like = next(network.parameters(), torch.zeros((), dtype=torch.float64))
        x = points.detach().to(like, copy=True)
        y = x.flip(0) if others is None else others.detach().to(like, copy=True)
        walked = _walk(network, "", x[:1])
        return Audit(walked.norm, _steepest(network, x, y, seed), walked.layers)


def plain_copy(module: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A copy in evaluation mode whose weights are what the parametrizations give; nothing in it is trained.

    On the CPU, where the device has no float64.
    """
    network = copy.deepcopy(module).eval()
    for layer in network.modules():
        if parametrize.is_parametrized(layer):
            _leave_parametrized(layer)
    if any(tensor.device.type == "mps" for tensor in network.state_dict().values()):
        network = network.cpu()
    return network.to(dtype).requires_grad_(False)


def jacobians(module: nn.Module, x: Tensor) -> Tensor:
    """The Jacobian at each point, flat: (N, K, D) for points (N, ...) of D numbers and K scores; a pass an output.

    >>> jacobians(nn.Flatten(), torch.zeros(1, 2))
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        scores = module(x).reshape(len(x), -1)
        rows = [torch.autograd.grad(score.sum(), x, retain_graph=True)[0].flatten(1) for score in scores.unbind(1)]
    return torch.stack(rows, 1)


def _leave_parametrized(layer: nn.Module) -> None:
    """Turns parametrized weights into plain ones.

    torch 2.13's remove_parametrizations deletes a property of the layer's class, which a copy shares with its original.
    """
    names = list(layer.get_submodule("parametrizations")._modules)
    values = {name: getattr(layer, name).detach() for name in names}
    layer.__class__ = type(layer).__bases__[0]
    del layer.parametrizations
    for name, value in values.items():
        layer.register_parameter(name, nn.Parameter(value, requires_grad=False))


class _Walked(NamedTuple):
    norm: float
    output: Tensor
    layers: tuple[LayerNorm, ...]


def _walk(module: nn.Module, name: str, x: Tensor) -> _Walked:
    """The bound of a module, its output at one input, and the layers met."""
    if isinstance(module, Residual):
        branch, shortcut = _walk(module.branch, f"{name}branch.", x), _walk(module.shortcut, f"{name}shortcut.", x)
        summed = branch.output + shortcut.output
        return _Walked(branch.norm + shortcut.norm, summed, branch.layers + shortcut.layers)
    if not isinstance(module, nn.Sequential):
        norm = operator_norm(module, x)
        layer = LayerNorm(f"{name}{type(module).__name__}", math.inf if norm is None else norm)
        return _Walked(layer.norm, module(x), (layer,))
    norm = 1.0
    layers: tuple[LayerNorm, ...] = ()
    for index, stage in enumerate(module):
        walked = _walk(stage, f"{name}{index}.", x)
        norm = math.inf if math.inf in (norm, walked.norm) else norm * walked.norm  # 0 times inf is not known either
        x, layers = walked.output, layers + walked.layers
    return _Walked(norm, x, layers)


def _steepest(network: nn.Module, x: Tensor, y: Tensor, seed: int) -> float:
    """The largest norm of a Jacobian at x, y, between them, and on a climb from there."""
    generator = draw(seed, "lipschitz/points")
    n = min(len(x), len(y))
    epsilon = torch.rand(n, *[1] * (x.dim() - 1), generator=generator).to(x)
    between = [y[:n] + share * (x[:n] - y[:n]) for share in (0.5, epsilon)]
    points = torch.cat([x, y, *between])
    norms, directions = _norms(network, points)
    best = norms.argsort(descending=True)[:SEARCH_POINTS]
    points, norms, directions = points[best], norms[best], directions[best]
    reach = float((x[:n] - y[:n]).flatten(1).norm(dim=1).mean()) or 1.0
    for _ in range(SEARCH_ROUNDS):
        random = torch.randn(points.shape, generator=generator).to(points)
        random /= torch.linalg.vector_norm(random.flatten(1), dim=1).view(-1, *[1] * (x.dim() - 1))
        for step in (directions, -directions, random):
            tried = points + reach * step
            found, ahead = _norms(network, tried)
            better = found > norms
            points[better], norms[better], directions[better] = tried[better], found[better], ahead[better]
        reach /= 2
    return float(norms.max())


def _norms(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The Jacobian's norm at each point, (N,), and the unit direction of x in which the scores change most."""
    jacobian = jacobians(network, x).nan_to_num(0, 0, 0)  # of a diverged network nothing is known
    if jacobian.shape[1] == 1:
        norms = jacobian.norm(dim=2)[:, 0]
        return norms, (jacobian[:, 0] / norms.clamp_min(1e-300).unsqueeze(1)).view_as(x)
    _, sigma, v = torch.linalg.svd(jacobian, full_matrices=False)
    return sigma[:, 0], v[:, 0].view_as(x)
