"""Several systems against one truth: every table that Table S2 and its discussion need, as rows of plain values."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from batseg.evaluation.failure import confusion_shares, rank_agreement, share_at_contact, share_by_depth
from batseg.evaluation.table import METRICS, PRESETS, score
from batseg.evaluation.uncertainty import BLOCK, block_confusions, bootstrap_dice, boundary_tolerance, paired_test
from batseg.phases import NOT_LABELLED, PHASES
from batseg.progress import track

Rows = list[dict]


def compare(
    truth: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    preset: str = "paper19",
    compat: str | None = None,
    unit_per_voxel: float = 1.0,
    block: int = BLOCK,
    resamples: int = 2000,
    deepest: int = 20,
    seed: int = 0,
) -> dict[str, Rows]:
    """Tables by name, one row per system (and phase, pair of systems or depth); uint8 labels (z, y, x).

    metrics: all x phases x systems. intervals: Dice with block bootstrap bounds. paired: difference of every two
    systems, bounds and p. boundary: Dice against the truth one voxel smaller and larger, and off the boundary.
    confusion: shares of each true phase. depth: graphite called pore by depth. contact: CBD at silicon called so.
    table_s2: a row per phase and metric of the preset, a column per system. ranks: do these metrics rank as Dice does?
    """
    tables: dict[str, Rows] = {name: [] for name in ("metrics", "intervals", "paired", "boundary", "confusion")}
    tables |= {"depth": [], "contact": [], "table_s2": [], "ranks": []}
    blocks, scores = {}, {}
    for system, prediction in track(predictions.items(), "scoring systems", total=len(predictions)):
        found = score(truth, prediction, compat=compat, unit_per_voxel=unit_per_voxel)
        scores[system], blocks[system] = found.metrics, block_confusions(truth, prediction, block)
        name = {"system": system}
        tables["metrics"] += [
            name | {"phase": phase} | {key: values[key] for key in METRICS} for phase, values in found.metrics.items()
        ]
        tables["intervals"] += [
            name | {"phase": phase, "dice": value, "low": low, "high": high, "blocks": len(blocks[system])}
            for phase, (value, low, high) in bootstrap_dice(
                blocks[system], np.random.default_rng((seed, 0)), resamples
            ).items()
        ]
        tables["boundary"] += [
            name | {"phase": phase} | values for phase, values in boundary_tolerance(truth, prediction).items()
        ]
        tables["confusion"] += [
            name | {"truth": phase} | dict(zip((*PHASES, "open"), map(float, row)))
            for phase, row in zip(PHASES, confusion_shares(found.confusion))
        ]
        shares, counts = share_by_depth(truth, prediction, deepest=deepest)
        tables["depth"] += [
            name | {"depth": depth, "graphite_called_pore": float(share), "voxels": int(count)}
            for depth, (share, count) in enumerate(zip(shares, counts), start=1)
        ]
        tables["contact"].append(name | share_at_contact(truth, prediction))
    for first, second in combinations(predictions, 2):
        differences = paired_test(blocks[first], blocks[second], np.random.default_rng((seed, 1)), resamples)
        tables["paired"] += [
            {"a": first, "b": second, "phase": phase} | found._asdict() for phase, found in differences.items()
        ]
    tables["table_s2"] = [
        {"phase": phase, "metric": metric} | {system: values[phase][metric] for system, values in scores.items()}
        for phase in (*PHASES, "mean")
        for metric in PRESETS[preset]
    ]
    if len(predictions) > 1:
        tables["ranks"] = rank_agreement(scores, PRESETS[preset])
    return {name: rows for name, rows in tables.items() if rows}


def cropped(truth: np.ndarray, predictions: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Truth and predictions cut to the box of the labelled voxels. Raises ValueError if nothing is labelled."""
    labelled = truth != NOT_LABELLED
    if not labelled.any():
        raise ValueError("no voxel is labelled in the truth")
    box = []
    for axis in range(truth.ndim):
        found = np.flatnonzero(labelled.any(axis=tuple(other for other in range(truth.ndim) if other != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    box = tuple(box)
    return truth[box], {name: prediction[box] for name, prediction in predictions.items()}
