"""Generative adversarial networks under every Lipschitz constraint, after kexue.fm/archives/6051."""

from lightning_modules.gan.module import GAN

__all__ = ["GAN"]
