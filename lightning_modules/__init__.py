"""Models, data and optimizers as Lightning parts; each usable alone in a notebook. Imports nothing itself."""

MODULES: dict[str, str] = {
    "classifier": "lightning_modules.classifier:Classifier",
    "vae": "lightning_modules.vae:VAE",
    "gan": "lightning_modules.gan:GAN",
    "dirac_gan": "lightning_modules.gan.dirac:DiracGAN",
    "gpt2": "lightning_modules.gpt2:GPT2",
    "paths": "lightning_modules.paths:Paths",
}
