"""A VAE (784-256-16, batch 100): a step of training it in several loops, and its likelihood by importance sampling.

    plain    PyTorch, torch's default Adam, batches by index, nothing recorded
    fused    the same loop, the optimizer made by `lightning_modules.optimizers`
    flushed  the same again, numbers below 1e-38 taken as 0, as our runs do
    tracked  `taolu.fit`: every term on every step, checkpoints, heartbeat, console, database and all
    pythae   pythae 0.1.2's BaseTrainer on the same layers; left out where it is not installed

In turn in one process on one thread, medians of the rounds. Processor time from step 100 to step 1,300, two epochs of
60,000 images: of the training thread, and of the whole process, in which the database's writer works beside it.
Pictures and validation are off, for no other loop has them. The same again on scikit-learn's digits, of 64 pixels.

The likelihood: 50 black and white images, 1,000 draws each, by `VAE.nll` and by pythae's `get_nll` on the same layers,
as it is called and without gradients. It returns ln p(x), not its negative. Writes results/vae.json.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, variance
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from measure import Steps, Stopwatch, machine, median, versions
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import taolu
from experiments.build import quiet
from experiments.lean import denormals_flushed
from lightning_modules.data.digits import Digits
from lightning_modules.data.image_set import ImageSet
from lightning_modules.data.images import Images
from lightning_modules.data.sampling import draw
from lightning_modules.optimizers import build
from lightning_modules.vae import VAE
from lightning_modules.vae.networks import mlp_decoder, mlp_encoder

ROUNDS, FIRST, LAST = 5, 100, 1300  # steps: the first that counts, and how many there are
BATCH, HIDDEN, LATENT, LR = 100, 256, 16, 1e-3
NLL_ROUNDS, NLL_IMAGES, NLL_SAMPLES, NLL_STEPS = 12, 50, 1000, 590  # steps of training before it is measured
RESULTS = Path(__file__).parent / "results" / "vae.json"
TARGETS = {
    "tracked_over_plain_at_most": 1.05,
    "tracked_ms_over_fused_at_most": 0.8,
    "tracked_over_pythae_at_most": 0.92,
    "nll_times_pythae_at_least": 1.6,
    "nll_standard_errors_apart_at_most": 3,
}

Shape = tuple[int, int, int]


def plain(x: Tensor, make: Callable[[Any], torch.optim.Optimizer]) -> dict[str, float]:
    """The loop most people write."""
    torch.manual_seed(0)
    shape = _shape(x)
    encoder, decoder = mlp_encoder(shape, LATENT, HIDDEN), mlp_decoder(shape, LATENT, HIDDEN)
    optimizer = make([*encoder.parameters(), *decoder.parameters()])
    steps = Steps(FIRST, LAST)
    while True:
        order = torch.randperm(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            batch = x[order[start : start + BATCH]]
            mean, log_var = encoder(batch).chunk(2, 1)
            z = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
            reconstruction = F.binary_cross_entropy_with_logits(decoder(z), batch, reduction="sum")
            kl = -0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum()
            loss = (reconstruction + kl) / BATCH
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if steps.step():
                return steps.row()


def flushed(x: Tensor) -> dict[str, float]:
    """The loop with everything that makes ours quick and is not tracking."""
    with denormals_flushed():
        return plain(x, lambda parameters: build("torch.Adam", parameters, lr=LR))


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
        module = VAE(LATENT, hidden_dim=HIDDEN, shape=data.shape, optimizer={"class": "torch.Adam", "lr": LR})
        limits = {"max_epochs": None, "max_steps": LAST + 10, "limit_val_batches": 0, "accelerator": "cpu"}
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


def pythae_model(shape: Shape, encoder_layers: nn.Module, decoder_layers: nn.Module) -> Any:
    """A VAE of pythae's on our layers."""
    models, parts = importlib.import_module("pythae.models"), importlib.import_module("pythae.models.nn")
    base = importlib.import_module("pythae.models.base.base_utils")

    class Encoder(parts.BaseEncoder):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layers = encoder_layers

        def forward(self, images: Tensor) -> Any:
            mean, log_var = self.layers(images).chunk(2, 1)
            return base.ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(parts.BaseDecoder):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(decoder_layers, nn.Sigmoid())

        def forward(self, z: Tensor) -> Any:
            return base.ModelOutput(reconstruction=self.layers(z))

    model_config = models.VAEConfig(input_dim=shape, latent_dim=LATENT, reconstruction_loss="bce")
    return models.VAE(model_config, encoder=Encoder(), decoder=Decoder())


