# %% [markdown]
# # Why does momentum work, and what does a small batch do?
#
# Optimisation as dynamics, first part: kexue.fm/archives/5655. Gradient descent is read as a numerical solution of a
# differential equation, momentum as that of another, and a minibatch as heat. Each reading predicts numbers; here
# they are measured. Some hold, and two do not.
#
# Cells run in order, in VS Code or Jupytext, or all at once: `python examples/sgd_as_dynamics_5655.py` (10 s). Runs
# go to the nearest `mlruns/`, else to `./mlruns`; the environment variable MLFLOW_TRACKING_URI names another store.

# %%
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

import taolu
from lightning_modules.optimizers import build

# %% [markdown]
# ## 1. Gradient descent is Euler's method
#
# Subtract $\theta_n$ from equation (2), $\theta_{n+1} = \theta_n - \gamma \nabla L(\theta_n)$, and divide by
# $\gamma$:
#
# $$\frac{\theta_{n+1} - \theta_n}{\gamma} = -\nabla L(\theta_n) \quad\longrightarrow\quad
# \dot\theta = -\nabla L(\theta) \qquad (\gamma \to 0).$$
#
# So $n$ steps of length $\gamma$ arrive about where the flow is at the time $t = n\gamma$. On $L = \theta^2 / 2$
# the flow is $\theta(t) = \theta_0 e^{-t}$. A method is of order $p$ if its error falls as $\gamma^p$: halve the
# step, and the error is divided by $2^p$.


# %%
def final_position(optimizer: str, n_steps: int, **settings: float | bool) -> float:
    """Where an optimizer is after n_steps on L = theta^2 / 2, from theta = 1."""
    theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    stepper = build(optimizer, [theta], **settings)
    for _ in range(n_steps):
        theta.grad = theta.detach().clone()  # the gradient of theta^2 / 2
        stepper.step()
    return theta.item()


def orders(errors: list[float]) -> list[float]:
    """The order of a method from its errors at n, 2n, 4n, ... steps."""
    return [math.log2(before / after) for before, after in pairwise(errors)]


t, counts = 5.0, [50, 100, 200, 400]
flow = math.exp(-t)
descent_errors = [abs(final_position("sgd", n, lr=t / n) - flow) for n in counts]
descent_orders = orders(descent_errors)
table = pd.DataFrame({"steps": counts, "error": descent_errors, "order": [math.nan, *descent_orders]})
print(table.to_string(index=False))

# %% [markdown]
# Order 1, as claimed.
#
# ## 2. Momentum is Newton's law with friction
#
# A ball of mass 1 that rolls in the landscape $L$ and is slowed by a friction $\lambda$ obeys equation (10),
# $\ddot\theta + \lambda\dot\theta = -\nabla L(\theta)$. Know the positions at the times $n\gamma$, the speeds
# $\eta$ half a step off them, and take differences around the middle. With $v_{n+1} = \gamma\eta_{n+1/2}$ the
# result is
#
# $$v_{n+1} = \beta v_n - \alpha\nabla L(\theta_n), \quad \theta_{n+1} = \theta_n + v_{n+1}, \qquad
# \beta = \frac{1 - \lambda\gamma/2}{1 + \lambda\gamma/2}, \quad \alpha = \frac{\gamma^2}{1 + \lambda\gamma/2}:$$
#
# momentum, equations (15) and (16). Two things follow. Its rate $\alpha$ is about $\gamma^2$, so in physical time it
# advances by $\sqrt\alpha$ a step, far more than $\alpha$. And differences around the middle are of order 2.
#
# Or are they? Frameworks begin with $v_0 = 0$. But $v_0$ belongs to the time $-\gamma/2$, when a ball that will be
# at rest at time 0 is still on its way up: $v_0 = +\alpha\nabla L(\theta_0) / (1 + \beta)$. On $L = \theta^2 / 2$
# at $\lambda = 1$ the exact path from rest is $e^{-t/2}(\cos\omega t + \sin(\omega t) / 2\omega)$,
# $\omega = \sqrt{3}/2$.

# %%
omega = math.sqrt(3) / 2
newton = math.exp(-t / 2) * (math.cos(omega * t) + math.sin(omega * t) / (2 * omega))
momentum_errors = {
    start: [
        abs(final_position("momentum", n, friction=1.0, time_step=t / n, half_step_start=start) - newton)
        for n in counts
    ]
    for start in (False, True)
}
order_from_zero, order_from_half_step = (orders(momentum_errors[start])[-1] for start in (False, True))
table = pd.DataFrame({"steps": counts, "v = 0": momentum_errors[False], "half a step back": momentum_errors[True]})
print(table.to_string(index=False))
print(f"orders: {order_from_zero:.2f} as frameworks start it, {order_from_half_step:.2f} half a step back")

