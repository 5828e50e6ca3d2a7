"""How sure a Dice is: block bootstrap intervals, a paired test of two methods, and the share of the boundary in it.

Neighbouring voxels err together, so blocks (cubes) are drawn, not voxels; a block's confusion matrix is all it takes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from batseg.evaluation.distance import grown
from batseg.evaluation.overlap import confusion_matrix
from batseg.phases import NOT_LABELLED, PHASES

BLOCK = 32
"""Edge of a block in voxels: about 2 µm at 61 nm, above the correlation length of all phases but graphite."""

STATISTICS = (*PHASES, "mean")


class Interval(NamedTuple):
    """An estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Dice of method a minus method b: difference, its interval, and the p-value of "no difference"."""

    difference: float
    low: float
    high: float
    p: float


def block_confusions(truth: np.ndarray, prediction: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Confusion matrix of every block with labelled voxels, (blocks, 4, 5); blocks at the end may be smaller.

    Along an axis not longer than 1.5 blocks the volume is not divided.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in shape")
    counts = [max(1, round(length / block)) for length in truth.shape]
    edges = [np.linspace(0, length, count + 1).astype(int) for length, count in zip(truth.shape, counts)]
    found = []
    for index in np.ndindex(*counts):
        cut = tuple(slice(edge[i], edge[i + 1]) for edge, i in zip(edges, index))
        found.append(confusion_matrix(truth[cut], prediction[cut]))
    found = np.stack(found)
    return found[found.any(axis=(1, 2))]


def dice_statistics(confusions: np.ndarray) -> np.ndarray:
    """Dice of each phase and their mean, (..., 5), from confusion matrices (..., 4, 5); NaN for an absent phase."""
    hits = 2.0 * np.diagonal(confusions, axis1=-2, axis2=-1)
    both = confusions.sum(-1) + confusions[..., : len(PHASES)].sum(-2)
    with np.errstate(invalid="ignore"):
        per_phase = hits / both
    known = np.isfinite(per_phase)
    mean = np.where(known, per_phase, 0).sum(-1) / np.maximum(known.sum(-1), 1)
    return np.concatenate([per_phase, mean[..., None]], axis=-1)


def bootstrap_dice(
    confusions: np.ndarray, rng: np.random.Generator, resamples: int = 2000, level: float = 0.95
) -> dict[str, Interval]:
    """Dice of each phase and the mean with percentile intervals from drawing blocks with replacement.

    The interval speaks of the spread within this volume, not of another sample or another annotator; with fewer than
    about 20 blocks it is too narrow. Source: Künsch 1989 (block bootstrap).
    """
    drawn = _resampled(confusions, rng, resamples)
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    values = dice_statistics(confusions.sum(0))
    return {name: Interval(*map(float, row)) for name, row in zip(STATISTICS, zip(values, low, high))}


def paired_test(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, resamples: int = 2000, level: float = 0.95
) -> dict[str, Comparison]:
    """Does method a (`first`) differ from method b (`second`) on the same blocks?

    `first`, `second`: block confusion matrices of both methods, in one order. The interval of the difference comes from
    drawing blocks for both at once; the p-value from exchanging the methods in every block with probability 1/2
    (two-sided, at least 1 / (resamples + 1)). Source: Ernst 2004 (permutation methods).
    """
    if first.shape != second.shape:
        raise ValueError(f"the methods need the same blocks, got {len(first)} and {len(second)}")
    observed = dice_statistics(first.sum(0)) - dice_statistics(second.sum(0))
    weights = rng.multinomial(len(first), np.full(len(first), 1 / len(first)), resamples)
    drawn = dice_statistics(_weighted(weights, first)) - dice_statistics(_weighted(weights, second))
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    swap = rng.integers(0, 2, (resamples, len(first)))
    mixed = _weighted(1 - swap, first) + _weighted(swap, second)
    by_chance = dice_statistics(mixed) - dice_statistics(first.sum(0) + second.sum(0) - mixed)
    p = (1 + (np.abs(by_chance) >= np.abs(observed) - 1e-12).sum(0)) / (resamples + 1)
    rows = zip(observed, low, high, p)
    return {name: Comparison(*map(float, row)) for name, row in zip(STATISTICS, rows)}


def boundary_tolerance(truth: np.ndarray, prediction: np.ndarray) -> dict[str, dict[str, float]]:
    """How much of each phase's Dice is boundary: scores against the truth one voxel smaller, larger, and without rim.

    Per phase: `dice`; `against_eroded` and `against_dilated` (the truth's phase shrunk or grown by its faces);
    `off_boundary` (voxels on either side of the truth's boundary not scored); and for comparison `eroded_truth`,
    `dilated_truth`: the Dice that the eroded or dilated truth itself has, that is, the price of one voxel.
    The edge of the volume and of the labelled region is no boundary.
    """
    labelled = truth != NOT_LABELLED
    return {
        name: _tolerance(truth == phase, (prediction == phase) & labelled, labelled)
        for phase, name in enumerate(PHASES)
    }


def _tolerance(truth: np.ndarray, prediction: np.ndarray, labelled: np.ndarray) -> dict[str, float]:
    dilated = grown(truth) & labelled
    eroded = ~grown(~truth & labelled) & truth
    inside = labelled & ~(dilated & ~eroded)
    return {
        "dice": _mask_dice(truth, prediction),
        "against_eroded": _mask_dice(eroded, prediction),
        "against_dilated": _mask_dice(dilated, prediction),
        "off_boundary": _mask_dice(truth & inside, prediction & inside),
        "eroded_truth": _mask_dice(truth, eroded),
        "dilated_truth": _mask_dice(truth, dilated),
    }


def _mask_dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    size = int(np.count_nonzero(truth)) + int(np.count_nonzero(prediction))
    return 2 * int(np.count_nonzero(truth & prediction)) / size if size else float("nan")


def _resampled(confusions: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    weights = rng.multinomial(len(confusions), np.full(len(confusions), 1 / len(confusions)), resamples)
    return dice_statistics(_weighted(weights, confusions))


def _weighted(weights: np.ndarray, confusions: np.ndarray) -> np.ndarray:
    """Sums of block matrices: weights (resamples, blocks) times confusions (blocks, 4, 5) -> (resamples, 4, 5)."""
    return np.tensordot(weights.astype(np.float64), confusions.astype(np.float64), axes=1)


def as_rows(results: Mapping[str, NamedTuple]) -> list[dict]:
    """Named results as table rows, the name first."""
    return [{"phase": name} | result._asdict() for name, result in results.items()]