def pythae(x: Tensor) -> dict[str, float]:
    """The trainer and loss of pythae, its default Adam, our layers."""
    trainers = importlib.import_module("pythae.trainers")
    hooks = importlib.import_module("pythae.trainers.training_callbacks")
    shape, steps = _shape(x), Steps(FIRST, LAST)

    class Stop(hooks.TrainingCallback):  # type: ignore[misc,name-defined]
        def on_train_step_end(self, *_: Any, **__: Any) -> None:
            if steps.step():
                raise StopIteration

    for name in [name for name in logging.root.manager.loggerDict if name.startswith("pythae")]:
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, suppress(StopIteration), redirect_stderr(io.StringIO()):
        trainer = trainers.BaseTrainer(
            model=pythae_model(shape, mlp_encoder(shape, LATENT, HIDDEN), mlp_decoder(shape, LATENT, HIDDEN)),
            train_dataset=importlib.import_module("pythae.data.datasets").BaseDataset(x, torch.zeros(len(x))),
            training_config=trainers.BaseTrainerConfig(
                output_dir=folder,
                num_epochs=LAST // (len(x) // BATCH) + 1,
                per_device_train_batch_size=BATCH,
                learning_rate=LR,
                no_cuda=True,
            ),
            callbacks=[Stop()],
        )
        trainer.train()
    return steps.row()


def likelihoods(data: ImageSet) -> dict[str, Any]:
    """Medians of the rounds, in seconds of processor time, and how far the values lie apart."""
    model, x = _trained(data)
    peer = pythae_model(_shape(x), model.encoder, model.decoder).eval()
    timed: dict[str, Callable[[int], float]] = {
        "ours": lambda seed: model.nll(x, NLL_SAMPLES, seed=seed).summary().nll,
        "pythae": lambda _: -float(peer.get_nll(x, n_samples=NLL_SAMPLES)),
        "pythae without gradients": lambda _: -float(torch.no_grad()(peer.get_nll)(x, n_samples=NLL_SAMPLES)),
    }
    nats: dict[str, list[float]] = {name: [] for name in timed}
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for seed in range(NLL_ROUNDS):
        for name, measure in timed.items():
            watch = Stopwatch()
            nats[name].append(measure(seed))
            watch.stop()
            seconds[name].append(watch.process_seconds)
    rows = {}
    for name in timed:
        apart = mean(nats[name]) - mean(nats["ours"])
        error = ((variance(nats[name]) + variance(nats["ours"])) / NLL_ROUNDS) ** 0.5
        rows[name] = {
            "seconds": median(seconds[name]),
            "times_ours": median([s / o for s, o in zip(seconds[name], seconds["ours"], strict=True)]),
            "nats": round(mean(nats[name]), 4),
            "nats_standard_error": round((variance(nats[name]) / NLL_ROUNDS) ** 0.5, 4),
            "standard_errors_from_ours": round(apart / error, 2),
        }
    return rows


def _trained(data: ImageSet) -> tuple[VAE, Tensor]:
    """A model after some steps on images made black and white, and some of these images."""
    torch.manual_seed(0)
    x = (data.train_dataloader().tensors[0] > 0.5).float()
    model = VAE(LATENT, hidden_dim=HIDDEN, shape=data.shape)
    optimizer = build("torch.Adam", model.parameters(), lr=LR)
    for step in range(NLL_STEPS):
        loss = model.training_step(x[step * BATCH : (step + 1) * BATCH], step)["loss"]
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return model.eval(), x[-NLL_IMAGES:]


