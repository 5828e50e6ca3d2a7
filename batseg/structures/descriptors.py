"""Descriptors of a label volume that a recipe is matched with: composition, lengths, contacts, particles."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from batseg.morphology.chords import chord_lengths
from batseg.morphology.correlation import two_point_correlation
from batseg.morphology.interfaces import coverage, specific_interface_areas
from batseg.morphology.particles import find_instances, particles
from batseg.morphology.thickness import local_thickness
from batseg.phases import CBD, GRAPHITE, NOT_LABELLED, PHASES, PORE, SILICON

LAGS_NM = (250, 500, 1000, 1500)
SHELLS = 8


def describe_structure(labels: np.ndarray, voxel_nm: float) -> dict[str, float]:
    """Descriptors of a label volume by name; lengths in nm, not labelled voxels left out, NaN for an absent phase."""
    valid = labels != NOT_LABELLED
    found: dict[str, float] = {}
    areas = specific_interface_areas(labels, voxel_nm)
    for code, name in enumerate(PHASES):
        mask = labels == code
        share = mask.sum() / valid.sum()
        found[f"fraction {name}"] = share
        for axes, label in (((0,), "z"), ((1, 2), "xy")):
            chords = np.concatenate([chord_lengths(mask, axis, voxel_nm, valid) for axis in axes])
            found[f"chord {label} {name}"] = (chords**2).sum() / chords.sum() if chords.size else np.nan  # by length
        found[f"surface {name} per um"] = areas[code].sum() * 1e3
        lags = min(int(max(LAGS_NM) / voxel_nm) + 1, min(labels.shape) - 1)
        correlation = two_point_correlation(mask, voxel_nm=voxel_nm, lags=lags, valid=valid)
        for lag in LAGS_NM:
            if lag <= correlation.lag_nm[-1]:
                s2 = np.interp(lag, correlation.lag_nm, correlation.radial)
                found[f"correlation {name} {lag}"] = (s2 - share**2) / (share - share**2) if 0 < share < 1 else np.nan
    for code in (GRAPHITE, SILICON):
        covered = coverage(labels, code)
        found[f"coverage {PHASES[code]}"] = covered["cbd"]
        found |= _shells(labels, code, voxel_nm)
    for code in (PORE, CBD):
        thickness = local_thickness(labels == code, valid=valid)
        inside = thickness[labels == code]
        found[f"thickness {PHASES[code]}"] = 2 * voxel_nm * np.median(inside) if inside.size else np.nan
    graphite = labels == GRAPHITE
    closed = ndimage.binary_closing(graphite, ndimage.generate_binary_structure(3, 1), iterations=2)
    found["slits graphite"] = np.count_nonzero(closed & (labels == PORE)) / max(np.count_nonzero(graphite), 1)
    for code in (GRAPHITE, SILICON):
        found |= _particle_descriptors(labels, code, voxel_nm)
    return {name: float(value) for name, value in found.items()}


def _shells(labels: np.ndarray, code: int, voxel_nm: float) -> dict[str, float]:
    """Share of CBD in pore and CBD in shells of one voxel around a phase."""
    distance = ndimage.distance_transform_edt(labels != code)
    open_space = (labels == PORE) | (labels == CBD)
    found = {}
    for shell in range(1, SHELLS + 1):
        inside = open_space & (distance > shell - 1) & (distance <= shell)
        count = np.count_nonzero(inside)
        found[f"shell {PHASES[code]} {shell}"] = np.count_nonzero(labels[inside] == CBD) / count if count else np.nan
    return found


def _particle_descriptors(labels: np.ndarray, code: int, voxel_nm: float) -> dict[str, float]:
    """Size by volume, flatness and orientation of particles cut apart at their necks."""
    name = PHASES[code]
    mask = ndimage.binary_closing(labels == code, ndimage.generate_binary_structure(3, 1)) & (labels != NOT_LABELLED)
    table = particles(np.where(mask, code, 0).astype(np.uint8), code, voxel_nm, find_instances(mask, split_voxels=1))
    large = table["volume_nm3"] > (5 * voxel_nm) ** 3
    if not large.any():
        return {f"{what} {name}": np.nan for what in ("particle", "flatness", "cos2")}
    weight, size = table["volume_nm3"][large], table["diameter_nm"][large]
    order = np.argsort(size)
    middle = min(np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2), len(size) - 1)
    flat = 2 * table["height_nm"][large] / (table["length_nm"] + table["width_nm"])[large]
    return {
        f"particle {name}": size[order][middle],
        f"flatness {name}": np.average(flat, weights=weight),
        f"cos2 {name}": np.average(table["axis_z"][large] ** 2, weights=weight),
    }


def mean_descriptors(volumes: Sequence[np.ndarray], voxel_nm: float) -> dict[str, float]:
    """Descriptors averaged over volumes."""
    tables = [describe_structure(labels, voxel_nm) for labels in volumes]
    return {name: float(np.mean([table[name] for table in tables])) for name in tables[0]}
