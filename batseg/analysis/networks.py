"""Connectivity of each phase and the table of its particles."""

import numpy as np

from batseg.analysis.region import inscribed_box
from batseg.morphology.connectivity import euler_number, largest_component_fraction, percolating_fraction
from batseg.morphology.particles import particles
from batseg.phases import GRAPHITE, PHASES, SILICON


def connectivity_rows(labels: np.ndarray, voxel_nm: float) -> list[dict]:
    """One row per phase: percolating fraction (6-connected) along z, y, x, largest component, Euler number per volume.

    Measured in the largest labelled box, as percolation needs two ends. NaN for an absent phase.
    """
    box = labels[inscribed_box(labels)]
    volume_um3 = box.size * (voxel_nm / 1e3) ** 3
    rows = []
    for code, phase in enumerate(PHASES):
        mask = box == code
        present = mask.any()
        euler = euler_number(mask, 6) if present else np.nan
        rows.append(
            {"phase": phase}
            | {f"percolating_fraction_{name}": percolating_fraction(mask, axis) for axis, name in enumerate("zyx")}
            | {
                "largest_component_fraction": largest_component_fraction(mask),
                "euler_number": euler,
                "euler_number_per_um3": euler / volume_um3,
                "box_volume_um3": volume_um3,
            }
        )
    return rows


def particle_rows(
    labels: np.ndarray, voxel_nm: float, smallest_voxels: int = 8, split_voxels: float | None = None
) -> list[dict]:
    """One row per particle of graphite and silicon with at least `smallest_voxels` voxels (see `particles`)."""
    rows = []
    for code in (GRAPHITE, SILICON):
        table = particles(labels, code, voxel_nm, split_voxels=split_voxels)
        kept = np.flatnonzero(table["volume_nm3"] >= (smallest_voxels - 0.5) * voxel_nm**3)
        rows += [{"phase": PHASES[code]} | {name: column[i] for name, column in table.items()} for i in kept]
    return rows


def particle_summary_rows(particles: list[dict]) -> list[dict]:
    """One row per active phase from its particles: number, how many are whole, size, shape, orientation.

    Particles that the border cuts count in `particles` only. Diameters are of balls of equal volume; the median is
    weighted by volume. alignment: mean cos² of the angle between a particle's shortest axis and z, by volume; 1/3 for
    random orientation, 1 for flakes lying flat. NaN where no particle is whole.
    """
    rows = []
    for phase in (PHASES[GRAPHITE], PHASES[SILICON]):
        own = [row for row in particles if row["phase"] == phase]
        whole = [row for row in own if not row["touches_border"]]
        volume, diameter, sphericity, elongation, flatness, axis = (
            np.array([row[name] for row in whole], float)
            for name in ("volume_nm3", "diameter_nm", "sphericity", "elongation", "flatness", "axis_z")
        )
        rows.append(
            {"phase": phase, "particles": len(own), "whole_particles": len(whole)}
            | {"median_diameter_nm": _weighted_median(diameter, volume)}
            | {"mean_diameter_nm": diameter.mean() if whole else np.nan}
            | {"mean_sphericity": np.nanmean(sphericity) if whole else np.nan}
            | {"mean_elongation": elongation.mean() if whole else np.nan}
            | {"mean_flatness": flatness.mean() if whole else np.nan}
            | {"alignment": (volume @ axis**2) / volume.sum() if whole else np.nan}
        )
    return rows


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    if not values.size:
        return float("nan")
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
