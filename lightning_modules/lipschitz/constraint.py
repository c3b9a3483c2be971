"""The Lipschitz constraints of `--model.constraint NAME`, each with the three moments at which a module calls it."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from lightning_modules.lipschitz import penalties
from lightning_modules.lipschitz.clipping import U, clip_weights, project_spectral
from lightning_modules.lipschitz.spectral import (
    ColdSpectralNorm,
    ConvolutionMap,
    SpectralNorm,
    first_u,
    matrix_map,
    warm_sigma,
    weighted_layers,
)

ConstraintName = Literal[
    "none",
    "clip",
    "frobenius",
    "gp",
    "gp_one_sided",
    "r1",
    "r2",
    "wgan_div",
    "sn",
    "sn_cold",
    "sn_conv",
    "snr",
    "sn_projection",
    "gan_qp_l1",
    "gan_qp_l2",
]
CONSTRAINTS: tuple[str, ...] = get_args(ConstraintName)

# The settings each takes, with their defaults: the sources' where they give one.
DEFAULTS: dict[str, dict[str, float]] = {
    "none": {},
    "clip": {"clip": 0.01},
    "frobenius": {"weight": 1e-3},
    "gp": {"weight": 10.0, "target": 1.0},
    "gp_one_sided": {"weight": 10.0, "target": 1.0},
    "r1": {"weight": 10.0},
    "r2": {"weight": 10.0},
    "wgan_div": {"weight": 2.0},
    "sn": {"n_power_iterations": 1, "target": 1.0},
    "sn_cold": {"n_power_iterations": 5, "target": 1.0},
    "sn_conv": {"n_power_iterations": 1, "target": 1.0},
    "snr": {"weight": 0.01, "n_power_iterations": 1},
    "sn_projection": {"n_power_iterations": 1, "target": 1.0},
    "gan_qp_l1": {"weight": 10.0},
    "gan_qp_l2": {"weight": 10.0},
}
PAIRED = ("r2", "wgan_div", "gan_qp_l1", "gan_qp_l2")  # ask for generated samples


@dataclass(frozen=True)
class Constraint:
    """One way to bound a function's Lipschitz constant. Its state is buffers in the module, saved there.

    Made by `constraint`, which fills the settings a name has; the rest are NaN or 0 and not read.
    """

    name: str
    weight: float = math.nan
    clip: float = math.nan
    n_power_iterations: int = 0
    target: float = math.nan

    def apply_to(self, module: nn.Module, *example: Tensor) -> None:
        """Reparametrises the module's layers, or gives them the buffers the constraint needs; once, when it is built.

        `target` is that of the product over the layers: each of n layers gets target^(1/n).

        Args:
            module: With dense, convolution or embedding layers.
            example: What `module` takes, of one sample; sn_conv learns from it the size of every layer's input.

        Raises:
            ValueError: No such layer, one is reparametrised already, or sn_conv has no example for a convolution.
        """
        if not self.name.startswith("sn"):
            return
        layers = weighted_layers(module)
        _check_layers(layers, module)
        shapes = _input_shapes(module, layers, example) if self.name == "sn_conv" else {}
        for name, layer in layers.items():
            weight = layer.get_parameter("weight")
            if self.name in ("snr", "sn_projection"):
                layer.register_buffer(U, first_u(weight, matrix_map(layer)))
            elif self.name == "sn_cold":
                cold = ColdSpectralNorm(matrix_map(layer), self.n_power_iterations, self._target_of(len(layers)))
                parametrize.register_parametrization(layer, "weight", cold)
            else:
                linear_map = ConvolutionMap.of(layer, shapes[name]) if name in shapes else matrix_map(layer)
                normed = SpectralNorm(weight, linear_map, self.n_power_iterations, self._target_of(len(layers)))
                parametrize.register_parametrization(layer, "weight", normed)

    def penalty(
        self,
        module: nn.Module,
        real: Tensor,
        fake: Tensor,
        epsilon: Tensor,
        *,
        critic: Callable[[Tensor], Tensor] | None = None,
        scores: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor | None:
        """The weighted term to add to the loss of `module`, 0-d; None where the constraint has none.

        Args:
            module: Whose weights are held.
            real: Samples (B, ...).
            fake: As many generated ones, detached.
            epsilon: (B,) uniform in [0, 1], for the interpolates.
            critic: What maps samples to scores, where it is not the module: a conditional one with labels bound.
            scores: Of real and fake, where they are known: GAN-QP needs nothing else.
        """
        f = critic or module
        if self.name in ("gp", "gp_one_sided"):
            between = penalties.two_sided if self.name == "gp" else penalties.one_sided
            return self.weight * between(f, real, fake, epsilon, self.target)
        if self.name in ("r1", "r2"):
            return self.weight * penalties.zero_centred(f, real if self.name == "r1" else fake)
        if self.name == "wgan_div":
            return self.weight * penalties.wgan_div(f, real, fake)
        if self.name in ("gan_qp_l1", "gan_qp_l2"):
            score_real, score_fake = scores or (f(real), f(fake))
            return penalties.gan_qp(score_real, score_fake, real, fake, int(self.name[-1])) / self.weight
        if self.name == "frobenius":
            layers = weighted_layers(module).values()
            return self.weight * penalties.frobenius(layer.get_parameter("weight") for layer in layers)
        return self.weight * _squared_norms(module, self.n_power_iterations) if self.name == "snr" else None

    def after_step(self, module: nn.Module) -> None:
        """Puts the weights back where the constraint wants them, after each step of the optimizer."""
        if self.name == "clip":
            clip_weights(module, self.clip)
        elif self.name == "sn_projection":
            project_spectral(module, self._target_of(len(weighted_layers(module))), self.n_power_iterations)

    def _target_of(self, n_layers: int) -> float:
        return float(self.target ** (1 / n_layers))


def constraint(
    name: str,
    *,
    weight: float | None = None,
    clip: float | None = None,
    n_power_iterations: int | None = None,
    target: float | None = None,
) -> Constraint:
    """The constraint of that name; a setting left at None has the value DEFAULTS gives it.

    A setting the constraint does not have is checked and not read, so that one sweep can go over all names.

    Args:
        name: One of CONSTRAINTS.
        weight: lambda of a penalty, 10 for gradient penalties; in GAN-QP it divides, 10.
        clip: Largest absolute value of a weight, 0.01.
        n_power_iterations: Rounds of power iteration a call, 1 with a warm start, 5 with a cold one.
        target: Norm of the gradient (gp, gp_one_sided) or of the product of the layers (sn*), 1.

    Raises:
        ValueError: An unknown name, or a value out of range.

    >>> constraint("gp", weight=1, clip=0.01).target
    1.0
    """
    if name not in CONSTRAINTS:
        close = difflib.get_close_matches(name, CONSTRAINTS, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise ValueError(f"constraint = '{name}': unknown{hint}; allowed: {', '.join(CONSTRAINTS)}")
    asked = {"weight": weight, "clip": clip, "n_power_iterations": n_power_iterations, "target": target}
    given = {key: value for key, value in asked.items() if value is not None}
    _check_settings(name, given)
    settings = DEFAULTS[name] | {key: value for key, value in given.items() if key in DEFAULTS[name]}
    rounds = int(settings.pop("n_power_iterations", 0))
    return Constraint(name, n_power_iterations=rounds, **settings)


def _check_settings(name: str, given: dict[str, float]) -> None:
    """Refuses values out of range."""
    divides, is_gradient = name.startswith("gan_qp"), name.startswith("gp")
    least = {"weight": 0, "clip": 0, "n_power_iterations": 1, "target": 0}
    may_be_least = {"weight": not divides, "clip": False, "n_power_iterations": True, "target": is_gradient}
    usual = {"weight": 10, "clip": 0.01, "n_power_iterations": 1, "target": 1} | DEFAULTS[name]
    for key, value in given.items():
        if not (least[key] < value < math.inf or (value == least[key] and may_be_least[key])):
            bound = f"{'at least' if may_be_least[key] else 'above'} {least[key]}"
            raise ValueError(f"{key} = {value}: must be {bound}; with constraint {name} {usual[key]:g} is usual")


def _check_layers(layers: dict[str, nn.Module], module: nn.Module) -> None:
    """Refuses a module that cannot be reparametrised."""
    if not layers:
        raise ValueError(
            f"{type(module).__name__} has no dense, convolution or embedding layer to constrain; use constraint none"
        )
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight") or U in dict(layer.named_buffers()):
            raise ValueError(f"layer {name}: its weight is constrained already; apply one constraint, once")


def _input_shapes(
    module: nn.Module, layers: dict[str, nn.Module], example: tuple[Tensor, ...]
) -> dict[str, tuple[int, ...]]:
    """The shape each convolution's input has when the module sees the example."""
    convolutions = {name: layer for name, layer in layers.items() if isinstance(layer, _ConvNd)}
    if convolutions and not example:
        raise ValueError("constraint 'sn_conv': the size of the images is needed; give apply_to one example input")
    shapes: dict[str, tuple[int, ...]] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, inputs: shapes.update({name: tuple(inputs[0].shape)})

    hooks = [layer.register_forward_pre_hook(remember(name)) for name, layer in convolutions.items()]
    modes = [(part, part.training) for part in module.modules()]
    try:
        with torch.no_grad():
            module.eval()(*example)
    finally:
        for hook in hooks:
            hook.remove()
        for part, is_training in modes:
            part.training = is_training
    return shapes


def _squared_norms(module: nn.Module, n_power_iterations: int) -> Tensor:
    """The sum of sigma(W)^2 over the layers. Source: Yoshida & Miyato 2017; kexue.fm/archives/6051."""
    squares = []
    for layer in weighted_layers(module).values():
        weight, u = layer.get_parameter("weight"), layer.get_buffer(U)
        with torch.autocast(weight.device.type, enabled=False):
            sigma, new_u = warm_sigma(*matrix_map(layer).maps(weight), u, n_power_iterations)
        if module.training:
            u.copy_(new_u)
        squares.append(sigma.square())
    return torch.stack(squares).sum()
