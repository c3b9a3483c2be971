"""What happens while a network trains, measured: gradient noise, sharpness, size of the updates.

The callbacks work in any Lightning script, `Trainer(callbacks=[NoiseScale(every=50)])`; pure functions lie beneath.
"""

from lightning_modules.dynamics.callbacks import NoiseScale, Sharpness, UpdateRatio, callback
from lightning_modules.dynamics.curvature import Eigenvalues, hessian_vector_product, lanczos, top_eigenvalues
from lightning_modules.dynamics.motion import Motion, motion
from lightning_modules.dynamics.noise import (
    Interval,
    NoiseScaleEstimate,
    finite_population,
    mean_gradient,
    noise_scale,
    noise_scale_of,
    noise_trace,
    per_sample_gradients,
    temperature,
    two_batch_noise,
)

__all__ = [
    "Eigenvalues",
    "Interval",
    "Motion",
    "NoiseScale",
    "NoiseScaleEstimate",
    "Sharpness",
    "UpdateRatio",
    "callback",
    "finite_population",
    "hessian_vector_product",
    "lanczos",
    "mean_gradient",
    "motion",
    "noise_scale",
    "noise_scale_of",
    "noise_trace",
    "per_sample_gradients",
    "temperature",
    "top_eigenvalues",
    "two_batch_noise",
]
