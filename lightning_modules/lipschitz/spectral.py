"""Spectral norms by power iteration, and the spectral normalisation built on it, after kexue.fm/archives/6051.

Shapes: W (m, n) weights as a matrix, one row an output channel; u (m,), v (n,). For the norm of a convolution itself
v is one image (1, C, H, W) and u its output.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lightning_modules.data.sampling import draw

START_ITERATIONS = 20  # from a random u: 5 leave a 128 x 576 Gaussian matrix 6 % low, 15 about 1 %
SMALLEST_SIGMA = 1e-12  # a layer of zeros stays zeros

Map = Callable[[Tensor], Tensor]


class Singular(NamedTuple):
    """The largest singular value as far as it is known, and its vectors."""

    sigma: Tensor  # 0-d, never above the true one
    u: Tensor
    v: Tensor


def power_iteration(matvec: Map, rmatvec: Map, u: Tensor, n: int) -> Singular:
    """The largest singular value of A after n rounds of v <- A'u / |A'u|, u <- Av / |Av|; sigma = u'Av.

    The error of u falls as (sigma_2 / sigma_1)^(2n), that of sigma as (sigma_2 / sigma_1)^(4n). A `u` from the
    round before is a warm start. One orthogonal to the top vector never finds it. Gradients flow through every round,
    unless switched off.

    Args:
        matvec: v -> Av.
        rmatvec: u -> A'u.
        u: Where to start, not 0; of any length.
        n: Rounds, at least 1.

    Source: kexue.fm/archives/6051 (power iteration); Miyato et al. 2018, algorithm 1.

    >>> A = torch.tensor([[0.0, 10.0], [0.0, 0.0]])  # its eigenvalues are all 0
    >>> float(power_iteration(lambda v: A @ v, lambda u: A.T @ u, torch.ones(2), 1).sigma)
    10.0
    """
    if n < 1:
        raise ValueError(f"n = {n}: power iteration takes at least 1 round; 1 is usual with a warm start")
    for _ in range(n):
        v = _unit(rmatvec(u))
        image = matvec(v)
        u = _unit(image)
    return Singular(vector_norm(image), u, v)


def warm_sigma(matvec: Map, rmatvec: Map, u: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Sigma after n rounds, with the gradient uv' in A as if u and v were constants; and u for the next call."""
    with torch.no_grad():
        if n > 1:
            u = power_iteration(matvec, rmatvec, u, n - 1).u
        v = _unit(rmatvec(u))
    image = matvec(v)  # |Av| and its gradient are u'Av's, one product cheaper
    return vector_norm(image), _unit(image.detach())


@dataclass(frozen=True)
class MatrixMap:
    """Weights as the matrix v -> Wv, one row an output channel: the norm that spectral normalisation divides by.

    Args:
        is_transposed: Output channels are the second dimension, as in a transposed convolution.
    """

    is_transposed: bool = False

    def maps(self, weight: Tensor) -> tuple[Map, Map]:
        """The functions v -> Wv and u -> W'u."""
        matrix = self.matrix(weight)
        return lambda v: torch.mv(matrix, v), lambda u: torch.mv(matrix.t(), u)

    def matrix(self, weight: Tensor) -> Tensor:
        """W (m, n); its columns stand as the memory format has them, so nothing is copied."""
        rows = weight.transpose(0, 1) if self.is_transposed else weight
        return (rows if rows.is_contiguous() or rows.dim() < 3 else rows.movedim(1, -1)).flatten(1)

    def output_shape(self, weight: Tensor) -> torch.Size:
        """Of u."""
        return self.matrix(weight).shape[:1]


@dataclass(frozen=True)
class ConvolutionMap:
    """A convolution, bias left out, as a linear map of one image of a given size; its adjoint is its vjp.

    Args:
        input_shape: (1, C, *spatial).
        stride: As the layer's; so are all that follow.
        padding: Zeros on both sides.
        dilation: Of the kernel.
        is_transposed: A transposed convolution.
        output_padding: A transposed convolution's.
        groups: Of channels.
        around: What is put around the image before, as torch.nn.functional.pad takes it.
        mode: Of `around`.
    """

    input_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    is_transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    around: tuple[int, ...] = ()
    mode: str = "constant"

    @classmethod
    def of(cls, layer: nn.Module, input_shape: tuple[int, ...]) -> "ConvolutionMap":
        """The map of nn.Conv* or nn.ConvTranspose* for inputs (any, C, *spatial)."""
        if not isinstance(layer, _ConvNd):
            raise ValueError(f"layer {type(layer).__name__}: must be a convolution; use MatrixMap for other layers")
        around: tuple[int, ...] = ()
        mode = "constant"
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            around = tuple(layer._reversed_padding_repeated_twice)
            mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        return cls(
            input_shape=(1, *input_shape[1:]),
            stride=tuple(layer.stride),
            padding=(0,) * len(layer.stride) if around or isinstance(layer.padding, str) else tuple(layer.padding),
            dilation=tuple(layer.dilation),
            is_transposed=isinstance(layer, _ConvTransposeNd),
            output_padding=tuple(layer.output_padding),
            groups=layer.groups,
            around=around,
            mode=mode,
        )

    def maps(self, weight: Tensor) -> tuple[Map, Map]:
        """The functions from image to output and back."""
        constant = weight.detach()

        def adjoint(u: Tensor) -> Tensor:
            with torch.inference_mode(False), torch.enable_grad():  # validation runs where nothing can be derived
                image = torch.zeros(self.input_shape, dtype=weight.dtype, device=weight.device, requires_grad=True)
                pulled: Tensor = torch.autograd.grad(self._convolve(image, constant), image, u.clone())[0]
                return pulled

        return lambda v: self._convolve(v, weight), adjoint

    def output_shape(self, weight: Tensor) -> torch.Size:
        """Of u."""
        with torch.no_grad():
            return self._convolve(weight.new_zeros(self.input_shape), weight).shape

    def _convolve(self, image: Tensor, weight: Tensor) -> Tensor:
        if self.around:
            image = F.pad(image, self.around, mode=self.mode)
        return torch.convolution(
            image, weight, None, self.stride, self.padding, self.dilation, self.is_transposed, self.output_padding,
            self.groups,
        )  # fmt: skip


