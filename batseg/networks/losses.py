"""Losses on logits (batch, phase, z, y, x) and labels (batch, z, y, x); label 255 is left out of every mean.

Each loss is a pure function and a small nn.Module that holds its settings and the class weights (a buffer, so that
they travel with the checkpoint). Source: paper, Results (which does not name the loss); ACDC code (weighted
cross-entropy, soft Dice); Milletari et al. 2016 (Dice).
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from batseg.phases import NOT_LABELLED


def class_weights(fractions: Sequence[float], rule: str | Sequence[float] = "inverse_sqrt") -> Tensor:
    """One weight per phase from phase fractions (or voxel counts), with mean 1 over the phases that occur.

    rule : 'none' (all 1), 'inverse_sqrt' (1 / sqrt(frequency)), 'inverse' (1 / frequency) or the weights themselves.
    A phase with no voxel gets weight 0.
    """
    frequency = np.asarray(fractions, dtype=np.float64)
    if not isinstance(rule, str):
        if len(rule) != len(frequency):
            raise ValueError(f"loss.weighting has {len(rule)} weights for {len(frequency)} phases")
        return torch.tensor([float(weight) for weight in rule])
    powers = {"none": 0.0, "inverse_sqrt": -0.5, "inverse": -1.0}
    if rule not in powers:
        raise ValueError(f"loss.weighting must be a list of weights or one of {', '.join(powers)}, got {rule!r}")
    present = frequency > 0
    if not present.any():
        raise ValueError("the learning data hold no labelled voxel: check the labels and label_map")
    weights = np.zeros_like(frequency)
    weights[present] = frequency[present] ** powers[rule]
    return torch.tensor(weights / weights[present].mean(), dtype=torch.float32)


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, voxels: Tensor | None = None
) -> Tensor:
    """Mean over labelled voxels of -w log p(label), divided by the mean weight; 0 for a batch without labels.

    weights : per phase. voxels : factors per voxel (batch, z, y, x). In distributed training the divisor is averaged
    over the processes, so that the mean of their losses is the loss of one process with the whole batch.
    """
    loss = F.cross_entropy(logits.float(), labels, weights, ignore_index=NOT_LABELLED, reduction="none")
    labelled = labels != NOT_LABELLED
    scale = labelled.float()
    if weights is not None:
        scale = scale * weights[labels.masked_fill(~labelled, 0)]
    if voxels is not None:
        loss, scale = loss * voxels, scale * voxels
    return loss.sum() / mean_over_processes(scale.sum()).clamp_min(1e-6)


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a number over the processes of a distributed training; the number itself without one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def soft_dice_loss(logits: Tensor, labels: Tensor, smooth: float = 1e-5) -> Tensor:
    """1 - mean over phases of 2 sum(p g) / (sum p + sum g), over the labelled voxels of the whole batch.

    A phase that occurs in no label of the batch is left out of the mean; 0 for a batch without labels.
    """
    labelled = labels != NOT_LABELLED
    probabilities = logits.float().softmax(dim=1) * labelled[:, None]
    truth = F.one_hot(labels.masked_fill(~labelled, 0), logits.shape[1]).movedim(-1, 1) * labelled[:, None]
    axes = (0, 2, 3, 4)
    overlap, total = (probabilities * truth).sum(axes), probabilities.sum(axes) + truth.sum(axes)
    present = truth.sum(axes) > 0
    if not present.any():
        return logits.sum() * 0
    return 1 - ((2 * overlap[present] + smooth) / (total[present] + smooth)).mean()


def at_boundary(labels: Tensor) -> Tensor:
    """True where a voxel's 3 x 3 x 3 neighbourhood holds another phase (255 is no phase): (batch, z, y, x) bool."""
    labelled = labels != NOT_LABELLED
    codes = labels.float()[:, None]
    highest = F.max_pool3d(codes.masked_fill(~labelled[:, None], -1), 3, stride=1, padding=1)
    lowest = -F.max_pool3d((-codes).masked_fill(~labelled[:, None], -NOT_LABELLED - 1.0), 3, stride=1, padding=1)
    return ((highest != lowest)[:, 0]) & labelled


class SegmentationLoss(nn.Module):
    """Base: holds the class weights, which `fit_to` sets from the phase fractions of the learning data.

    weighting : see `class_weights`.
    """

    def __init__(self, weighting: str | Sequence[float] = "inverse_sqrt", phases: int = 4):
        super().__init__()
        self.weighting = weighting
        self.register_buffer("weights", class_weights(np.ones(phases), weighting))

    def fit_to(self, fractions: Sequence[float]) -> None:
        """Set the class weights from the fraction of each phase among the labelled voxels."""
        self.weights.copy_(class_weights(fractions, self.weighting))


class CrossEntropy(SegmentationLoss):
    """Weighted cross-entropy."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, self.weights)


class DiceCrossEntropy(SegmentationLoss):
    """Weighted cross-entropy + `dice` times the soft Dice loss."""

    def __init__(self, weighting: str | Sequence[float] = "inverse_sqrt", phases: int = 4, dice: float = 1.0):
        super().__init__(weighting, phases)
        self.dice = dice

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, self.weights) + self.dice * soft_dice_loss(logits, labels)


class BoundaryCrossEntropy(SegmentationLoss):
    """Weighted cross-entropy whose voxels at a phase boundary count `boundary` times (below 1: label noise there)."""

    def __init__(self, weighting: str | Sequence[float] = "inverse_sqrt", phases: int = 4, boundary: float = 2.0):
        super().__init__(weighting, phases)
        if boundary < 0:
            raise ValueError(f"loss.boundary must be 0 or more, got {boundary}")
        self.boundary = boundary

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        factors = torch.where(at_boundary(labels), self.boundary, 1.0)
        return cross_entropy(logits, labels, self.weights, factors)


def deeply_supervised(loss: nn.Module, outputs: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
    """Loss of one or several outputs: weights 1, 1/2, 1/4 ... (sum 1), labels thinned out to each output's grid.

    outputs : logits; or a sequence of them, full resolution first; or a stack (batch, head, phase, z, y, x) of equal
    grids, as MONAI's DynUNet returns. Source: nnU-Net (Isensee et al. 2021).
    """
    if isinstance(outputs, Tensor):
        if outputs.ndim == 5:
            return loss(outputs, labels)
        outputs = outputs.unbind(dim=1)
    factors = [0.5**level for level in range(len(outputs))]
    total = logits_loss = 0.0
    for factor, logits in zip(factors, outputs):
        steps = [full // part for full, part in zip(labels.shape[1:], logits.shape[2:])]
        logits_loss = loss(logits, labels[:, :: steps[0], :: steps[1], :: steps[2]].contiguous())
        total = total + factor / sum(factors) * logits_loss
    return total
