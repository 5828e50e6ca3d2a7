"""Overlap metrics: pure functions of one confusion matrix, exact in integers up to any number of voxels.

The confusion matrix is int64 (4, 5): row = phase in the truth, column = phase in the prediction; the last column counts
labelled voxels that the prediction leaves open (255), which is wrong for every phase. Matrices of slabs add up.
"""

import math
from typing import NamedTuple

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


class Counts(NamedTuple):
    """Voxels of one phase against the rest, as Python integers: products of counts stay exact at any size."""

    tp: int
    fp: int
    fn: int
    tn: int


def one_against_rest(confusion: np.ndarray, phase: int) -> Counts:
    """True/false positives and negatives of one phase; a voxel left open by the prediction is negative."""
    counts = np.asarray(confusion)
    tp = int(counts[phase, phase])
    fp = int(counts[:, phase].sum()) - tp
    fn = int(counts[phase].sum()) - tp
    return Counts(tp, fp, fn, int(counts.sum()) - tp - fp - fn)


def ratio(numerator: float, denominator: float) -> float:
    """Quotient; NaN where nothing can be said (0 denominator)."""
    return numerator / denominator if denominator else math.nan


def rand_indices(counts: Counts) -> tuple[float, float]:
    """Rand index and adjusted Rand index from pair counts. Source: Taha & Hanbury 2015; Hubert & Arabie 1985."""
    tp, fp, fn, tn = counts
    squares = tp**2 + fp**2 + fn**2 + tn**2
    truth_squares = (tn + fp) ** 2 + (fn + tp) ** 2
    prediction_squares = (tn + fn) ** 2 + (fp + tp) ** 2
    together_in_both = sum(count * (count - 1) // 2 for count in counts)
    together_in_truth = (truth_squares - squares) // 2
    together_in_prediction = (prediction_squares - squares) // 2
    apart = (sum(counts) ** 2 + squares - truth_squares - prediction_squares) // 2
    pairs = together_in_both + together_in_truth + together_in_prediction + apart
    in_truth, in_prediction = together_in_both + together_in_truth, together_in_both + together_in_prediction
    # (a - xy/N) / ((x + y)/2 - xy/N), multiplied by 2 N so that it stays in integers
    above_chance = 2 * (together_in_both * pairs - in_truth * in_prediction)
    best_above_chance = (in_truth + in_prediction) * pairs - 2 * in_truth * in_prediction
    return ratio(together_in_both + apart, pairs), ratio(above_chance, best_above_chance)


def information(counts: Counts) -> tuple[float, float]:
    """Mutual information and variation of information in bits, with 0 log 0 = 0."""
    tp, fp, fn, tn = counts
    total = sum(counts)

    def entropy(*cells: int) -> float:
        return -sum(cell / total * math.log2(cell / total) for cell in cells if cell) if total else math.nan

    truth, prediction, joint = entropy(tp + fn, fp + tn), entropy(tp + fp, fn + tn), entropy(*counts)
    mutual = truth + prediction - joint
    return mutual, truth + prediction - 2 * mutual


def global_consistency_error(counts: Counts) -> float:
    """GCE = min(E1, E2) / n; a class that is empty adds nothing.

    Source: Taha & Hanbury 2015, who count a voxel where the masks differ in full (Martin et al. 2001 count its region's
    share only, which gives smaller values).
    """
    tp, fp, fn, tn = counts

    def share(part: int, same: int) -> float:
        return part * (part + 2 * same) / (part + same) if part else 0.0

    refined_truth = share(fn, tp) + share(fp, tn)
    refined_prediction = share(fp, tp) + share(fn, tn)
    return ratio(min(refined_truth, refined_prediction), sum(counts))


def interclass_correlation(counts: Counts, compat: str | None = None) -> float:
    """ICC = (MSb - MSw) / (MSb + MSw) of the two binary masks.

    compat="visceral": masks scaled to 0..255 but the grand mean left in 0..1, as EvaluateSegmentation computes it.
    """
    tp, fp, fn, _tn = counts
    total = sum(counts)
    if total < 2:
        return math.nan
    high = 255.0 if compat == "visceral" else 1.0
    grand_mean = (2 * tp + fp + fn) / (2 * total)
    within = high**2 * (fp + fn) / 2 / total
    spread = zip((tp, fp + fn, counts.tn), (high, high / 2, 0.0))
    between = 2 * sum(count * (mean - grand_mean) ** 2 for count, mean in spread) / (total - 1)
    return ratio(between - within, between + within)


def kappa(counts: Counts) -> float:
    """Cohen's kappa, (observed - chance) / (n - chance) agreement."""
    tp, fp, fn, tn = counts
    total = sum(counts)
    chance = (tn + fn) * (tn + fp) + (fp + tp) * (fn + tp)  # times n
    return ratio((tp + tn) * total - chance, total * total - chance)


def probabilistic_distance(counts: Counts, compat: str | None = None) -> float:
    """PBD = sum |r - s| / (2 sum r s); infinite without overlap, NaN if the phase is absent.

    compat="visceral": that tool divides by 255 once too often, and says -1 without overlap.
    """
    tp, fp, fn, _tn = counts
    if not tp:
        return math.nan if not fp + fn else -1.0 if compat == "visceral" else math.inf
    return (fp + fn) / (2 * tp) / (255 if compat == "visceral" else 1)


def overlap_metrics(counts: Counts, compat: str | None = None) -> dict[str, float]:
    """Every metric that follows from the four counts, under the keys of EvaluateSegmentation (FNR in addition).

    NaN where a ratio has no denominator, and for every metric of a phase absent from truth and prediction alike except
    those that count the rest (accuracy, specificity, fallout, Rand index, information, GCE).
    Source: Taha & Hanbury 2015; paper, Table S2.
    """
    tp, fp, fn, tn = counts
    sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    rand, adjusted_rand = rand_indices(counts)
    mutual, variation = information(counts)
    absent = not tp + fp + fn
    return {
        "DICE": ratio(2 * tp, 2 * tp + fp + fn),
        "JACRD": ratio(tp, tp + fp + fn),
        "AUC": (sensitivity + specificity) / 2,
        "KAPPA": kappa(counts),
        "RNDIND": rand,
        "ADJRIND": adjusted_rand,
        "ICCORR": math.nan if absent else interclass_correlation(counts, compat),
        "VOLSMTY": math.nan if absent else 1 - abs(fn - fp) / (2 * tp + fp + fn),
        "MUTINF": mutual,
        "VARINFO": variation,
        "GCOERR": global_consistency_error(counts),
        "PROBDST": probabilistic_distance(counts, compat),
        "SNSVTY": sensitivity,
        "SPCFTY": specificity,
        "PRCISON": ratio(tp, tp + fp),
        "FMEASR": ratio(2 * tp, 2 * tp + fp + fn),
        "ACURCY": ratio(tp + tn, sum(counts)),
        "FALLOUT": ratio(fp, fp + tn),
        "FNR": ratio(fn, tp + fn),
    }