class SpectralNorm(nn.Module):
    """Parametrization W -> target W / sigma(W), with u kept between calls; register with torch's parametrize.

    In training mode each call takes n rounds and keeps u; in evaluation mode u stays as it is. No call changes what an
    earlier one needs for its backward pass.

    Args:
        weight: The layer's, at which u starts.
        linear_map: `MatrixMap`, as published, or `ConvolutionMap` for the norm of the convolution itself.
        n_power_iterations: Rounds a call.
        target: Norm of what comes out.

    Source: Miyato et al. 2018, algorithm 1; kexue.fm/archives/6051.
    """

    u: Tensor

    def __init__(
        self, weight: Tensor, linear_map: MatrixMap | ConvolutionMap, n_power_iterations: int = 1, target: float = 1.0
    ) -> None:
        super().__init__()
        self.linear_map, self.n_power_iterations, self.target = linear_map, n_power_iterations, target
        self.register_buffer("u", first_u(weight, linear_map))

    def forward(self, weight: Tensor) -> Tensor:
        """The weights, normalised."""
        with torch.autocast(weight.device.type, enabled=False):
            sigma, u = warm_sigma(*self.linear_map.maps(weight), self.u, self.n_power_iterations)
            if self.training:
                self.u.copy_(u)
            return weight * (self.target / sigma.clamp_min(SMALLEST_SIGMA))


class ColdSpectralNorm(nn.Module):
    """Parametrization W -> target W / sigma(W), where sigma starts from ones in each call and carries its gradient.

    As kexue.fm/archives/6051 has it. Sigma is low, on a random matrix by 6 % after 5 rounds, and training learns to
    make it lower: the norm that comes out exceeds the target, by 1.2 to 1.7 times where it was measured.

    Args:
        linear_map: How the weights are a matrix.
        n_power_iterations: Rounds a call; r in the source.
        target: Norm of what comes out, were sigma exact.
    """

    def __init__(self, linear_map: MatrixMap, n_power_iterations: int = 5, target: float = 1.0) -> None:
        super().__init__()
        self.linear_map, self.n_power_iterations, self.target = linear_map, n_power_iterations, target

    def forward(self, weight: Tensor) -> Tensor:
        """The weights, divided by the estimate."""
        with torch.autocast(weight.device.type, enabled=False):
            matvec, rmatvec = self.linear_map.maps(weight)
            ones = weight.new_ones(self.linear_map.matrix(weight).shape[1])  # the source's u has the length of an input
            sigma = power_iteration(rmatvec, matvec, ones, self.n_power_iterations).sigma
            return weight * (self.target / sigma.clamp_min(SMALLEST_SIGMA))


def first_u(weight: Tensor, linear_map: MatrixMap | ConvolutionMap) -> Tensor:
    """A u close to the top vector: START_ITERATIONS rounds from a random one, the same in every process."""
    with torch.no_grad():
        shape = linear_map.output_shape(weight)
        start = torch.randn(shape, generator=draw(0, "lipschitz/u")).to(weight)
        return power_iteration(*linear_map.maps(weight), start, START_ITERATIONS).u


def weighted_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers of a module that multiply by a weight matrix, by name: dense, convolution, embedding.

    >>> list(weighted_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))))
    ['0', '2']
    """
    kinds = (nn.Linear, _ConvNd, nn.Embedding)
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, kinds)}


def matrix_map(layer: nn.Module) -> MatrixMap:
    """How this layer's weights are a matrix with one row an output channel."""
    return MatrixMap(isinstance(layer, (_ConvTransposeNd, nn.Embedding)))


def _unit(x: Tensor) -> Tensor:
    unit: Tensor = x / vector_norm(x).clamp_min(SMALLEST_SIGMA)
    return unit
