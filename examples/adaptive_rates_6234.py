# %% [markdown]
# # How long should a step be? RMSprop as step control
#
# Optimisation as dynamics, second part: kexue.fm/archives/6234. Solvers of differential equations choose their
# steps so that each is just exact enough. Do that to gradient descent, and RMSprop comes out: a rate for each
# number, divided by the size of its gradients. Here: what such steps do at their first, in the long run, and in a
# turned valley.
#
# Cells run in order, in VS Code or Jupytext, or all at once: `python examples/adaptive_rates_6234.py` (10 s). Runs
# go to the nearest `mlruns/`, else to `./mlruns`; the environment variable MLFLOW_TRACKING_URI names another store.

# %%
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

import taolu
from lightning_modules.optimizers import build

# %% [markdown]
# ## 1. Steps that are just good enough
#
# Along the flow $\dot\theta = -L'(\theta)$ a step of length $\gamma$ has
# $\theta(t + \gamma) = \theta - \gamma L' + \tfrac12\gamma^2 L'' L' + \dots$ The article takes $\gamma |L'|$, the
# way that is gone, as the gauge of the error, and holds it at a value $\tilde\gamma$. Then
# $\gamma = \tilde\gamma / |L'|$, and
#
# $$\theta_{n+1} = \theta_n - \tilde\gamma\,\frac{L'}{|L'|} = \theta_n - \tilde\gamma\,\mathrm{sign}\,L'(\theta_n):$$
#
# each step is of one length. Is each as exact as the next? On $L = \theta^2 / 2$ the error of such a step is
# $\tfrac12\gamma^2\theta + \dots = \tilde\gamma^2 / (2|\theta|)$: not constant, but half as large at twice the
# distance.

# %%
way = 0.01
positions = [0.25, 0.5, 1.0, 2.0, 4.0]
step_errors = [abs((theta - way) - theta * math.exp(-way / theta)) for theta in positions]
table = pd.DataFrame({"theta": positions, "error of a step": step_errors})
table["times theta"] = table["theta"] * table["error of a step"]
print(table.to_string(index=False))

# %% [markdown]
# So a fixed way is a safe bound, and over-careful far from the minimum.
#
# ## 2. RMSprop: the sign, smoothed
#
# A sign jumps. RMSprop puts a moving average in the place of the last gradient's square, equation (2):
#
# $$G \leftarrow \lambda G + (1 - \lambda)\,g \otimes g, \qquad \theta \leftarrow \theta -
# \frac{\tilde\gamma}{\sqrt{G + \varepsilon}} \otimes g, \qquad G_0 = 0.$$
#
# $\lambda = 0$ is the sign again. With memory the first step is not one rate long: $G = (1 - \lambda) g^2$ then,
# and the step is $\tilde\gamma / \sqrt{1 - \lambda}$, whatever the gradient.


# %%
def path(gradient: Callable[[Tensor], Tensor], start: list[float], n_steps: int, **settings: float | str) -> Tensor:
    """Positions (n_steps + 1, D) of our RMSprop, whose beta is the article's lambda."""
    theta = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = build("rmsprop", [theta], **settings)
    points = [theta.detach().clone()]
    for _ in range(n_steps):
        theta.grad = gradient(theta.detach())
        optimizer.step()
        points.append(theta.detach().clone())
    return torch.stack(points)


memories = [0.0, 0.5, 0.9, 0.99, 0.999]
first_steps = []
for beta in memories:
    points = path(lambda theta: 1000 * theta, [1.0], 1, lr=0.01, beta=beta)
    first_steps.append(float((points[0] - points[1]).abs()) / 0.01)
laws = [1 / math.sqrt(1 - beta) for beta in memories]
table = pd.DataFrame({"lambda": memories, "first step in rates": first_steps, "1 / sqrt(1 - lambda)": laws})
print(table.round(3).to_string(index=False))

