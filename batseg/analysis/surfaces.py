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
    space = (labels == PORE) | (labels == CBD)
    is_cbd = (labels == CBD)[space]
    distances = {}
    for phase in ACTIVE:
        if (labels == phase).any():
            distances[phase] = np.sqrt(squared_distance((labels != phase) & valid, valid)[space]) * voxel_nm
        else:
            distances[phase] = np.full(is_cbd.shape, np.inf)
    shells = int(np.ceil(limit_nm / shell_nm - 1e-6))
    rows = []
    for phase, other in zip(ACTIVE, ACTIVE[::-1]):
        near, far = distances[phase], distances[other]
        for rule in RULES:
            kept = (near <= limit_nm + 1e-3) & ((far > limit_nm + 1e-3) if rule == "excluded" else (near <= far))
            number = np.ceil(near[kept] / shell_nm - 1e-4).astype(int) - 1
            total = np.bincount(number, minlength=shells)
            binder = np.bincount(number, is_cbd[kept], minlength=shells)
            for shell in range(shells):
                rows.append(
                    {
                        "phase": PHASES[phase],
                        "rule": rule,
                        "shell": shell + 1,
                        "distance_from_nm": shell * shell_nm,
                        "distance_to_nm": min((shell + 1) * shell_nm, limit_nm),
                        "cbd_content": binder[shell] / total[shell] if total[shell] else np.nan,
                        "voxels": int(total[shell]),
                    }
                )
    return rows
