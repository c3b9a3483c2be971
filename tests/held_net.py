"""A module whose training stands still while a file exists, so that a kill can meet it there."""

import time
from pathlib import Path
from typing import Any

from torch import Tensor

from tests.sweep_net import SweepNet


class HeldNet(SweepNet):
    """A linear classifier of digits.

    Args:
        lr: of gradient descent.
        hold: the file; another, beside it, gets a line at each step.
    """

    def __init__(self, lr: float = 0.1, hold: str = "") -> None:
        super().__init__(lr)
        self.hold = Path(hold)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        with self.hold.with_suffix(".diary").open("a") as file:
            file.write("held\n")
        while self.hold.exists():
            time.sleep(0.02)
        return super().training_step(batch, batch_idx)
