"""How alike two electrodes look: descriptors of label volumes and the distances between them (paper, Fig. 5)."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import wasserstein_distance

from batseg.morphology.chords import chord_lengths
from batseg.morphology.correlation import two_point_correlation
from batseg.morphology.interfaces import areas_from_counts, coverage_from_areas, pair_counts
from batseg.morphology.thickness import local_thickness
from batseg.phases import CBD, GRAPHITE, NOT_LABELLED, PHASES, SILICON

CBD_MEASURES = ("correlation_cbd", "chords_cbd", "thickness_cbd", "coverage_silicon", "coverage_graphite")


def describe_style(labels: np.ndarray, voxel_nm: float, lags: int = 16) -> dict:
    """Descriptors of one label volume (z, y, x; 255 is left out).

    fractions: per phase. correlation_PHASE: S2(r) for 0 to `lags` voxels. chords_PHASE: all complete chords, nm.
    thickness_cbd: local thickness (radius) of each cbd voxel, nm. coverage_silicon, coverage_graphite: share of the
    surface that cbd covers. specific_surface_cbd: area per volume, 1/um.
    """
    valid = labels != NOT_LABELLED
    counts = np.bincount(labels[valid], minlength=len(PHASES))
    areas = areas_from_counts(pair_counts(labels)) * voxel_nm**2
    described = {"fractions": counts / counts.sum()}
    for phase, name in enumerate(PHASES):
        mask = labels == phase
        described[f"correlation_{name}"] = two_point_correlation(mask, voxel_nm=voxel_nm, lags=lags, valid=valid).radial
        described[f"chords_{name}"] = np.concatenate([chord_lengths(mask, axis, voxel_nm, valid) for axis in range(3)])
    thickness = local_thickness(labels == CBD, voxel_nm, valid)
    described["thickness_cbd"] = thickness[labels == CBD]
    described["coverage_silicon"] = coverage_from_areas(areas, SILICON)["cbd"]
    described["coverage_graphite"] = coverage_from_areas(areas, GRAPHITE)["cbd"]
    described["specific_surface_cbd"] = 1e3 * float(areas[CBD].sum()) / (counts.sum() * voxel_nm**3)
    return described


def style_distance(first: Mapping, second: Mapping) -> dict[str, float]:
    """Distances of two descriptions; each is 0 for equal ones.

    correlation: mean |difference| of S2(r)/S2(0), so that a difference in fraction counts little. chords, thickness:
    Wasserstein distance over the second's mean. coverage, specific surface: |difference| (coverage in shares, surface
    relative to the second's). cbd: mean of the cbd measures, each a share of the second's own size.
    """
    distance = {"fractions": float(np.abs(first["fractions"] - second["fractions"]).max())}
    for name in PHASES:
        one, two = first[f"correlation_{name}"], second[f"correlation_{name}"]
        distance[f"correlation_{name}"] = float(np.abs(one / one[0] - two / two[0]).mean())
    for name in (*(f"chords_{phase}" for phase in PHASES), "thickness_cbd"):
        one, two = first[name], second[name]
        both = len(one) > 0 and len(two) > 0
        distance[name] = float(wasserstein_distance(one, two) / two.mean()) if both else float("nan")
    for name in ("coverage_silicon", "coverage_graphite"):
        distance[name] = abs(first[name] - second[name])
    surfaces = first["specific_surface_cbd"], second["specific_surface_cbd"]
    distance["specific_surface_cbd"] = abs(surfaces[0] / surfaces[1] - 1)
    return distance


def pooled(descriptions: Sequence[Mapping]) -> dict:
    """One description of several volumes: chords and thicknesses together, everything else its mean."""
    return {
        key: (np.concatenate if key.startswith(("chords", "thickness")) else _mean)([one[key] for one in descriptions])
        for key in descriptions[0]
    }


def _mean(values: Sequence) -> np.ndarray:
    return np.mean(values, axis=0)
