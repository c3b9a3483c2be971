"""A generator step of an SN-GAN (DCGAN of width 32 on 32x32x3, batch 32, two critic steps): other loops and ours.

    plain    the loop most people write: two critic forwards, torch's spectral_norm and default Adam, NCHW; it does
             freeze the critic in the generator's step, and makes no graph of the generator in the critic's
    mimicry  the layers and semantics of torch_mimicry 0.1.16, stated anew, for its import asks for TensorFlow and
             torchvision: power iteration in each forward, nothing frozen, the generator's graph made and detached,
             probabilities read at every critic step
    tricks   a bare loop with everything that makes ours quick: our layers, one forward, fused Adam, channels_last,
             numbers below 1e-38 taken as 0
    tracked  `taolu.fit`: every term on every step, heartbeat, console, database and all

In turn in one process on one thread, medians of the rounds; processor time of 100 steps after 20: of the training
thread, and of the whole process, in which the database's writer works beside it. Pictures and validation are off, for
no other loop has them. Writes results/gan.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from measure import Steps, machine, median, versions
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

import taolu
from experiments.build import quiet
from experiments.lean import denormals_flushed
from lightning_modules.data.image_set import ImageSet
from lightning_modules.data.images import Images
from lightning_modules.gan import GAN
from lightning_modules.gan.networks import Critic, Generator
from lightning_modules.lipschitz import constraint
from lightning_modules.optimizers import build

FIRST, LAST = 20, 120  # steps: the first that counts, and how many there are
SHAPE, BATCH, N_CRITIC, WIDTH, LATENT = (3, 32, 32), 32, 2, 32, 128
SETTINGS = {"lr": 2e-4, "betas": (0.0, 0.9)}
RESULTS = Path(__file__).parent / "results" / "gan.json"
TARGETS = {
    "tracked_over_plain_at_most": 1.03,
    "tracked_over_mimicry_at_most": 0.95,
    "tracked_ms_over_tricks_at_most": 3.0,
}


def batches(x: Tensor) -> Iterator[Tensor]:
    """Critic batches without end, by index."""
    while True:
        order = torch.randperm(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            yield x[order[start : start + BATCH]]


def plain(x: Tensor) -> dict[str, float]:
    """The loop most people write."""
    torch.manual_seed(0)
    generator, critic = Generator("dcgan", SHAPE, LATENT, WIDTH), Critic("dcgan", SHAPE, WIDTH)
    for layer in critic.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spectral_norm(layer)
    optimizers = [torch.optim.Adam(part.parameters(), **SETTINGS) for part in (generator, critic)]  # type: ignore[arg-type]
    steps, reals = Steps(FIRST, LAST), batches(x)
    while True:
        for _ in range(N_CRITIC):
            real = next(reals)
            with torch.no_grad():
                fake = generator(torch.randn(BATCH, LATENT))
            loss = F.relu(1 - critic(real)).mean() + F.relu(1 + critic(fake)).mean()
            optimizers[1].zero_grad()
            torch.autograd.backward(loss)
            optimizers[1].step()
        critic.requires_grad_(False)
        loss = -critic(generator(torch.randn(BATCH, LATENT))).mean()
        optimizers[0].zero_grad()
        torch.autograd.backward(loss)
        optimizers[0].step()
        critic.requires_grad_(True)
        if steps.step():
            return steps.row()


class Normed(nn.Module):
    """A layer whose forward divides its weights by a sigma of one power iteration, with sigma kept, as mimicry's do."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("left", torch.randn(1, layer.weight.shape[0]))  # type: ignore[index,arg-type]
        self.register_buffer("sigma", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        weight: Any = self.layer.weight
        matrix, left, kept = weight.flatten(1), self.get_buffer("left"), self.get_buffer("sigma")
        with torch.no_grad():
            right = F.normalize(left @ matrix)
            left = F.normalize(right @ matrix.T)
        sigma = left @ (matrix @ right.T)
        with torch.no_grad():
            kept.copy_(sigma[0])
            self.get_buffer("left").copy_(left)
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight / sigma, self.layer.bias)
        layer: Any = self.layer
        return F.conv2d(x, weight / sigma, layer.bias, layer.stride, layer.padding)


def mimicry(x: Tensor) -> dict[str, float]:
    """The semantics of torch_mimicry on the same layers."""
    torch.manual_seed(0)
    generator, critic = Generator("dcgan", SHAPE, LATENT, WIDTH), Critic("dcgan", SHAPE, WIDTH)
    layers = [Normed(layer) if isinstance(layer, nn.Conv2d) else layer for layer in critic.features]
    critic.features, critic.head = nn.Sequential(*layers), Normed(critic.head)  # type: ignore[assignment]
    optimizers = [torch.optim.Adam(part.parameters(), **SETTINGS) for part in (generator, critic)]  # type: ignore[arg-type]
    steps, reals = Steps(FIRST, LAST), batches(x)
    while True:
        for _ in range(N_CRITIC):
            critic.zero_grad()
            score_real = critic(next(reals))
            score_fake = critic(generator(torch.randn(BATCH, LATENT)).detach())
            loss = F.relu(1 - score_real).mean() + F.relu(1 + score_fake).mean()
            torch.autograd.backward(loss)
            optimizers[1].step()
            for value in (loss, score_real.sigmoid().mean(), score_fake.sigmoid().mean()):
                value.item()
        generator.zero_grad()
        torch.autograd.backward(-critic(generator(torch.randn(BATCH, LATENT))).mean())
        optimizers[0].step()
        if steps.step():
            return steps.row()


