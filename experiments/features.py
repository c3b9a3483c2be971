"""The extractor that quality is judged by: a small classifier trained once on the same data, or a file of the user's.

Shapes: B images of C channels, H x W pixels; D features; K classes.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pytorch_lightning.utilities.seed import isolate_rng
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.errors import ConfigError
from experiments.provenance import share_origin
from experiments.store.files import atomic_path
from experiments.store.location import Store
from experiments.store.tables import Selection, read_tables
from experiments.store.write import RunWriter, create_run
from lightning_modules.data.image_set import ImageSet
from lightning_modules.data.sampling import draw, epoch_order
from lightning_modules.parts import load_class

EXPERIMENT, KIND = "_features", "features"
FILE = "extractor.safetensors"
RECIPE = "cnn-64-1"  # tag taolu.recipe: another network, or another training of it, has another name
N_FEATURES = 64
FILTERS = (24, 48, 64)
LARGEST_SIDE = 32  # of an image as the network sees it: larger ones are averaged down
BATCH, LR, EPOCHS = 64, 3e-3, 3
FEWEST_STEPS, MOST_STEPS = 200, 2000
AT_ONCE = 500  # images through a network

Say = Callable[[str], None]
Check = Callable[[], None]  # raises when a signal has come


class FeatureNetwork(nn.Module):
    """A classifier of three convolutions whose last hidden layer is what images are compared by.

    Args:
        shape: C, H, W.
        n_classes: K.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        channels, *sides = shape
        height, width = (min(side, LARGEST_SIDE) for side in sides)
        layers: list[nn.Module] = []
        for filters in FILTERS:
            stride = 2 if min(height, width) > 5 else 1  # to about 4 x 4, from 8 x 8 as from 32 x 32
            layers += [nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
            channels, height, width = filters, -(-height // stride), -(-width // stride)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, N_FEATURES))
        self.head = nn.Linear(N_FEATURES, n_classes)
        self.register_buffer("mean", torch.zeros(N_FEATURES))
        self.register_buffer("scale", torch.ones(N_FEATURES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, D), of mean 0 and variance 1 each over the training images, and logits (B, K).

        So a Frechet distance has a scale: D is that of images all alike, in the middle.
        """
        if max(x.shape[2:]) > LARGEST_SIDE:
            height, width = (min(side, LARGEST_SIDE) for side in x.shape[2:])
            x = F.adaptive_avg_pool2d(x, (height, width))
        hidden = self.body(x.contiguous(memory_format=torch.channels_last))  # 1.2 times as fast on a CPU
        return (hidden - self.mean) / self.scale, self.head(hidden.relu())


@dataclass(frozen=True)
class Extractor:
    """A network that tells features, and what is recorded of it beside the numbers.

    Args:
        network: images to features, or to a pair of features and logits.
        facts: run_id or file, digest (of the data it was trained on, or of the file), accuracy and recipe where known.
        n_features: D; None where nobody has tried it.
        tells_classes: whether it gives logits; as far as known.
    """

    network: nn.Module = field(repr=False)
    facts: Mapping[str, Any]
    n_features: int | None = N_FEATURES
    tells_classes: bool = True

    def __call__(self, images: Tensor, check: Check, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Features (B, D) and class probabilities (B, K), on the CPU; None where the network tells no classes.

        Args:
            images: (B, C, H, W).
            check: called between some images and the next.
            device: to compute on.
        """
        self.network.to(device)
        features, logits = [], []
        with torch.no_grad(), torch.autocast(device.type, enabled=False):  # whatever the run's own precision
            for part in torch.split(images, AT_ONCE):
                check()
                found = self.network(part.to(device))
                pair = found if isinstance(found, tuple | list) else (found, None)
                features.append(pair[0].float().cpu())
                logits.append(None if pair[1] is None else pair[1].float().cpu())
        told = [each for each in logits if each is not None]
        return torch.cat(features), torch.cat(told).softmax(1) if told else None


# ---- trained here ---------------------------------------------------------------------------------------------------


def trained_on(data: ImageSet, writer: RunWriter, say: Say, check: Check) -> Extractor:
    """The store's extractor for such data; the first process that asks trains it, others wait for that one.

    Args:
        data: labelled images.
        writer: of the run that asks: its store, and its code and machine, are the extractor's.
        say: prints one line.
        check: called often.
    """
    store = writer.store
    with _locked(store, data.digest, say, check):
        for row in read_tables(store, Selection(kinds=(KIND,)), ()).runs:
            known = kept(store, row.run_id, data.shape) if row.status == "FINISHED" else None
            if known is not None and known.facts["digest"] == data.digest and known.facts["recipe"] == RECIPE:
                return known
        say(f"trains an extractor on {data.name}, once for this store: {data.n_train} images, {data.n_classes} classes")
        started, cpu = time.perf_counter(), time.process_time()
        network, losses = train(data.rows("train"), data.shape, data.n_classes, check)
        accuracy = _accuracy(network, data.rows("validation"), check)
        seconds = {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        run_id = _record(data, writer, network, losses, accuracy, seconds)
        say(f"extractor {run_id[:8]}: accuracy {accuracy:.3f} after {seconds['wall']:.1f} s")
        return Extractor(network, _facts(run_id, data.digest, accuracy))


def kept(store: Store, run_id: str, shape: tuple[int, ...]) -> Extractor | None:
    """The extractor that a run of kind features keeps; None where its file is gone, or it takes images of other shape.

    Args:
        store: of the run.
        run_id: of the run; it may not exist.
        shape: C, H, W of the images to come.
    """
    path = store.run_folder(run_id) / FILE
    try:
        with safe_open(path, "pt") as file:
            said: dict[str, str] = file.metadata() or {}
        state = load_file(path)
        if tuple(json.loads(said["shape"])) != tuple(shape):
            return None
        with torch.random.fork_rng(devices=[]):  # layers draw when they are made
            network = FeatureNetwork(json.loads(said["shape"]), json.loads(said["n_classes"]))
        network.load_state_dict(state)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError):  # another one is trained in its place
        return None
    facts = _facts(run_id, said["digest"], json.loads(said["accuracy"]), said["recipe"])
    return Extractor(_laid_out(network).eval(), facts)


def train(
    rows: tuple[Tensor, Tensor], shape: tuple[int, int, int], n_classes: int, check: Check
) -> tuple[FeatureNetwork, list[float]]:
    """The network in evaluation mode, and the loss of each step: three passes, at least 200 steps, at most 2,000.

    A function of its arguments: no generator but its own is drawn from, and one thread computes.

    Args:
        rows: images (N, C, H, W) and labels int64 (N,).
        shape: C, H, W.
        n_classes: K.
        check: called at each step.
    """
    x, y = rows
    with torch.random.fork_rng(devices=[]):  # torch's layers draw from the global generator alone
        torch.default_generator.set_state(draw(0, "features/weights").get_state())
        network = FeatureNetwork(shape, n_classes)
    _laid_out(network)
    size = min(BATCH, len(x))
    per_epoch = len(x) // size
    n_steps = min(max(EPOCHS * per_epoch, FEWEST_STEPS), MOST_STEPS)
    optimizer = torch.optim.Adam(network.parameters(), lr=LR, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=n_steps)
    losses = []
    with _one_thread():
        for step in range(n_steps):
            check()
            epoch, batch = divmod(step, per_epoch)
            chosen = epoch_order(0, epoch, len(x))[batch * size : (batch + 1) * size]
            loss = F.cross_entropy(network(x[chosen])[1], y[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        network.eval()
        with torch.no_grad():
            hidden = torch.cat([network(part)[0] for part in torch.split(x, AT_ONCE)])
    network.mean.copy_(hidden.mean(0))
    network.scale.copy_(hidden.std(0).clamp(min=1e-6))  # a unit that never moves
    return network, losses


def _laid_out(network: FeatureNetwork) -> FeatureNetwork:
    """The network with its kernels as its images are; another layout would give other last digits."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Layers this small gain nothing from a second one, and on a busy machine two took 24 times as long as one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _accuracy(network: FeatureNetwork, rows: tuple[Tensor, Tensor], check: Check) -> float:
    x, y = rows
    _, probabilities = Extractor(network, {})(x, check, torch.device("cpu"))
    assert probabilities is not None
    return float((probabilities.argmax(1) == y).double().mean())


def _facts(run_id: str, digest: str, accuracy: float, recipe: str = RECIPE) -> dict[str, Any]:
    return {"run_id": run_id, "digest": digest, "accuracy": accuracy, "recipe": recipe}


@contextmanager
def _locked(store: Store, digest: str, say: Say, check: Check) -> Iterator[None]:
    """The right to look for the extractor of such data, or to train it; a signal ends the waiting."""
    lock = FileLock(store.folder / f".features-{digest[:16]}.lock")
    is_said = False
    while True:
        check()
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            if not is_said:
                say("another process trains the extractor; waits for it")
            is_said = True
    try:
        yield
    finally:
        lock.release()


def _record(
    data: ImageSet,
    asker: RunWriter,
    network: FeatureNetwork,
    losses: list[float],
    accuracy: float,
    seconds: Mapping[str, float],
) -> str:
    """The id of the extractor's run, written when it is trained: nothing stays RUNNING when this process is killed."""
    tags = {"taolu.kind": KIND, "taolu.config": EXPERIMENT, "taolu.recipe": RECIPE}
    tags |= {"taolu.seed": "0", "taolu.threads": "1"}
    writer = create_run(asker.store, EXPERIMENT, f"{data.name}-{data.digest[:8]}", tags, client=asker.client)
    try:
        share_origin(asker.folder, writer.folder)
        facts = {"shape": data.shape, "n_classes": data.n_classes, "n_train": data.n_train, "n_val": data.n_val}
        writer.dataset(data.name, data.digest, data.source, json.dumps(facts))
        writer.params({"recipe": RECIPE, "steps": len(losses), "batch_size": BATCH, "lr": LR, **facts})
        now, last = int(time.time() * 1000), len(losses) - 1
        writer.metrics(("train/loss", loss, now, step) for step, loss in enumerate(losses))
        spent = [(f"time/{name}_seconds", value, now, last) for name, value in seconds.items()]
        writer.metrics([("val/accuracy", accuracy, now, last), *spent])
        said = {key: json.dumps(facts[key]) for key in ("shape", "n_classes")}
        said |= {"digest": data.digest, "accuracy": json.dumps(accuracy), "recipe": RECIPE}
        with atomic_path(writer.folder / FILE) as part:
            save_file({key: value.contiguous() for key, value in network.state_dict().items()}, part, said)
        writer.finish("FINISHED")
    except BaseException:
        writer.finish("FAILED")
        raise
    return writer.run_id


# ---- the user's own -------------------------------------------------------------------------------------------------


def from_file(spec: str, images: Tensor | None) -> Extractor:
    """The user's own extractor, tried on two images.

    Args:
        spec: `FILE.pt`, TorchScript; or `FILE.py:Class`, a torch.nn.Module built without arguments.
        images: (2, C, H, W), as they will come; None = it is not tried.

    Raises ConfigError in one line for what cannot be loaded, or does not tell features.
    """
    where = f"trainer.quality.extractor = {spec}"
    place = spec.rpartition(":")[0]
    path = Path(place if place.endswith(".py") else spec).expanduser()
    if not path.is_file():
        raise ConfigError(f"{where}: no such file; give FILE.pt (TorchScript) or FILE.py:Class, null trains one")
    try:
        with isolate_rng():  # layers draw when they are made
            network = load_class(spec, {})() if place.endswith(".py") else _scripted(path)
    except (RuntimeError, ValueError, TypeError, ImportError, OSError) as error:
        raise ConfigError(f"{where}: cannot be loaded ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{where}: is a {type(network).__name__}; must be a torch.nn.Module")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    extractor = Extractor(network.eval(), {"file": str(path), "digest": digest, "accuracy": None}, None)
    if images is None:
        return extractor
    try:
        features, probabilities = extractor(images, lambda: None, torch.device("cpu"))
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        text = " ".join(str(error).split())[:200]
        raise ConfigError(f"{where}: does not take images of {tuple(images.shape[1:])} ({text})") from error
    if features.ndim != 2 or len(features) != len(images):
        raise ConfigError(f"{where}: maps {len(images)} images to {tuple(features.shape)}; must be (images, features)")
    return replace(extractor, n_features=features.shape[1], tells_classes=probabilities is not None)


def _scripted(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, in which such files are handed on
        network: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return network
