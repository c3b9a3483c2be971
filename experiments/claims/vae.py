"""Every claim of kexue.fm/archives/5383, why a VAE works, sorted by label; a file an idea.

The article writes p(z|x) for the encoder and q(x|z), q(z) for decoder and prior; statements and formulas follow it, the
code has the more usual letters of `lightning_modules.vae`.
"""

from experiments.claims import bounds, decoder_variance, posterior_draws, prior_draws

PARTS = (posterior_draws, decoder_variance, bounds, prior_draws)
CLAIMS = tuple(sorted((one for part in PARTS for one in part.CLAIMS), key=lambda one: one.id))  # labels of one digit
