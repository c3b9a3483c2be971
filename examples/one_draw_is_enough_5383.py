# %% [markdown]
# # Why can a variational auto-encoder train on one draw of z?
#
# Variational auto-encoders, third part: kexue.fm/archives/5383. A likelihood is a mean over all $z$, yet a VAE
# draws a single one for each image and step, and trains. Drawn from the prior it would not. Here: how narrow the
# posterior of a trained VAE is, what one draw of it is worth against ten of the prior, and how narrow theory says
# it must be.
#
# Cells run in order, in VS Code or Jupytext, or all at once: `python examples/one_draw_is_enough_5383.py` (15 s).
# Runs go to the nearest `mlruns/`, else to `./mlruns`; the environment variable MLFLOW_TRACKING_URI names another
# store.

# %%
from typing import Any, cast

import pandas as pd
import torch
from PIL import Image

import taolu
from lightning_modules.data.digits import Digits
from lightning_modules.vae import VAE
from lightning_modules.vae.losses import log_mean_exp

# %% [markdown]
# ## 1. The bound
#
# A decoder $p(x|z)$ and a prior $p(z) = N(0, I)$ make $p(x) = \int p(x|z)\,p(z)\,dz$. (The article writes $q$ for
# these and $p$ for the encoder; here the letters are the more usual ones.) For any $q(z|x)$ Jensen's inequality
# gives
#
# $$\ln p(x) = \ln \mathbb{E}_{q(z|x)}\frac{p(x|z)\,p(z)}{q(z|x)} \;\ge\;
# \mathbb{E}_{q(z|x)} \ln p(x|z) - \mathrm{KL}\bigl(q(z|x)\,\|\,p(z)\bigr).$$
#
# The KL has a closed form; of the other term one draw $z = \mu + \epsilon\sigma$ is taken. Train one on digits, with
# Gaussian pixels, so that $\ln p(x|z)$ is a true density:

# %%
options: dict[str, Any] = {"model.decoder": "gaussian", "optimizer.lr": 3e-3, "trainer.max_epochs": 12}
options |= {"trainer.quality.metrics": [], "threads": 1}  # the end of a run would judge its samples too
result = taolu.run("vae", **options)
elbo = taolu.history(result.run_id, ["val/elbo"])["value"]
print(f"ELBO of held-out images, nats: {elbo.iloc[0]:.1f} after an epoch, {elbo.iloc[-1]:.1f} after 12")

# %% [markdown]
# What it learnt: digits decoded over a grid of $z$.

# %%
Image.open(taolu.files(result.run_id)["media/manifold/00000131.png"])

# %% [markdown]
# ## 2. The posterior is narrow
#
# Neighbouring $z$ decode to neighbouring pictures, so an image can have come from a small region only, and the
# encoder says which one. `taolu.load` gives the trained module.

# %%
vae = cast(VAE, taolu.load(result.run_id))
data = Digits(batch_size=360)
data.setup("validate")
images = next(iter(data.val_dataloader()))[0]
generator = torch.Generator().manual_seed(0)
n, n_draws = len(images), 100
with torch.no_grad():
    mean, log_var = vae.encode(images)
    z_posterior = mean[:, None] + torch.randn(n, n_draws, 2, generator=generator) * (log_var / 2).exp()[:, None]
    z_prior = torch.randn(n, n_draws, 2, generator=generator)
    by_posterior, by_prior = (vae.log_likelihood(images, z) for z in (z_posterior, z_prior))  # (n, n_draws)
posterior_variance = float(log_var.exp().mean())
spread_posterior, spread_prior = (float(values.std(1).mean()) for values in (by_posterior, by_prior))
print(f"variance of the posterior {posterior_variance:.3f}, of the prior 1")
print(f"ln p(x|z) varies by {spread_posterior:.1f} nats over the posterior, by {spread_prior:.0f} over the prior")

# %% [markdown]
# ## 3. One draw of the posterior against ten of the prior
#
# Draws of the prior estimate $p(x)$ without bias: $\frac1k\sum_i p(x|z_i)$, equation (7). But the logarithm of that
# mean lives on the one draw that happens to be near, and mostly there is none. Posterior draws are weighed:
# $w = p(x|z)\,p(z) / q(z|x)$, equation (11). As truth serves a mean over 1000 of these.

# %%
with torch.no_grad():
    truth = -vae.nll(images, n_samples=1000).nll
    log_ratio = 0.5 * (log_var[:, None] + (z_posterior - mean[:, None]) ** 2 / log_var.exp()[:, None] - z_posterior**2)
    log_weights = by_posterior + log_ratio.sum(2)
errors = {
    f"{k} of the {name}": float((log_mean_exp(values[:, :k]) - truth).abs().mean())
    for name, values in (("posterior", log_weights), ("prior", by_prior))
    for k in (1, 10, 100)
}
table = pd.Series(errors, name="mean error of ln p(x), nats")
print(table.round(2).to_string())

# %% [markdown]
# One draw of the posterior beats ten of the prior; and this is with two latent numbers, where a draw of the prior
# still has a chance to be near. Of sixteen numbers it has none.
#
# ## 4. How narrow? A case with an answer
#
# Let both networks be linear: $x = Wz + \text{noise of variance } \sigma^2$. Then all is Gaussian (probabilistic
# PCA, Tipping & Bishop 1999). The best $W$ stretches the principal axis $i$, along which the data have variance
# $\lambda_i$, by $\sqrt{\lambda_i - \sigma^2}$: noise and signal add up to the variance of the data. Bayes' rule
# adds precisions, 1 of the prior and $(\lambda_i - \sigma^2) / \sigma^2$ of the image:
#
# $$\frac{1}{\sigma_{z,i}^2} = 1 + \frac{\lambda_i - \sigma^2}{\sigma^2} = \frac{\lambda_i}{\sigma^2}
# \quad\Rightarrow\quad \sigma_{z,i}^2 = \frac{\sigma^2}{\lambda_i}.$$
#
# A decoder of small variance makes a posterior of small variance, and one draw suffices. For networks that are not
# linear the proportion fails (5383-V2.1); for linear ones, trained as above, it holds:

# %%
pixels = images.flatten(1)
variances = torch.linalg.eigvalsh(torch.cov(pixels.T))
for sigma in (0.1, 0.05, 0.01):
    print(f"sigma {sigma}: posterior variances {[round(sigma**2 / float(v), 5) for v in variances.flip(0)[:2]]}")
verdicts = taolu.claims("5383-V2.1c", "5383-V2.2c", run=True)
Image.open(taolu.files(verdicts.set_index("id")["run_id"]["5383-V2.1c"])["plot.png"])

# %% [markdown]
# **Next.** Train on draws of the prior, `taolu run vae --model.loss prior --model.n_samples 10`, and compare. The
# article explains that loss's weakness by images that fight for the draws of a batch; larger batches should then be
# worse, and are better: `taolu claims run 5383-V4 5383-V4c` (a minute). More draws for a tighter bound are IWAE,
# `--model.loss iwae`.
