"""All metrics for every phase and their mean, from label slabs; the columns of Table S2; CSV and printed table."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from rich.table import Table

from batseg.evaluation.distance import (
    distance_metrics,
    distance_pair,
    mahalanobis,
    moments,
    scored_labels,
    surface_metrics,
    surfaces,
)
from batseg.evaluation.overlap import confusion_matrix, one_against_rest, overlap_metrics
from batseg.phases import PHASES
from batseg.progress import track

METRICS = (
    *(
        "DICE",
        "JACRD",
        "AUC",
        "KAPPA",
        "RNDIND",
        "ADJRIND",
        "ICCORR",
        "VOLSMTY",
        "MUTINF",
        "HDRFDST",
        "AVGDIST",
        "bAVD",
    ),
    *("MAHLNBS", "VARINFO", "GCOERR", "PROBDST", "SNSVTY", "SPCFTY", "PRCISON", "FMEASR", "ACURCY", "FALLOUT", "FNR"),
    *("HD95", "SURFDICE1", "SURFDICE2"),
)
"""Every metric in the order of EvaluateSegmentation's output, then FNR and the surface metrics."""

DISTANCES = ("HDRFDST", "AVGDIST", "bAVD", "HD95")
"""Metrics with a length; all others have no unit, or bits (MUTINF, VARINFO)."""

LOWER_IS_BETTER = frozenset((*DISTANCES, "MAHLNBS", "VARINFO", "GCOERR", "PROBDST", "FALLOUT", "FNR"))

COMPAT = (None, "visceral")

PRESETS = {
    "all": METRICS,
    # The twenty of Taha & Hanbury 2015 without the F-measure, which is Dice at beta = 1.
    "paper19": (
        *("DICE", "JACRD", "SNSVTY", "SPCFTY", "FALLOUT", "FNR", "GCOERR", "VOLSMTY", "RNDIND", "ADJRIND", "MUTINF"),
        *("VARINFO", "ICCORR", "PROBDST", "KAPPA", "AUC", "HDRFDST", "AVGDIST", "MAHLNBS"),
    ),
    # The twenty-one that the tool of 2015 printed, without F-measure and fallout, which repeat others.
    "tool19": (
        *("DICE", "JACRD", "AUC", "KAPPA", "RNDIND", "ADJRIND", "ICCORR", "VOLSMTY", "MUTINF", "HDRFDST", "AVGDIST"),
        *("MAHLNBS", "VARINFO", "GCOERR", "PROBDST", "SNSVTY", "SPCFTY", "PRCISON", "ACURCY"),
    ),
}
"""Columns of the printed table. The paper says "nineteen standard metrics" and names none: two readings."""


class Scores(NamedTuple):
    """Metrics {phase: {metric: value}} with their "mean" over phases, and the confusion matrix they stem from."""

    metrics: dict[str, dict[str, float]]
    confusion: np.ndarray

    @property
    def coverage(self) -> float:
        """Share of the labelled voxels for which the prediction names a phase."""
        return 1 - float(self.confusion[:, len(PHASES)].sum() / self.confusion.sum())


def score(truth: np.ndarray, prediction: np.ndarray, **settings) -> Scores:
    """All metrics of one pair of uint8 label volumes (z, y, x); settings as for `score_slabs`."""
    return score_slabs([(truth, prediction)], truth.shape, **settings)


def score_slabs(
    slabs: Iterable[tuple[np.ndarray, np.ndarray]],
    shape: tuple[int, int, int],
    compat: str | None = None,
    distances: bool = True,
    surface: bool = True,
    unit_per_voxel: float = 1.0,
) -> Scores:
    """All metrics of a pair of label volumes that arrives in slabs (truth, prediction) along z, as uint8.

    With `distances` two volumes of one byte per voxel are kept, and one of four bytes at a time; without it nothing,
    and distance metrics are NaN. `surface` adds HD95 and surface Dice. `unit_per_voxel`: for distances in nm.
    compat="visceral" gives EvaluateSegmentation's own ICCORR and PROBDST instead of the textbook's.
    """
    if compat not in COMPAT:
        raise ValueError(f"compat is null or visceral, got {compat!r}")
    kept = np.empty((2, *shape) if distances else (2, 0, 0, 0), np.uint8)
    confusion = np.zeros((len(PHASES), len(PHASES) + 1), np.int64)
    first = 0
    for truth, prediction in slabs:
        confusion += confusion_matrix(truth, prediction)
        if distances:
            last = first + len(truth)
            kept[0, first:last], kept[1, first:last] = truth, scored_labels(truth, prediction)
            first = last
    if not confusion.any():
        raise ValueError("no voxel is labelled in the truth (within the mask)")
    found = {name: overlap_metrics(one_against_rest(confusion, code), compat) for code, name in enumerate(PHASES)}
    if distances:
        add_distances(found, *kept, surface=surface, unit_per_voxel=unit_per_voxel)
    per_phase = {name: {key: found[name].get(key, math.nan) for key in METRICS} for name in PHASES}
    return Scores(per_phase | {"mean": mean_over_phases(per_phase)}, confusion)


def add_distances(
    found: dict[str, dict[str, float]],
    truth: np.ndarray,
    prediction: np.ndarray,
    surface: bool,
    unit_per_voxel: float,
) -> None:
    """Add the distance metrics of every phase to `found`; labels as `scored_labels` leaves them."""
    volumes = [(truth, prediction, distance_metrics)]
    if surface:
        volumes.append((surfaces(truth), surfaces(prediction), surface_metrics))
    centroids = moments(truth), moments(prediction)
    for code, name in track(list(enumerate(PHASES)), "distances per phase"):
        found[name]["MAHLNBS"] = mahalanobis(centroids[0][code], centroids[1][code])
        for first, second, metrics in volumes:
            found[name] |= metrics(distance_pair(first, second, code))
        for key in DISTANCES:
            found[name][key] = found[name].get(key, math.nan) * unit_per_voxel


def mean_over_phases(per_phase: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Unweighted mean of each metric over the phases where it is defined; NaN where it is in none."""
    means = {}
    for key in METRICS:
        values = [values[key] for values in per_phase.values() if not math.isnan(values[key])]
        means[key] = sum(values) / len(values) if values else math.nan
    return means


def as_csv(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """One line per phase and the mean, one column per metric."""
    lines = [",".join(("phase", *METRICS))]
    lines += [",".join((name, *(f"{values[key]:.9g}" for key in METRICS))) for name, values in metrics.items()]
    return "\n".join(lines) + "\n"


def preset_columns(preset: str) -> tuple[str, ...]:
    """The metrics that a preset prints. Raises ValueError for an unknown preset."""
    if preset not in PRESETS:
        raise ValueError(f"preset is one of {', '.join(PRESETS)}; got {preset!r}")
    return PRESETS[preset]


def printed(metrics: Mapping[str, Mapping[str, float]], columns: Iterable[str], title: str) -> Table:
    """A table with the given metrics as rows and phases as columns; "(up)": higher is better."""
    table = Table("metric", *metrics, title=title)
    for key in columns:
        better = "down" if key in LOWER_IS_BETTER else "up"
        table.add_row(f"{key} ({better})", *(f"{values[key]:.4f}" for values in metrics.values()))
    return table
