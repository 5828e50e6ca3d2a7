"""Overlap metrics: pure functions of one confusion matrix, exact in integers up to any number of voxels.

The confusion matrix is int64 (4, 5): row = phase in the truth, column = phase in the prediction; the last column counts
labelled voxels that the prediction leaves open (255), which is wrong for every phase. Matrices of slabs add up.
"""

import math

import numpy as np

from batseg.phases import NOT_LABELLED, PHASES

SLAB_VOXELS = 1 << 22


def confusion_matrix(truth, prediction):
    """Count truth (rows, 4) against prediction (columns, 4 + "left open") where the truth is labelled.

    Both integer arrays of one shape, NumPy or torch; a torch pair gives a tensor on the same device, without copies to
    the host. Truth 255 is not scored; a prediction outside 0..3 is wrong wherever the truth is labelled.
    Raises ValueError for different shapes, float labels, or a truth value that is neither a phase nor 255.
    """
    if tuple(truth.shape) != tuple(prediction.shape):
        raise ValueError(f"truth {tuple(truth.shape)} and prediction {tuple(prediction.shape)} differ in shape")
    if not isinstance(truth, np.ndarray):
        return _counts(truth.reshape(-1).long(), prediction.reshape(-1).long())
    for name, labels in (("truth", truth), ("prediction", prediction)):
        if labels.dtype != bool and not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"{name}: labels must be integers, got {labels.dtype}")
    step = max(1, SLAB_VOXELS * len(truth) // max(truth.size, 1)) if truth.ndim else 1
    truth, prediction = np.atleast_1d(truth), np.atleast_1d(prediction)
    total = np.zeros((len(PHASES), len(PHASES) + 1), np.int64)
    for start in range(0, len(truth), step):
        slab = slice(start, start + step)
        total += _counts(truth[slab].reshape(-1).astype(np.int64), prediction[slab].reshape(-1).astype(np.int64))
    return total


def _counts(truth, prediction):
    """Confusion matrix of two flat int64 arrays or tensors (the same expressions serve both)."""
    phases, columns = len(PHASES), len(PHASES) + 1
    bincount = np.bincount if isinstance(truth, np.ndarray) else type(truth).bincount
    prediction = prediction + (phases - prediction) * ((prediction < 0) | (prediction >= phases))
    scored = truth != NOT_LABELLED
    truth, prediction = truth[scored], prediction[scored]
    if len(truth) and not 0 <= int(truth.min()) <= int(truth.max()) < phases:
        raise ValueError(f"truth holds {int(truth.min())}..{int(truth.max())}; expected phases 0..{phases - 1} or 255")
    return bincount(truth * columns + prediction, minlength=phases * columns).reshape(phases, columns)


def dice(confusion):
    """Dice of each phase, 2 TP / (|truth| + |prediction|), as float64 (4,).

    NumPy or torch, as the matrix is. NaN for a phase absent from both truth and prediction; 0 if absent from one.
    """
    numpy = isinstance(confusion, np.ndarray)
    counts = confusion.astype(np.float64) if numpy else confusion.double()
    both = counts[:, : len(PHASES)].sum(0) + counts.sum(1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of an absent phase
        return 2 * counts.diagonal() / both


def mean_dice(confusion) -> float:
    """Unweighted mean of the Dice of the phases that are present; NaN if nothing was scored."""
    present = [float(value) for value in dice(confusion) if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan
