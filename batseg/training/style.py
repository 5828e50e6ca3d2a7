"""Style transfer: the CycleGAN of label maps as LightningModule, and pictures of its progress."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pytorch_lightning as lightning
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from batseg.networks.cyclegan import (
    HistoryPool,
    StatisticsLoss,
    cycle_loss,
    fraction_loss,
    keep_loss,
    least_squares,
    one_hot,
    soften,
    straight_through,
)
from batseg.report.figures import show_labels
from batseg.training.callbacks import FINAL
from batseg.training.fit import load_weights
from batseg.volumes import InputError, replacing


def linear_decay(step: int, steps: int, constant_share: float) -> float:
    """Factor of the learning rate: 1 for the first share of the steps, then linearly to 0 (published: share 1/2)."""
    constant = constant_share * steps
    return min(1.0, max(0.0, (steps - step) / max(steps - constant, 1.0)))


class StyleModule(lightning.LightningModule):
    """Basic labels to the style of templates and back; two generators, two critics, two optimizers.

    A batch is {"basic": labels, "templates": labels}, (batch, y, x) or (batch, z, y, x). `weights` scales the losses
    cycle, identity, fraction, keep and statistics against the adversarial one. Critics see maps blurred by `blur`
    voxels, with white noise `critic_noise`; generated maps are one-hot if `discrete`, else probabilities. `pool` is the
    length of the history, `constant_share` that of the constant learning rate.
    """

    def __init__(
        self,
        generator: nn.Module,
        back_generator: nn.Module,
        critic: nn.Module,
        back_critic: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        patch: Sequence[int],
        weights: Mapping[str, float],
        pool: int = 50,
        blur: float = 0.7,
        critic_noise: float = 0.05,
        constant_share: float = 0.5,
        discrete: bool = True,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.back_generator = generator, back_generator
        self.critic, self.back_critic = critic, back_critic
        self.optimizer, self.weights = optimizer, dict(weights)
        self.blur, self.critic_noise, self.constant_share = blur, critic_noise, constant_share
        self.discrete = discrete
        shape = (generator.phases, *(side for side in patch if side > 1))
        dimensions = len(shape) - 1
        self.statistics, self.back_statistics = StatisticsLoss(dimensions), StatisticsLoss(dimensions)
        self.pool, self.back_pool = HistoryPool(pool, shape), HistoryPool(pool, shape)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        generators = [*self.generator.parameters(), *self.back_generator.parameters()]
        critics = [*self.critic.parameters(), *self.back_critic.parameters()]
        return [self.optimizer(generators), self.optimizer(critics)]

    def training_step(self, batch: Mapping[str, Tensor], index: int) -> None:
        generators, critics = self.optimizers()
        self._set_rates(generators, critics)
        self.toggle_optimizer(generators)  # critics are judges here: no gradients for them
        losses, styled, plain = self.generator_losses(batch)
        generators.zero_grad()
        self.manual_backward(losses["total"])
        generators.step()
        self.untoggle_optimizer(generators)
        self.toggle_optimizer(critics)
        losses["critics"] = self.critic_loss(batch, styled, plain)
        critics.zero_grad()
        self.manual_backward(losses["critics"])
        critics.step()
        self.untoggle_optimizer(critics)
        if (self.trainer.global_step // 2) % self.trainer.log_every_n_steps == 0:  # the steps that loggers write
            self.log_dict({f"style/{name}": value.detach() for name, value in losses.items()})

    def generator_losses(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Every loss of the generators with their sum "total", and both restyled maps (one-hot)."""
        basic, templates = batch["basic"], batch["templates"]
        maps, template_maps = one_hot(basic), one_hot(templates)
        styled_logits, plain_logits = self.generator(maps), self.back_generator(template_maps)
        styled, plain = self._maps(styled_logits), self._maps(plain_logits)
        losses = {
            "adversarial": least_squares(self.critic(self._shown(styled)), 1.0)
            + least_squares(self.back_critic(self._shown(plain)), 1.0),
            "cycle": cycle_loss(self.back_generator(styled), basic) + cycle_loss(self.generator(plain), templates),
            "fraction": fraction_loss(styled, maps) + fraction_loss(plain, template_maps),
            "keep": keep_loss(styled_logits, basic) + keep_loss(plain_logits, templates),
        }
        if self.weights["statistics"] > 0:
            losses["statistics"] = self.statistics(styled, template_maps) + self.back_statistics(plain, maps)
        if self.weights["identity"] > 0:
            losses["identity"] = cycle_loss(self.generator(template_maps), templates) + cycle_loss(
                self.back_generator(maps), basic
            )
        weighted = sum(weight * losses[name] for name, weight in self.weights.items() if name in losses)
        return {**losses, "total": losses["adversarial"] + weighted}, styled, plain

    def critic_loss(self, batch: Mapping[str, Tensor], styled: Tensor, plain: Tensor) -> Tensor:
        """Loss of both critics (halved, as published): templates to 1, restyled maps from the history to 0."""
        loss = torch.zeros((), device=styled.device)
        sides = (
            (self.critic, batch["templates"], self.pool, styled),
            (self.back_critic, batch["basic"], self.back_pool, plain),
        )
        for critic, real, pool, generated in sides:
            loss = loss + 0.5 * least_squares(critic(self._shown(one_hot(real))), 1.0)
            loss = loss + 0.5 * least_squares(critic(self._shown(pool.exchange(generated))), 0.0)
        return loss

    def _maps(self, logits: Tensor) -> Tensor:
        return straight_through(logits) if self.discrete else logits.softmax(dim=1)

    def _shown(self, maps: Tensor) -> Tensor:
        return soften(maps, self.blur, self.critic_noise)

    def _set_rates(self, *optimizers) -> None:
        steps = self.trainer.max_steps // 2  # both optimizers count
        factor = linear_decay(self.trainer.global_step // 2, steps, self.constant_share) if steps > 0 else 1.0
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group.setdefault("initial_lr", group["lr"])


def load_generator(folder: str | Path) -> nn.Module:
    """The trained generator (basic to template) of a finished style fit, runs/fits/style-..."""
    folder = Path(folder)
    for name in ("config.yaml", FINAL):
        if not (folder / name).exists():
            raise InputError(f"{folder}: no {name}; name the folder of a finished style fit, runs/fits/style-...")
    settings = OmegaConf.load(folder / "config.yaml")
    return load_weights(instantiate(settings.module.generator), folder, prefix="generator.")


class StylePictures(lightning.Callback):
    """Writes a picture every so many batches: basic, styled, template, template sent back (first of the batch)."""

    def __init__(self, every: int = 100):
        self.every = every

    @torch.no_grad()
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        step = trainer.global_step // 2
        if step % self.every or not trainer.is_global_zero:
            return
        with torch.random.fork_rng():
            styled = module.generator(one_hot(batch["basic"][:1])).argmax(dim=1)[0]
            plain = module.back_generator(one_hot(batch["templates"][:1])).argmax(dim=1)[0]
        panels = [batch["basic"][0], styled, batch["templates"][0], plain]
        slices = [panel[len(panel) // 2] if panel.ndim == 3 else panel for panel in panels]
        path = Path(trainer.default_root_dir) / "pictures" / f"step{step:06d}.png"
        figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
        for panel, piece, title in zip(axes, slices, ("basic", "styled", "template", "template sent back")):
            show_labels(panel, piece.cpu().numpy(), title)
        with replacing(path) as draft:
            figure.savefig(draft)
        plt.close(figure)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("style/basic, styled, template, sent back", [str(path)], step=trainer.global_step)
