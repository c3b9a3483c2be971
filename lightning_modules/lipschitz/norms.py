"""Operator norms of single layers in the Euclidean norm: the factors of a network's Lipschitz bound.

A norm is exact where a closed form or a singular value decomposition gives it, and else an upper bound tight to 1e-4.
Shapes: one input (1, ...) of the layer.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from lightning_modules.data.sampling import draw
from lightning_modules.dynamics.curvature import lanczos

LARGEST_DENSE = 256  # shorter side of a matrix whose singular values are computed; above, Lanczos is quicker
ROUNDING = 1e-9  # of float64 sums over a layer, generously: what is called an upper bound stays one
TOLERANCE = 1e-4  # of Lanczos' vector
MOST_PRODUCTS = 200

# The largest slope of each activation. GELU's and SiLU's are the maxima of their derivatives.
SLOPES: dict[type[nn.Module], float] = {
    nn.Identity: 1.0,
    nn.Flatten: 1.0,
    nn.Unflatten: 1.0,
    nn.PixelShuffle: 1.0,
    nn.PixelUnshuffle: 1.0,
    nn.Dropout: 1.0,  # in evaluation
    nn.Dropout2d: 1.0,
    nn.ReLU: 1.0,
    nn.ReLU6: 1.0,
    nn.Tanh: 1.0,
    nn.Sigmoid: 0.25,
    nn.Softplus: 1.0,
    nn.LogSigmoid: 1.0,
    nn.Softsign: 1.0,
    nn.GELU: 1.128904146,
    nn.SiLU: 1.099839320,
    nn.Softmax: 0.5,  # of diag(p) - pp'
}
LINEAR = (_AvgPoolNd, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.Upsample)


def operator_norm(layer: nn.Module, x: Tensor) -> float | None:
    """The layer's Lipschitz constant for inputs like x, in evaluation mode; None where it is not known.

    A convolution's is that of the map from image to image, up to the kernel's width above the norm of its weights as a
    matrix. Dense layers and embeddings have their largest singular value, BatchNorm its largest |gamma| / sigma,
    other normalisations |gamma| / sqrt(eps), which they reach where the input is constant.

    Args:
        layer: Without parts of its own.
        x: One input, (1, ...).
    """
    if type(layer) in SLOPES:
        return SLOPES[type(layer)]
    if isinstance(layer, (nn.LeakyReLU, nn.ELU)):
        return max(1.0, abs(layer.negative_slope if isinstance(layer, nn.LeakyReLU) else layer.alpha))
    if isinstance(layer, (nn.Linear, nn.Embedding)):
        return matrix_norm(layer.weight)
    if isinstance(layer, (_ConvNd, *LINEAR)):
        return linear_norm(layer, x)
    if isinstance(layer, _MaxPoolNd):
        return _max_pool_norm(layer, x)
    return _normalisation_norm(layer)


def matrix_norm(matrix: Tensor) -> float:
    """The largest singular value of a matrix (m, n), never below the true one.

    >>> matrix_norm(torch.tensor([[0.0, 10.0], [0.0, 0.0]]))  # no eigenvalue but 0
    10.00000001
    """
    matrix = matrix.detach().double()
    if not matrix.isfinite().all():
        return math.inf
    if min(matrix.shape) > LARGEST_DENSE:
        return linear_norm(lambda v: v @ matrix.T, matrix.new_zeros(1, matrix.shape[1]))
    return float(torch.linalg.matrix_norm(matrix, 2)) * (1 + ROUNDING)


def linear_norm(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """The operator norm of an affine function of inputs like x, from its vjp; never below the true one.

    Lanczos on A'A: its largest value and its residual bound the square of the norm. Ten to a hundred evaluations.

    Args:
        function: Affine; a constant is taken off.
        x: Gives shape, dtype and device; float64 for the promised 1e-4.
    """
    with torch.inference_mode(False), torch.enable_grad():
        origin = torch.zeros(x.shape, dtype=x.dtype, device=x.device, requires_grad=True)
        at_origin = function(origin)
        constant = at_origin.detach()

        def product(v: Tensor) -> Tensor:
            image = function(v.view(x.shape)).detach() - constant
            return torch.autograd.grad(at_origin, origin, image, retain_graph=True)[0].flatten()

        start = torch.randn(x.numel(), generator=draw(0, "lipschitz/norm")).to(origin)
        most = min(x.numel(), MOST_PRODUCTS)
        top = lanczos(product, start, tolerance=TOLERANCE, most_products=most)
    square = float(top.values[0] + top.residuals[0])
    return math.sqrt(max(square, 0.0)) * (1 + ROUNDING) if math.isfinite(square) else math.inf


def _max_pool_norm(layer: _MaxPoolNd, x: Tensor) -> float | None:
    """sqrt(the number of windows a pixel can win)."""
    if layer.return_indices or layer.dilation not in (1, (1,), (1, 1), (1, 1, 1)):
        return None
    n_axes = x.dim() - 2
    sizes, strides = _per_axis(layer.kernel_size, n_axes), _per_axis(layer.stride, n_axes)
    windows = math.prod(math.ceil(size / stride) for size, stride in zip(sizes, strides, strict=True))
    return math.sqrt(windows)


def _per_axis(value: int | tuple[int, ...], n_axes: int) -> tuple[int, ...]:
    return (value,) * n_axes if isinstance(value, int) else value


def _normalisation_norm(layer: nn.Module) -> float | None:
    """Of BatchNorm with its running variance, and of norms that use the sample's own."""
    if not isinstance(layer, (_NormBase, nn.LayerNorm, nn.GroupNorm)):
        return None
    gamma = torch.ones(1) if layer.weight is None else layer.weight.detach().abs()
    if isinstance(layer, _NormBase) and layer.running_var is not None:
        scale = gamma.to(layer.running_var) / (layer.running_var + layer.eps).sqrt()
        return float(scale.max()) * (1 + ROUNDING)
    return float(gamma.max()) / math.sqrt(layer.eps) * (1 + ROUNDING)
