"""Where a segmentation fails: confusion shares, errors against depth and at contacts; do the metrics agree?"""

import math
from collections.abc import Mapping, Sequence

import edt
import numpy as np
from scipy.stats import kendalltau

from batseg.evaluation.distance import grown
from batseg.evaluation.table import LOWER_IS_BETTER
from batseg.phases import CBD, GRAPHITE, NOT_LABELLED, PHASES, PORE, SILICON


def confusion_shares(confusion: np.ndarray) -> np.ndarray:
    """Share of each true phase (rows, 4) that is called each phase or left open (columns, 5); NaN for an absent one."""
    with np.errstate(invalid="ignore"):
        return confusion / confusion.sum(axis=1, keepdims=True)


def share_by_depth(
    truth: np.ndarray, prediction: np.ndarray, phase: int = GRAPHITE, called: int = PORE, deepest: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Share of a phase's voxels that is called another phase, against their depth below the phase's surface.

    Shell j = 1..`deepest` holds depths j - 1 < d <= j voxels (distance to the nearest voxel of another phase; the edge
    of the volume and of the labelled region is no surface). Returns (shares, voxel counts), both (deepest,); NaN for an
    empty shell. The default asks for graphite's interior called pore: they differ only by the edge enhancement of the
    boundary, so the interior is the hard part (paper, Fig. 2).
    """
    solid = (truth == phase) | (truth == NOT_LABELLED)
    depth = edt.edt(np.ascontiguousarray(solid, np.uint8), black_border=False)
    inside = truth == phase
    shells = np.ceil(np.minimum(depth[inside], deepest + 1)).astype(np.int64)
    counts = np.bincount(shells, minlength=deepest + 2)[1 : deepest + 1]
    wrong = np.bincount(shells[prediction[inside] == called], minlength=deepest + 2)[1 : deepest + 1]
    with np.errstate(invalid="ignore"):
        return wrong / counts, counts


def share_at_contact(
    truth: np.ndarray, prediction: np.ndarray, phase: int = CBD, contact: int = SILICON, called: int = SILICON
) -> dict[str, float]:
    """Share of a phase called another one, where it touches a third (by a face) and elsewhere; NaN without such voxels.

    The default asks for CBD at silicon's surface called silicon.
    """
    inside = truth == phase
    touching = inside & grown(truth == contact)
    wrong = inside & (prediction == called)

    def share(where: np.ndarray) -> float:
        count = np.count_nonzero(where)
        return np.count_nonzero(wrong & where) / count if count else math.nan

    return {"at_contact": share(touching), "elsewhere": share(inside & ~touching), "voxels": int(touching.sum())}


def rank_agreement(
    systems: Mapping[str, Mapping[str, Mapping[str, float]]], metrics: Sequence[str], reference: str = "DICE"
) -> list[dict]:
    """Does every metric rank the systems as Dice does, in every phase and the mean?

    `systems` = {system: {phase: {metric: value}}}. One row per metric and phase: Kendall's tau-b with the reference's
    ranking (1: same order), the metric's best system, and whether it is the reference's best. A metric that is NaN for
    a system gives NaN. Source: the paper states that all nineteen metrics rank its systems alike.
    """
    rows = []
    for phase in (*PHASES, "mean"):
        expected = _goodness(systems, phase, reference)
        for metric in metrics:
            values = _goodness(systems, phase, metric)
            best = None if np.isnan(values).any() else list(systems)[int(values.argmax())]
            same = best == list(systems)[int(expected.argmax())]
            tau = float(kendalltau(values, expected).statistic)
            rows.append({"metric": metric, "phase": phase, "tau": tau, "best": best, "same": same})
    return rows


def _goodness(systems: Mapping, phase: str, metric: str) -> np.ndarray:
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return sign * np.array([values[phase][metric] for values in systems.values()], float)
