"""Models, data and optimizers as Lightning parts; each usable alone in a notebook. Importing this imports nothing else."""

MODULES: dict[str, str] = {
    "vae": "lightning_modules.vae:VAE",
}
