"""SegmentationModule: joins a network, a loss and an optimizer; it holds no formula."""

from collections.abc import Callable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from batseg.evaluation import confusion_matrix, dice, mean_dice
from batseg.networks.losses import deeply_supervised
from batseg.phases import PHASES

Batch = dict[str, Tensor]


class SegmentationModule(pl.LightningModule):
    """Learns labels from images.

    Batches are {"image": float32 (batch, channel, thin, a, b), "labels": int64 (batch, thin, a, b), 255 = left out}.

    Parameters
    ----------
    network : returns logits (batch, phase, thin, a, b); with deep supervision, several of them while training.
    loss : of (logits, labels). If it has `fit_to(counts)`, it is given the phase fractions of the learning data.
    optimizer, scheduler : factories, of parameters and of the optimizer; the scheduler moves on every step.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None = None,
    ):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last_3d)  # several times faster on a CPU
        self.loss = loss
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.confusion: Tensor | None = None

    def setup(self, stage: str) -> None:
        data = self.trainer.datamodule
        if stage == "fit" and hasattr(self.loss, "fit_to") and hasattr(data, "phase_fractions"):
            self.loss.fit_to(data.phase_fractions)

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image.contiguous(memory_format=torch.channels_last_3d))

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        loss = deeply_supervised(self.loss, self(batch["image"]), batch["labels"])
        self.log("train/loss", loss, batch_size=len(batch["image"]), sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.confusion = None

    def validation_step(self, batch: Batch, _index: int) -> None:
        logits = self(batch["image"])
        self.log("validation/loss", self.loss(logits, batch["labels"]), batch_size=len(batch["image"]), sync_dist=True)
        counts = confusion_matrix(batch["labels"], logits.argmax(dim=1))
        self.confusion = counts if self.confusion is None else self.confusion + counts

    def on_validation_epoch_end(self) -> None:
        if self.confusion is None:
            return
        confusion = self.all_gather(self.confusion)
        confusion = confusion.reshape(-1, *self.confusion.shape).sum(dim=0).cpu()
        self.log("validation/dice", mean_dice(confusion))
        self.log_dict({f"validation/dice_{phase}": value for phase, value in zip(PHASES, dice(confusion))})

    def configure_optimizers(self) -> dict:
        optimizer = self.make_optimizer(self.network.parameters())
        if self.make_scheduler is None:
            return {"optimizer": optimizer}
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.make_scheduler(optimizer), "interval": "step"},
        }