# %% [markdown]
# The usual start throws the second order away; the errors differ by a factor of hundreds.
#
# ## 3. A minibatch is heat
#
# The gradient of a batch of $B$ rows is the whole gradient plus noise of variance $s^2 / B$. On a parabola of
# curvature $h$ a step is $\theta \leftarrow (1 - \gamma h)\theta - \gamma (s / \sqrt{B})\,\xi$, with $\xi$ standard
# normal. At rest the variance before a step is the variance after it, $V = (1 - \gamma h)^2 V + \gamma^2 s^2 / B$,
# hence
#
# $$V = \frac{\gamma s^2}{B h (2 - \gamma h)} \approx \frac{T}{h}, \qquad T = \frac{\gamma s^2}{2B}.$$
#
# $V = T / h$ is the spread of $P(\theta) \propto e^{-L(\theta) / T}$, Boltzmann's law at the temperature $T$.
# Equation (9) of the article has $\sigma^2 = s^2 / B$ in the place of $T$: neither the rate nor the 2 is in it.

# %%
rng = np.random.default_rng(0)
h, s, n_walkers = 1.0, 1.0, 20_000
rows = []
for gamma, batch in [(0.05, 1), (0.1, 2), (0.2, 4), (0.1, 8), (0.4, 1)]:
    walkers = np.zeros(n_walkers)
    for _ in range(int(8 / gamma)):  # e^-16 of the start is left
        walkers = (1 - gamma * h) * walkers - gamma * s / math.sqrt(batch) * rng.standard_normal(n_walkers)
    law, literal = gamma * s**2 / (batch * h * (2 - gamma * h)), s**2 / (batch * h)
    rows.append((gamma, batch, gamma / batch, walkers.var(), law, literal))
heat = pd.DataFrame(rows, columns=["gamma", "B", "gamma / B", "variance", "law", "equation (9)"])
largest_miss = float((heat["variance"] / heat["law"] - 1).abs().max())
print(heat.round(4).to_string(index=False))
print(f"measured / law is within {largest_miss:.1%} of 1")

# %% [markdown]
# The first three rows have equal $\gamma / B$ and about equal spread: what a larger batch cools, a larger rate heats
# again. That is why a small batch with a large rate comes first, and a growing batch or a falling rate at the end.
#
# ## 4. A ball crosses where descent stays
#
# $L(x) = x (x - 1)(x - 3)^2 + 1.62276$ has a poor minimum at 3 and the global one, with loss 0, at 0.407. From
# $x = 4$ descent slides into the poor one. A ball arrives there with speed. `taolu.run` records both as runs;
# `paths.npz` holds the path, and the picture has it over the landscape, beside the differential equation in blue.

# %%
ends = {}
for optimizer in ("sgd", "momentum"):
    options: dict[str, Any] = {"optimizer": optimizer, "optimizer.lr": 0.01, "trainer.max_epochs": 2, "threads": 1}
    result = taolu.run("paths", **(options | {"model.has_map": False}))  # a path without the map of basins
    with np.load(result.folder / "paths.npz") as arrays:
        ends[optimizer] = float(arrays["theta"][-1].item())
    print(f"{optimizer} ends at {ends[optimizer]:.3f}, with a loss of {result.metrics['val/loss']:.3f}")

# %%
Image.open(taolu.files(result.run_id)["media/path/00000199.png"])

# %% [markdown]
# ## 5. The claims
#
# Each statement of the article is a claim that can be run: a statistic, its interval, and a verdict. The one that
# fails as the article writes it stands beside its correction, which has a final `c`. A claim is kept as a run with
# its plot.

# %%
verdicts = taolu.claims("5655-S4", "5655-S4.1", "5655-S4.1c", run=True)
Image.open(taolu.files(verdicts.set_index("id")["run_id"]["5655-S4.1c"])["plot.png"])

# %% [markdown]
# **Next.** Nesterov's momentum is said to be stable for larger steps: `taolu claims run 5655-S3 5655-S3c`. Too much
# friction stops the ball and too little lets it cross back: leave out `model.has_map` above and see `media/basins`.
# The law of section 3 takes each draw to be independent; shuffled epochs leave far less:
# `taolu claims show 5655-S10`.
