"""Segment a volume in memory: windows in three directions, fused to probabilities, labels by argmax."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from batseg.inference.calibration import UNCHANGED, Calibration
from batseg.inference.forward import Forward
from batseg.inference.fusion import Fusion, MeanSoftmax
from batseg.inference.precision import choose_precision
from batseg.inference.sweep import sweep
from batseg.inference.windows import axis_order, make_grid
from batseg.phases import NOT_LABELLED
from batseg.progress import progress_bar
from batseg.volumes import InputError


@dataclass(frozen=True)
class Prediction:
    """Labels (z, y, x) uint8, 255 outside the mask; probabilities (phase, z, y, x) float32, zero outside the mask;
    disagreement (z, y, x) float32: share of pairs of directions that name different phases, 0 to 1."""

    labels: np.ndarray
    probabilities: np.ndarray
    disagreement: np.ndarray

    def entropy(self) -> np.ndarray:
        """Entropy of the probabilities / log(phases): 0 certain, 1 undecided; zero outside the mask."""
        return normalised_entropy(self.probabilities)


def predict(
    network: nn.Module | Sequence[nn.Module],
    image: np.ndarray,
    window: Sequence[int] = (48, 256, 256),
    overlap: float = 0.5,
    directions: str = "zyx",
    mask: np.ndarray | None = None,
    fusion: Fusion | None = None,
    windows: str = "windows",
    halo: int = 24,
    window_fit: str = "error",
    mirror: str = "",
    calibration: Calibration = UNCHANGED,
    precision: str = "auto",
    batch_size: int = 1,
    device: str | torch.device | None = None,
    description: str = "segment",
) -> Prediction:
    """Segment a normalised image (z, y, x) or (channel, z, y, x).

    Parameters
    ----------
    network : one, or several whose probabilities are averaged.
    window : thin-first (thin, a, b).
    windows : "windows", or "planes": whole planes, of which window[0] make one window.
    mirror : network axes (t, a, b) whose mirrored copies are averaged too.
    calibration : makes the fused probabilities right.
    precision : "fp32", "bf16", or "auto", see `choose_precision`.

    Voxels outside `mask` get label 255. Raises InputError for a window that exceeds the volume (see `fit_window`), for
    NaN and for a mask of another shape. Source: paper, Fig. 6a.
    """
    shape = image.shape[-3:]
    require_valid(image, mask, directions)
    fusion = fusion or MeanSoftmax()
    grids = [make_grid(shape, direction, window, overlap, windows, halo, window_fit) for direction in directions]
    forward = Forward(network, device, mirror, "fp32" if precision == "auto" else precision)
    if precision == "auto":
        choose_precision(forward, image, window, fusion, mask)
    total, winners = None, []
    with progress_bar(description, sum(map(len, grids))) as bar:
        for grid in grids:
            winner = np.zeros(shape, np.uint8)
            order = axis_order(grid.direction)
            for start, stop, planes in sweep(forward, image, grid, fusion, mask, batch_size, done=bar.advance):
                if planes is None:
                    continue
                if total is None:
                    total = np.zeros((len(planes), *shape), np.float32)
                view = total.transpose(0, *(1 + axis for axis in order))
                view[:, start:stop] += (fusion.direction_term(planes) / len(grids)).cpu().numpy()
                winner.transpose(order)[start:stop] = planes.argmax(0).cpu().numpy()
            winners.append(winner)
    if total is None:
        raise InputError("no voxel is inside the mask")
    return fused(total, winners, fusion, calibration, mask)


def fused(
    mean: np.ndarray,
    winners: Sequence[np.ndarray],
    fusion: Fusion,
    calibration: Calibration = UNCHANGED,
    mask: np.ndarray | None = None,
) -> Prediction:
    """The prediction from the mean of the directions' terms (phase, z, y, x) and each direction's labels."""
    probabilities = calibration(fusion.finish(torch.from_numpy(mean), 0).numpy())
    labels = probabilities.argmax(0).astype(np.uint8)
    disagreement = pair_disagreement(winners)
    if mask is not None:
        outside = ~np.asarray(mask)
        labels[outside] = NOT_LABELLED
        probabilities[:, outside] = 0
        disagreement[outside] = 0
    return Prediction(labels, probabilities, disagreement)


def require_valid(image: np.ndarray, mask: np.ndarray | None, directions: str) -> None:
    """Raise InputError for a NaN in the image, a mask of another shape, or directions other than some of z, y, x."""
    shape = tuple(image.shape[-3:])
    if mask is not None and tuple(mask.shape) != shape:
        raise InputError(f"mask {tuple(mask.shape)} and image {shape} differ in shape")
    if not directions or set(directions) - set("zyx") or len(set(directions)) < len(directions):
        raise InputError(f"directions {directions!r}: expected some of z, y, x, each once")
    if isinstance(image, np.ndarray) and not all(np.isfinite(part).all() for part in image):
        raise InputError("the image holds NaN or infinite voxels")


def normalised_entropy(probabilities: np.ndarray) -> np.ndarray:
    """-sum p log p / log(phases) over axis 0; 0 log 0 = 0."""
    safe = np.maximum(probabilities, 1e-12)
    return -(probabilities * np.log(safe)).sum(0) / np.log(len(probabilities), dtype=np.float32)


def pair_disagreement(winners: Sequence[np.ndarray]) -> np.ndarray:
    """Share of pairs of label volumes that differ, voxel by voxel; zero for a single one."""
    pairs = [(i, j) for i in range(len(winners)) for j in range(i)]
    differ = np.zeros(winners[0].shape, np.float32)
    for i, j in pairs:
        differ += (winners[i] != winners[j]) / np.float32(len(pairs))
    return differ