# %% [markdown]
# Ten rates at the usual $\lambda = 0.99$. Adam divides that factor out; this is its bias correction.
#
# ## 3. It never arrives, unless $\varepsilon$ lets it
#
# Near the minimum the gradient changes sign and $\sqrt G$ shrinks with it, so steps stay one rate long. In the end
# $\theta$ hops between $+\tilde\gamma/2$ and $-\tilde\gamma/2$, for any curvature $h$. Unless $\varepsilon$ takes
# over: inside the root, as in the article, it makes plain descent of rate $\tilde\gamma / \sqrt\varepsilon$ of the
# last stretch, which converges while $\tilde\gamma h < 2\sqrt\varepsilon$. PyTorch adds $\varepsilon$ to the root,
# and then $\tilde\gamma h < 2\varepsilon$ is needed: ten thousand times less at $\varepsilon = 10^{-8}$.

# %%
rows = []
for lr, h, place in [(1e-2, 1.0, "inside"), (1e-2, 10.0, "inside"), (1e-3, 0.1, "inside"), (1e-3, 0.1, "outside")]:
    curved = path(partial(torch.mul, torch.tensor(h)), [1.0], 1500, lr=lr, beta=0.9, epsilon=1e-8, epsilon_place=place)
    rows.append((lr, h, place, float(curved[-1].abs()) / lr))
rest = pd.DataFrame(rows, columns=["rate", "curvature", "epsilon", "distance in rates"])
print(rest.round(4).to_string(index=False))

# %% [markdown]
# Half a rate twice, whatever the curvature; then nearly nothing; then half a rate again, by $\varepsilon$'s place
# alone.
#
# ## 4. A rate for each number looks at the axes
#
# In a valley $L = (u^2 + \kappa v^2) / 2$ one rate for all is too long for $v$ or too short for $u$. A rate for
# each number cures that, if the valley lies along the axes. Turn it, and each number has its share of both. The
# scalar form, one $G$ from the norm of the whole gradient, sees no axes and loses nothing.

# %%
kappa = 100.0


def valley(degrees: float) -> Tensor:
    """Hessian of the valley, turned."""
    turn = math.radians(degrees)
    axes = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=torch.float64)
    return axes @ torch.diag(torch.tensor([1.0, kappa], dtype=torch.float64)) @ axes.T


def best_loss(hessian: Tensor, scale: str) -> float:
    """The least loss after 200 steps over several rates, from a point one off the minimum along both main axes."""
    start = torch.linalg.eigh(hessian).eigenvectors.sum(1)
    ends = [
        path(lambda theta: hessian @ theta, start.tolist(), 200, lr=lr, beta=0.9, scale=scale)[-1]
        for lr in (0.003, 0.01, 0.03, 0.1)
    ]
    return min(float(theta @ hessian @ theta) / 2 for theta in ends)


angles = [0, 5, 20, 45]
valleys = pd.DataFrame(
    {
        "degrees": angles,
        "each number its rate": [best_loss(valley(angle), "vector") for angle in angles],
        "one rate": [best_loss(valley(angle), "scalar") for angle in angles],
    }
)
print(valleys.to_string(index=False))

# %% [markdown]
# ## 5. Faster at first
#
# On digits: the same classifier, the same order of images, both at a rate that suits them. `taolu.history` reads back
# what the runs recorded.

# %%
losses = {}
for optimizer, lr in (("sgd", 0.2), ("rmsprop", 0.003)):
    options: dict[str, Any] = {"optimizer": optimizer, "optimizer.lr": lr, "trainer.max_epochs": 4}
    result = taolu.run("classifier", **options, threads=1)
    losses[optimizer] = taolu.history(result.run_id, ["val/loss"])["value"].tolist()
print(pd.DataFrame(losses, index=pd.RangeIndex(1, 5, name="epoch")).round(3))

# %% [markdown]
# ## 6. The claims
#
# "A step is about a rate long, the first one too" fails; its correction, with a final `c`, is section 2's law.

# %%
verdicts = taolu.claims("6234-A6.2", "6234-A6.2c", "6234-A2.3", run=True)
Image.open(taolu.files(verdicts.set_index("id")["run_id"]["6234-A6.2c"])["plot.png"])

# %% [markdown]
# **Next.** Does a rate for each number help on a real network? `taolu claims run 6234-A4.2 6234-A4.3`. Who wins in
# the end? `taolu claims run 6234-A7.1 6234-A7.2`. The article says that the average takes away the bias of a
# minibatch's squared gradient; it takes away the variance alone: `taolu claims run 6234-A5.2 6234-A5.2c`.
