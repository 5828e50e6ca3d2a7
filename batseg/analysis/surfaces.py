"""Surface coverage of the active phases (Fig. 7b) and CBD in shells around them (Fig. 8d, e)."""

import numpy as np

from batseg.morphology.interfaces import METHODS, areas_from_counts, coverage_from_areas, pair_counts
from batseg.morphology.thickness import squared_distance
from batseg.phases import CBD, GRAPHITE, NOT_LABELLED, PHASES, PORE, SILICON

DENOMINATORS = ("all contacts", "pore+cbd")
ACTIVE = (GRAPHITE, SILICON)
RULES = ("excluded", "nearest")
SHELL_NM, LIMIT_NM = 61.0, 600.0
"""Shell width and largest distance. Source: paper, Fig. 8 and text."""

SLICES = 32
"""Slices at a time, to spare memory."""


def coverage_rows(labels: np.ndarray, voxel_nm: float) -> list[dict]:
    """One row per active phase, neighbour, method (crofton13, faces) and denominator; NaN where the phase is absent."""
    counts = pair_counts(labels)
    rows = []
    for method in METHODS:
        areas = areas_from_counts(counts, method)
        for phase in ACTIVE:
            for denominator in DENOMINATORS:
                for neighbour, share in coverage_from_areas(areas, phase, denominator).items():
                    area = areas[phase, PHASES.index(neighbour)] * (voxel_nm / 1e3) ** 2
                    rows.append(
                        {
                            "phase": PHASES[phase],
                            "neighbour": neighbour,
                            "method": method,
                            "denominator": denominator,
                            "coverage": share,
                            "area_um2": area if areas[phase].sum() > 0 else np.nan,
                        }
                    )
    return rows


def shell_rows(
    labels: np.ndarray, voxel_nm: float, shell_nm: float = SHELL_NM, limit_nm: float = LIMIT_NM
) -> list[dict]:
    """CBD content of shells around graphite and around silicon, by distance from the surface outward.

    Shell j holds the pore and CBD voxels with (j - 1) shell_nm < d <= j shell_nm, d the distance between voxel centres
    to the nearest voxel of the phase; voxels beyond limit_nm count nowhere. Where the shells of the two phases overlap
    a voxel is left out (rule 'excluded': nothing within limit_nm of the other phase) or given to the nearer phase
    ('nearest'; a tie to both). cbd_content is NaN in an empty shell and where the phase is absent.
    Source: paper, Fig. 8b-e; the first shell compares with the coverage by faces, denominator pore+cbd.
    """
    valid = labels != NOT_LABELLED
    squared = {phase: squared_distance(valid & (labels != phase), valid) for phase in ACTIVE if (labels == phase).any()}
    shells = int(np.ceil(limit_nm / shell_nm - 1e-6))
    total = {(phase, rule): np.zeros(shells, np.int64) for phase in ACTIVE for rule in RULES}
    binder = {key: np.zeros(shells, np.int64) for key in total}
    for start in range(0, len(labels), SLICES):
        part = labels[start : start + SLICES]
        space = (part == PORE) | (part == CBD)
        is_cbd = part[space] == CBD
        distances = {phase: np.full(is_cbd.shape, np.inf) for phase in ACTIVE}
        for phase, whole in squared.items():
            distances[phase] = np.sqrt(whole[start : start + SLICES][space]) * voxel_nm
        for phase, other in zip(ACTIVE, ACTIVE[::-1]):
            near, far = distances[phase], distances[other]
            for rule in RULES:
                alone = far > limit_nm + 1e-3 if rule == "excluded" else near <= far
                kept = (near <= limit_nm + 1e-3) & alone
                number = np.ceil(near[kept] / shell_nm - 1e-4).astype(np.int64) - 1
                total[phase, rule] += np.bincount(number, minlength=shells)
                binder[phase, rule] += np.bincount(number[is_cbd[kept]], minlength=shells)
    rows = []
    for (phase, rule), voxels in total.items():
        for shell in range(shells):
            rows.append(
                {
                    "phase": PHASES[phase],
                    "rule": rule,
                    "shell": shell + 1,
                    "distance_from_nm": shell * shell_nm,
                    "distance_to_nm": min((shell + 1) * shell_nm, limit_nm),
                    "cbd_content": binder[phase, rule][shell] / voxels[shell] if voxels[shell] else np.nan,
                    "voxels": int(voxels[shell]),
                }
            )
    return rows