def compare(data: ImageSet) -> dict[str, Any]:
    """Medians of the rounds; ratios to `plain` and `pythae`, differences to `fused` and `flushed` within a round."""
    x = data.train_dataloader().tensors[0]
    loops: dict[str, Callable[[], dict[str, float]]] = {
        "plain": lambda: plain(x, lambda parameters: torch.optim.Adam(parameters, lr=LR)),
        "fused": lambda: plain(x, lambda parameters: build("torch.Adam", parameters, lr=LR)),
        "flushed": lambda: flushed(x),
        "tracked": lambda: tracked(data),
    }
    if find_spec("pythae") is not None:
        loops["pythae"] = lambda: pythae(x)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in loops}
    for _ in range(ROUNDS):
        for name, loop in loops.items():
            rounds[name].append(loop())
    return {name: _row(rows, rounds) for name, rows in rounds.items()}


def _row(rows: list[dict[str, float]], rounds: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    found = {}
    for key in ("thread_ms", "process_ms"):
        found[key] = median([row[key] for row in rows])
        found[f"{key}_over_plain"] = median([row[key] / p[key] for row, p in zip(rows, rounds["plain"], strict=True)])
        for other in ("fused", "flushed"):
            found[f"{key}_more_than_{other}"] = median(
                [row[key] - o[key] for row, o in zip(rows, rounds[other], strict=True)]
            )
        if "pythae" in rounds:
            found[f"{key}_over_pythae"] = median(
                [row[key] / p[key] for row, p in zip(rows, rounds["pythae"], strict=True)]
            )
    return found


def enlarged(folder: Path) -> Images:
    """60,000 images as large as MNIST's: scikit-learn's digits, three times as wide, moved by up to two pixels."""
    digits = torch.from_numpy(load_digits().images).mul(255 / 16).round().byte()
    digits = digits.repeat_interleave(3, 1).repeat_interleave(3, 2)
    digits = F.pad(digits, (2, 2, 2, 2))
    generator = draw(0, "benchmark")
    rows = torch.randint(len(digits), (60_100,), generator=generator)
    shifts = torch.randint(-2, 3, (60_100, 2), generator=generator)
    pairs = zip(rows, shifts.tolist(), strict=True)
    pixels = torch.stack([digits[row].roll(tuple(shift), (0, 1)) for row, shift in pairs]).numpy()
    labels = np.zeros(len(pixels), np.int64)
    path = folder / "enlarged.npz"
    np.savez(path, x_train=pixels[100:], y_train=labels[100:], x_test=pixels[:100], y_test=labels[:100])
    return Images(str(path), batch_size=BATCH)


def _shape(x: Tensor) -> Shape:
    return (x.shape[1], x.shape[2], x.shape[3])


def main() -> None:
    warnings.simplefilter("ignore")
    quiet()
    torch.set_num_threads(1)
    has_pythae = find_spec("pythae") is not None
    with tempfile.TemporaryDirectory() as folder:
        images = enlarged(Path(folder))
    rows = {"784 pixels": compare(images)}
    rows["64 pixels (digits)"] = compare(Digits(batch_size=BATCH))
    result = {
        "machine": machine(),
        "versions": versions("torch", "pytorch-lightning", "mlflow", *(["pythae"] if has_pythae else [])),
        "setting": {"rounds": ROUNDS, "steps": LAST - FIRST, "batch": BATCH, "threads": 1},
        "targets": TARGETS,
        "rows": rows,
        "nll": likelihoods(images) if has_pythae else {},
        "skipped": {} if has_pythae else {"pythae": "not installed: pip install -r benchmarks/requirements.txt"},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