def tricks(x: Tensor) -> dict[str, float]:
    """The loop with everything that makes ours quick and is not tracking."""
    torch.manual_seed(0)
    generator, critic = Generator("dcgan", SHAPE, LATENT, WIDTH), Critic("dcgan", SHAPE, WIDTH)
    for part in (generator, critic):
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    constraint("sn").apply_to(critic)
    optimizers = [build("torch.Adam", part.parameters(), **SETTINGS) for part in (generator, critic)]
    steps, reals = Steps(FIRST, LAST), batches(x)
    with denormals_flushed():
        while True:
            for _ in range(N_CRITIC):
                real = next(reals).contiguous(memory_format=torch.channels_last)
                with torch.no_grad():
                    fake = generator(torch.randn(BATCH, LATENT))
                score_real, score_fake = critic(torch.cat([real, fake])).chunk(2)
                loss = F.relu(1 - score_real).mean() + F.relu(1 + score_fake).mean()
                optimizers[1].zero_grad()
                torch.autograd.backward(loss)
                optimizers[1].step()
            critic.requires_grad_(False)
            loss = -critic(generator(torch.randn(BATCH, LATENT))).mean()
            optimizers[0].zero_grad()
            torch.autograd.backward(loss)
            optimizers[0].step()
            critic.requires_grad_(True)
            if steps.step():
                return steps.row()


class Counting(pl.Callback):
    """Tells the steps of a run."""

    def __init__(self) -> None:
        self.steps = Steps(FIRST, LAST)

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps.step()


def tracked(data: ImageSet) -> dict[str, float]:
    """Our run, as anybody starts it."""
    counting = Counting()
    with tempfile.TemporaryDirectory() as store:
        module = GAN(
            network="dcgan",
            latent_dim=LATENT,
            width=WIDTH,
            loss="hinge",
            constraint="sn",
            n_critic=N_CRITIC,
            shape=SHAPE,
            optimizer={"class": "torch.Adam", **SETTINGS},
        )
        limits = {
            "max_epochs": 3,
            "max_steps": LAST + 10,
            "limit_val_batches": 0,
            "accelerator": "cpu",
            "quality": {"metrics": []},
        }
        result = taolu.fit(
            module,
            data,
            name="cost",
            trainer=limits,
            threads=1,
            callbacks=[counting],
            store=store,
            say=lambda _: None,
        )
        n_values = len(taolu.history(result.run_id, ["train/loss"], store=store))
    if n_values != LAST + 10:
        raise RuntimeError(f"{n_values} values of train/loss recorded, {LAST + 10} expected; {result.error}")
    return counting.steps.row()


def compare(data: ImageSet, n_rounds: int) -> dict[str, Any]:
    """Medians of the rounds; ratios and differences within a round."""
    x = data.rows("train")[0]
    loops: dict[str, Callable[[], dict[str, float]]] = {
        "plain": lambda: plain(x),
        "mimicry": lambda: mimicry(x),
        "tricks": lambda: tricks(x),
        "tracked": lambda: tracked(data),
    }
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in loops}
    for _ in range(n_rounds):
        for name, loop in loops.items():
            rounds[name].append(loop())
    return {name: _row(rows, rounds) for name, rows in rounds.items()}


def _row(rows: list[dict[str, float]], rounds: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    found = {}
    for key in ("thread_ms", "process_ms"):
        found[key] = median([row[key] for row in rows])
        for other in ("plain", "mimicry"):
            ratios = [row[key] / o[key] for row, o in zip(rows, rounds[other], strict=True)]
            found[f"{key}_over_{other}"] = median(ratios)
        more = [row[key] - o[key] for row, o in zip(rows, rounds["tricks"], strict=True)]
        found[f"{key}_more_than_tricks"] = median(more)
    return found


def coloured(folder: Path) -> Images:
    """6,000 images of 32x32x3: scikit-learn's digits, four times as wide, each in a colour of its own."""
    digits = torch.from_numpy(load_digits().images).repeat_interleave(4, 1).repeat_interleave(4, 2) / 16
    torch.manual_seed(0)
    rows, colours = torch.randint(len(digits), (6_100,)), torch.rand(6_100, 3, 1, 1)
    pixels = (255 * digits[rows][:, None] * colours).round().byte().numpy()
    labels = np.zeros(len(pixels), np.int64)
    path = folder / "coloured.npz"
    np.savez(path, x_train=pixels[100:], y_train=labels[100:], x_test=pixels[:100], y_test=labels[:100])
    return Images(str(path), batch_size=BATCH, pixels="symmetric")


def main(n_rounds: int) -> None:
    warnings.simplefilter("ignore")
    quiet()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(coloured(Path(folder)), n_rounds)
    setting = {"rounds": n_rounds, "steps": LAST - FIRST, "batch": BATCH, "n_critic": N_CRITIC, "threads": 1}
    result = {
        "machine": machine(),
        "versions": versions("torch", "pytorch-lightning", "mlflow"),
        "setting": setting,
        "targets": TARGETS,
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
