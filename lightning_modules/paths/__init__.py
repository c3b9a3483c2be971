"""Optimizers as moving points on landscapes of one or two dimensions, beside the differential equations they follow."""

from lightning_modules.paths.module import Paths

__all__ = ["Paths"]
