"""Computes how good what a model generates is: samples and likelihoods in, numbers by name out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.features import Extractor
from experiments.trainer import Quality
from lightning_modules import metrics
from lightning_modules.data.image_set import ImageSet
from lightning_modules.data.sampling import draw

PRDC = ("precision", "recall", "density", "coverage")
NEIGHBOURS = 5  # of prdc; there must be more images
# Recorded beside a figure: its error, and the sizes of the samples, on which FID depends.
BESIDE = {"kid": ("kid_se",), "nll": ("nll_se", "ess_fraction", "n_nll")}
SIZES = ("n_real", "n_fake")
SAMPLED_AT_ONCE, NLL_AT_ONCE = 500, 250  # images, between two looks for a signal

Rows = Callable[[int], tuple[Tensor, ...]]  # gives at most so many held-out images, with labels where there are some


def names_of(quality: str) -> tuple[str, ...]:
    """The metrics that a quality is recorded as.

    >>> names_of("kid")
    ('val/kid', 'val/kid_se', 'val/n_real', 'val/n_fake')
    """
    sizes = () if quality == "nll" else SIZES
    return tuple(f"val/{name}" for name in (quality, *BESIDE.get(quality, ()), *sizes))


@dataclass
class Judge:
    """Computes qualities; those of the held-out images it remembers.

    Args:
        names: of the qualities.
        options: sizes of the samples.
        extractor: of features; None where no quality needs them, and on other ranks than zero.
        seed: of all draws.
        check: raises when a signal has come.
        say: prints one line.
    """

    names: tuple[str, ...]
    options: Quality
    extractor: Extractor | None
    seed: int
    check: Callable[[], None]
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        """Nothing is known or said yet."""
        self._real_features: Tensor | None = None
        self._said: set[str] = set()

    def values(
        self,
        module: pl.LightningModule,
        rows: Rows,
        convert: Callable[[Any], Any] = lambda batch: batch,
    ) -> dict[str, float]:
        """Every quality by name, with errors and sizes of samples; without those that raised, if nobody named any.

        Args:
            module: in evaluation mode.
            rows: gives at most so many held-out images, with their labels where there are some.
            convert: gives tensors the module's precision.

        Raises what the module, or a quality asked for by name, raises.
        """
        found: dict[str, float] = {}
        for work in (self._by_samples, self._likelihood):
            try:
                found |= work(module, rows, convert)
            except (RuntimeError, ValueError, TypeError) as error:
                if self.options.metrics is not None:
                    raise
                # A run that nobody asked for its quality goes on without.
                why = f"{type(error).__name__}: {' '.join(str(error).split())}"
                self._say(f"quality left out: {why}; choose with --trainer.quality.metrics, [] computes none")
        return found

    def _by_samples(self, module: Any, rows: Rows, convert: Callable[[Any], Any]) -> dict[str, float]:
        names = [name for name in self.names if name != "nll"]
        if not names:
            return {}
        real = rows(self.options.n_samples)[0]
        fake = self._samples(module, real)
        found = {"n_real": float(len(real)), "n_fake": float(len(fake))}
        if not bool(fake.isfinite().all()):
            self._say(f"quality: {type(module).__name__}.sample gave NaN or infinite pixels")
            return found | {key: math.nan for name in names for key in (name, *BESIDE.get(name, ()))}
        if "sliced_wasserstein" in names:
            found["sliced_wasserstein"] = metrics.sliced_wasserstein(real.flatten(1), fake.flatten(1), seed=self.seed)
        if self.extractor is not None:
            found |= self._by_features(names, real, fake, module.device)
        return found

    def _samples(self, module: Any, real: Tensor) -> Tensor:
        """As many images as the real ones, on the CPU in float32.

        Raises ValueError where they are of another shape.
        """
        parts = []
        for start in range(0, len(real), SAMPLED_AT_ONCE):
            self.check()
            n = min(SAMPLED_AT_ONCE, len(real) - start)
            seed = int(torch.randint(2**31, (), generator=draw(self.seed, "quality", start)))
            part = module.sample(n, seed=seed)
            if not isinstance(part, Tensor) or part.shape != (n, *real.shape[1:]):
                what = f"shape {tuple(part.shape)}" if isinstance(part, Tensor) else f"a {type(part).__name__}"
                raise ValueError(f"sample({n}, seed) gave {what}: must be {(n, *real.shape[1:])}, as the data are")
            parts.append(part.float().cpu())
        return torch.cat(parts)

    def _by_features(self, names: Sequence[str], real: Tensor, fake: Tensor, device: torch.device) -> dict[str, float]:
        assert self.extractor is not None
        if self._real_features is None or len(self._real_features) != len(real):
            self._real_features = self.extractor(real, self.check, device)[0]
        of_real = self._real_features
        of_fake, probabilities = self.extractor(fake, self.check, device)
        found: dict[str, float] = {}
        if "fid" in names:
            found["fid"] = metrics.fid(of_real, of_fake)
        self.check()
        if "kid" in names:
            found["kid"], found["kid_se"] = metrics.kid(of_real, of_fake, self.options.kid_subset, self.seed)
        if "is" in names and probabilities is not None:
            found["is"] = metrics.inception_score(probabilities)
        elif "is" in names:
            self._say("quality without is: the extractor tells no classes")
        self.check()
        if {*names} & {*PRDC}:
            overlap = metrics.prdc(of_real, of_fake, k_density=NEIGHBOURS)._asdict()
            found |= {name: value for name, value in overlap.items() if name in names}
        return found

    def _likelihood(self, module: Any, rows: Rows, convert: Callable[[Any], Any]) -> dict[str, float]:
        if "nll" not in self.names:
            return {}
        batch = rows(self.options.nll_images)
        parts = []
        for start in range(0, len(batch[0]), NLL_AT_ONCE):
            self.check()
            part = tuple(convert(tensor[start : start + NLL_AT_ONCE].to(module.device)) for tensor in batch)
            given = part if len(part) > 1 else part[0]
            parts.append(module.nll(given, self.options.nll_samples, seed=self.seed, first_row=start))
        if not all(getattr(part, "is_normalised", True) for part in parts):
            self._say("val/nll is a cross-entropy, no likelihood: grey pixels under a distribution of two values")
        nll = torch.cat([part.nll for part in parts]).double().cpu()
        ess = torch.cat([part.ess_fraction for part in parts]).double().cpu()
        # over the images; what the draws add is part of the spread
        error = float(nll.std() / math.sqrt(len(nll))) if len(nll) > 1 else math.nan
        return {
            "nll": float(nll.mean()),
            "nll_se": error,
            "ess_fraction": float(ess.mean()),
            "n_nll": float(len(nll)),
        }

    def _say(self, line: str) -> None:
        """Says it once."""
        if line not in self._said:
            self._said.add(line)
            self.say(line)


def held_out(trainer: pl.Trainer, data: Any, most: int) -> tuple[Tensor, ...]:
    """The first held-out rows, at most so many: images, and labels where there are some.

    Of data in memory they are the whole set's; of a loader this process's share.

    Raises ValueError where there are none.
    """
    if isinstance(data, ImageSet):
        return tuple(tensor[:most] for tensor in data.rows("validation"))
    loader: Any = trainer.val_dataloaders
    batches: list[tuple[Tensor, ...]] = []
    for batch in (loader[0] if isinstance(loader, list) and loader else loader) or ():
        parts = (batch,) if isinstance(batch, Tensor) else tuple(batch) if isinstance(batch, list | tuple) else ()
        if not parts or not all(isinstance(part, Tensor) and part.ndim for part in parts):
            raise ValueError(f"validation batches are a {type(batch).__name__}: must be images, or images with labels")
        batches.append(parts)
        if sum(len(each[0]) for each in batches) >= most:
            break
    if not batches:
        raise ValueError("there are no validation batches to compare with")
    return tuple(torch.cat(column)[:most] for column in zip(*batches, strict=True))
