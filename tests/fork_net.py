"""Classifiers that record what their optimizer is set to, and which rows they see, at every step."""

from typing import Any

import torch

from lightning_modules.classifier import Classifier


class ForkNet(Classifier):
    """A classifier whose steps tell the settings in force: those of the first group, before the update."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        group = self.trainer.optimizers[0].param_groups[0]
        names = ("lr", "weight_decay", "beta", "momentum")
        told: dict[str, float] = {str(key): float(group[key]) for key in names if key in group}
        if "betas" in group:
            told["beta1"] = float(group["betas"][0])
        found: dict[str, Any] = super().training_step(batch, batch_idx)
        return {**found, **told, "rows": float(len(batch[0])), "pixels": batch[0].double().sum()}


class OwnRates(ForkNet):
    """Builds its own optimizer, with a schedule of torch's.

    Args:
        lr: of the optimizer.
        kind: of schedule.
    """

    def __init__(
        self, lr: float = 0.1, kind: str = "none", shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0
    ) -> None:
        super().__init__(network="softmax", shape=shape, seed=seed)
        self.lr, self.kind = lr, kind

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", torch.tensor(1.0))  # nothing improves

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), self.lr)
        if self.kind == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"}}
        if self.kind == "step":
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]
        return optimizer
