"""A user's module that takes an optimizer for its critic, as an adversarial model does."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_modules.optimizers import build


class TwoNets(pl.LightningModule):
    """Two linear maps, each with an optimizer of its own.

    Args:
        scale: of the loss.
    """

    def __init__(
        self,
        scale: float = 1.0,
        optimizer: dict[str, Any] | None = None,
        critic_optimizer: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.scale, self.settings = scale, (optimizer or {}, critic_optimizer or {})
        self.nets = nn.ModuleList([nn.Linear(64, 1), nn.Linear(64, 1)])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = torch.zeros(())
        for net, optimizer in zip(self.nets, self.optimizers(), strict=True):
            loss = self.scale * net(batch[0].flatten(1)).square().mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss.detach()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        pairs = zip(self.nets, self.settings, strict=True)
        return [
            build(settings["class"], net.parameters(), **{k: v for k, v in settings.items() if k != "class"})
            for net, settings in pairs
        ]
