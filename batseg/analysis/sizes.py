"""Feature size distributions of the pore space and of CBD (Supplementary Note 7)."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import product

import numpy as np

from batseg.morphology.chords import chord_lengths
from batseg.morphology.thickness import local_thickness, squared_distance
from batseg.phases import CBD, NOT_LABELLED, PORE
from batseg.progress import progress_bar

METHODS = ("local thickness", "edt", "chords z", "chords y", "chords x")
PERCENTILES = (5, 10, 25, 50, 75, 90, 95)
SPACES = {"pore": (PORE,), "cbd": (CBD,), "pore+cbd": (PORE, CBD)}


def size_values(labels: np.ndarray, phases: tuple[int, ...], voxel_nm: float, method: str) -> np.ndarray:
    """All sizes in nm of a space made of phases, one per voxel (per chord for chords); empty if it is absent.

    local thickness: radius of the largest inscribed ball that covers the voxel (the continuous PSD, volume-weighted).
    edt: distance to the nearest surface, which falls below the radius by construction. chords: lengths of runs.
    """
    valid = labels != NOT_LABELLED
    mask = np.isin(labels, phases)
    if method == "local thickness":
        return local_thickness(mask, voxel_nm, valid)[mask]
    if method == "edt":
        return np.sqrt(squared_distance(mask, valid)[mask]) * voxel_nm
    if method in METHODS:
        return chord_lengths(mask, "zyx".index(method[-1]), voxel_nm, valid)
    raise ValueError(f"unknown size method {method!r}: one of {', '.join(METHODS)}")


def size_tables(
    labels: np.ndarray,
    voxel_nm: float,
    methods: Sequence[str] = METHODS,
    spaces: Sequence[str] = tuple(SPACES),
    progress: bool = True,
) -> tuple[list[dict], list[dict]]:
    """Rows of median and percentiles in nm, and rows of the distributions in bins of one voxel.

    `measure` says what the number is: radius (local thickness, edt) or chord length. Absent phases give NaN.
    Source: paper, text (median pore radius 360 nm); it does not define the radius, local thickness is our reading.
    """
    rows, bins = [], []
    with progress_bar("sizes", len(spaces) * len(methods)) if progress else nullcontext() as bar:
        for space, method in product(spaces, methods):
            values = size_values(labels, SPACES[space], voxel_nm, method)
            measure = "chord length" if method.startswith("chords") else "radius"
            base = {"phase": space, "method": method, "measure": measure}
            known = values[np.isfinite(values)]
            percentiles = np.percentile(known, PERCENTILES) if known.size else np.full(len(PERCENTILES), np.nan)
            named = {f"p{p:02d}_nm": value for p, value in zip(PERCENTILES, percentiles)}
            rows.append(
                base
                | {"median_nm": named["p50_nm"], "mean_nm": float(known.mean(dtype=float)) if known.size else np.nan}
                | named
                | {"values": int(known.size)}
            )
            bins += [base | row for row in _distribution(known, voxel_nm)]
            if bar:
                bar.advance()
    return rows, bins


def _distribution(values: np.ndarray, voxel_nm: float) -> list[dict]:
    """Share of the values in bins of one voxel, centred on whole voxels; they add up to 1."""
    if not values.size:
        return []
    counts = np.bincount(np.rint(values / voxel_nm).astype(int))
    return [
        {"size_nm": i * voxel_nm, "fraction": count / values.size, "cumulative": float(total) / values.size}
        for i, (count, total) in enumerate(zip(counts.tolist(), np.cumsum(counts)))
        if i > 0
    ]
