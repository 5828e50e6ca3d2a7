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
