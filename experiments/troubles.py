"""What a module says of a run that has stopped learning: a tag of the run, and a line on the console."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl

from experiments.logger import Logger

TAG = "taolu.trouble"


class Troubles(pl.Callback):
    """Records `trouble`, an attribute in which a module says why it learns nothing more, None while it does.

    Args:
        logger: of the run.
        say: prints one line.
    """

    def __init__(self, logger: Logger, say: Callable[[str], None]) -> None:
        self.logger = logger
        self.say = say
        self._said: str | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says it once."""
        trouble: str | None = getattr(pl_module, "trouble", None)
        if trouble is not None and trouble != self._said:
            self._said = trouble
            self.logger.tag(TAG, trouble)
            self.say(f"trouble: {trouble}")
