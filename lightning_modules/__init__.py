"""Models, data and optimizers as Lightning parts; each usable alone in a notebook. Imports nothing itself."""

MODULES: dict[str, str] = {
    "classifier": "lightning_modules.classifier:Classifier",
    "vae": "lightning_modules.vae:VAE",
    "paths": "lightning_modules.paths:Paths",
}
