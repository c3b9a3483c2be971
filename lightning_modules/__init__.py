"""Models, data and optimizers as Lightning parts; each usable alone in a notebook. Imports nothing itself."""

MODULES: dict[str, str] = {
    "vae": "lightning_modules.vae:VAE",
}
