"""At a batch border: whether the run is to end there, of which all processes that train together say the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pytorch_lightning import Trainer

from experiments.signals import Signals

ASK_SECONDS = 0.1  # between two questions to the other processes; one took 0.5 ms by gloo on a busy machine
MOST_BORDERS = 100  # between two questions, however short a step is


@dataclass(frozen=True)
class Told:
    """What there is to do at a border.

    Args:
        signum: the signal that ends the run here; None = none has come.
        is_late: whether the run's time is over.
    """

    signum: int | None = None
    is_late: bool = False


class Border:
    """Asks this process, or all that train together, at batch borders.

    A process that left by itself would leave the others waiting for it, so a signal that one of them gets, and the
    clock of each, are shared by one small all-reduce every 0.1 s or so. How many borders that is, is part of the
    answer: all processes must ask at the same ones.

    Args:
        signals: of this process.
        is_late: whether this process finds that the run's time is over.
    """

    def __init__(self, signals: Signals, is_late: Callable[[], bool]) -> None:
        self.signals = signals
        self.is_late = is_late
        self._group: torch.distributed.ProcessGroup | None = None
        self._wait = 1  # borders from one question to the next
        self._passed = 0
        self._asked = time.monotonic()

    def ask(self, trainer: Trainer, *, now: bool = False) -> Told:
        """What is to be done here; in a group all processes call this at the same borders.

        Args:
            trainer: of the run.
            now: whether the others are asked here in any case.
        """
        if trainer.world_size == 1:
            return Told(self.signals.received, self.is_late())
        self._passed += 1
        if self._passed < self._wait and not now:
            return Told()
        if self._group is None:  # on the CPU: a question to a GPU would wait for everything it has still to do
            self._group = torch.distributed.new_group(backend="gloo")
        spent = (time.monotonic() - self._asked) / self._passed
        wait = min(max(int(ASK_SECONDS / max(spent, 1e-9)), 1), MOST_BORDERS)
        shared = torch.tensor([self.signals.received or 0, self.is_late(), wait])
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX, self._group)
        signum, is_late, self._wait = shared.tolist()
        self._passed, self._asked = 0, time.monotonic()
        return Told(signum or None, bool(is_late))
