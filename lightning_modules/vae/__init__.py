"""Variational auto-encoders after kexue.fm/archives/5383."""

from lightning_modules.vae.module import VAE

__all__ = ["VAE"]
