# %% [markdown]
# # How much can a network's answer change? Lipschitz constraints
#
# kexue.fm/archives/6051. A function with $|f(x) - f(y)| \le C |x - y|$ cannot answer much to little; a small $C$
# should generalise better, and a GAN's critic needs $C = 1$. For a layer $x \mapsto Wx$ the smallest such $C$ is
# the spectral norm of $W$. Here: what that norm is and is not, how it is computed, and what dividing by it does to
# a classifier of digits.
#
# Cells run in order, in VS Code or Jupytext, or all at once: `python examples/lipschitz_constraints_6051.py` (15 s).
# Runs go to the nearest `mlruns/`, else to `./mlruns`; the environment variable MLFLOW_TRACKING_URI names another
# store.

# %%
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import taolu
from lightning_modules.data.digits import Digits
from lightning_modules.lipschitz.attacks import fgsm
from lightning_modules.lipschitz.audit import audit
from lightning_modules.lipschitz.constraint import constraint
from lightning_modules.lipschitz.norms import linear_norm
from lightning_modules.lipschitz.spectral import power_iteration

# %% [markdown]
# ## 1. Three numbers of a matrix
#
# $\lVert W\rVert_2 = \max_x |Wx| / |x|$ is the largest singular value,
# $\lVert W\rVert_2^2 = \lambda_{\max}(W^\top W)$. The Frobenius norm, the root of the sum of all squares, is the
# root of the sum of all $\sigma_i^2$, so $\lVert W\rVert_2 \le \lVert W\rVert_F$: weight decay lowers an upper
# bound. The largest eigenvalue of a square $W$ is another thing, and may be 0 where the norm is 10:

# %%
shear = torch.tensor([[0.0, 10.0], [0.0, 0.0]])
largest_eigenvalue = float(torch.linalg.eigvals(shear).abs().max())
spectral = float(torch.linalg.matrix_norm(shear, 2))
print(f"largest |eigenvalue| {largest_eigenvalue}, spectral norm {spectral}")

# %% [markdown]
# ## 2. Power iteration
#
# Write $u = \sum_i c_i u_i$ over the left singular vectors. A round $v \leftarrow W^\top u$, $u \leftarrow Wv$
# multiplies $c_i$ by $\sigma_i^2$, so after $r$ rounds $c_2 / c_1$ has shrunk by $(\sigma_2 / \sigma_1)^{2r}$. The
# estimate $u^\top W v$ is a Rayleigh quotient: its error is the square of the vector's,
# $(\sigma_2 / \sigma_1)^{4r}$. It is never too large. Five rounds from ones, as in the article's code, on random
# matrices, whose $\sigma_1$ and $\sigma_2$ lie close:

# %%
generator = torch.Generator().manual_seed(0)
matrices = torch.randn(20, 128, 128, generator=generator)
truth = torch.linalg.matrix_norm(matrices, 2)
rounds = [1, 5, 20, 40]
missing = []
for r in rounds:
    found = [float(power_iteration(W.mv, W.T.mv, torch.ones(128), r).sigma) for W in matrices]
    missing.append(float((1 - torch.tensor(found) / truth).mean()))
print(pd.Series(missing, index=pd.Index(rounds, name="rounds"), name="too small by").map("{:.1%}".format).to_string())

# %% [markdown]
# In training $W$ moves little between steps, so one round a step suffices if $u$ is kept (Miyato et al. 2018).
#
# ## 3. A convolution is a larger matrix
#
# The article takes a kernel of $k \times k$ as a matrix of its weights, reshaped. The map from image to image is
# another: up to $k$ times larger, for up to $k^2$ places of the kernel see the same pixel.

# %%
torch.manual_seed(0)
convolution = nn.Conv2d(8, 8, 3, padding=1, bias=False)
reshaped = float(torch.linalg.matrix_norm(convolution.weight.detach().flatten(1), 2))
true_norm = linear_norm(convolution, torch.zeros(1, 8, 16, 16))
print(f"reshaped {reshaped:.3f}, the convolution itself {true_norm:.3f}: {true_norm / reshaped:.2f} times as much")

# %% [markdown]
# ## 4. What it does to a classifier
#
# Any LightningModule is trained and recorded by `taolu.fit`. This one is ours of twenty lines;
# `constraint("sn", target=5)` divides its layers by their norms so that $\prod\lVert W_l\rVert_2 = 5$, and ReLU
# adds nothing to that. `audit` bounds the whole network from both sides: by the product of the norms, and by the
# steepest slope that a search meets.


# %%
class Net(pl.LightningModule):
    """A classifier of 8 x 8 digits; target: product of the layers' norms, None = free."""

    def __init__(self, target: float | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        if target is not None:
            constraint("sn", target=target, n_power_iterations=3).apply_to(self.net)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The cross-entropy of each image, (B,)."""
        return F.cross_entropy(self.net(x), y, reduction="none")

    def training_step(self, batch: Any, _: int) -> Tensor:
        """Their mean."""
        return self.losses(*batch).mean()

    def validation_step(self, batch: Any, _: int) -> None:
        """Records the share of right answers."""
        self.log("val/accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 2e-3)


data = Digits(batch_size=64)
data.setup("fit")
images, labels = data.rows("validation")
rows = []
for name, target in (("free", None), ("sn, 5", 5.0)):
    pl.seed_everything(0, verbose=False)
    net = Net(target)
    taolu.fit(net, data, name="lipschitz-example", run_name=name, trainer={"max_epochs": 10}, threads=1)
    bounds = audit(net.net, images[:32])
    net.eval()
    attacked = fgsm(net.losses, images, labels, 0.1, (0.0, 1.0))
    with torch.no_grad():
        clean, fooled = (float((net.net(x).argmax(1) == labels).float().mean()) for x in (images, attacked))
    rows.append((name, bounds.lower, bounds.upper, clean, fooled))
table = pd.DataFrame(rows, columns=["network", "steepest slope", "product of norms", "accuracy", "under attack"])
print(table.round(3).to_string(index=False))

# %% [markdown]
# The product is a little above 5: power iteration, three rounds a step here, is behind weights that still move. With
# the usual one round it is further behind.
#
# The attack (FGSM) moves each pixel by at most 0.1, the worst way. That a smaller product goes with more robustness
# holds here, and is no law across all constraints: claim 6051-L2.3 fails. And with two layers the product is a tight
# bound; with more of them it is a looser one.
#
# ## 5. The claims

# %%
verdicts = taolu.claims("6051-L1.5", "6051-L1.5c", "6051-L1.6", "6051-L1.9", "6051-L1.9c", run=True)
Image.open(taolu.files(verdicts.set_index("id")["run_id"]["6051-L1.6"])["plot.png"])

# %% [markdown]
# **Next.** Give `target` other values, or `constraint` other names (`gp`, `snr`, `sn_cold`, the article's own five
# cold rounds, which training learns to exploit: 6051-L4.1). GANs under fifteen constraints: `taolu run sngan`,
# `taolu run wgan_gp`; two points that circle for ever: `taolu claims run 6051-L8.1 6051-L8.4`.
