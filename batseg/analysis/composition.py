"""Volume fractions, CBD's share of the pore space, and how representative the volume is (Fig. 7a)."""

import numpy as np

from batseg.analysis.region import cubes, inscribed_box
from batseg.phases import CBD, NOMINAL_FRACTIONS, PHASES, PORE

RECIPE_WEIGHT = {"graphite": 0.75, "silicon": 0.10, "pvdf": 0.10, "carbon black": 0.05}
DENSITY_G_CM3 = {"graphite": 2.26, "silicon": 2.13, "pvdf": 1.78, "carbon black": 1.9}
"""Weight fractions of the slurry (paper, Methods) and densities: textbook values, our choice; silicon is SiO."""


def expected_fractions(porosity: float = NOMINAL_FRACTIONS["pore"], binder_porosity: float = 0.0) -> dict[str, float]:
    """Volume fractions of the slurry recipe at a given porosity.

    binder_porosity: unresolved pores inside CBD as a share of its envelope; 0 treats CBD as dense. With 0 this gives
    0.35 graphite and 0.09 CBD, with the 27 % of the paper 0.33 and 0.11; the paper's own dashed lines are
    `NOMINAL_FRACTIONS`.
    """
    volume = {name: weight / DENSITY_G_CM3[name] for name, weight in RECIPE_WEIGHT.items()}
    binder = (volume.pop("pvdf") + volume.pop("carbon black")) / (1 - binder_porosity)
    total = sum(volume.values()) + binder
    solid = {name: value / total for name, value in (*volume.items(), ("cbd", binder))}
    return {"pore": porosity} | {name: (1 - porosity) * solid[name] for name in PHASES[1:]}


def volume_fractions(labels: np.ndarray) -> np.ndarray:
    """Fraction of each phase among the labelled voxels, (4,); NaN if nothing is labelled."""
    counts = np.bincount(np.ravel(labels), minlength=256)[: len(PHASES)].astype(float)
    return counts / counts.sum() if counts.sum() else np.full(len(PHASES), np.nan)


def subvolume_fractions(labels: np.ndarray, edge: int) -> np.ndarray:
    """Fractions in each of the `cubes` of `edge` voxels, (n, 4)."""
    parts = [volume_fractions(labels[cube]) for cube in cubes(labels, edge)]
    return np.array(parts).reshape(-1, len(PHASES))


def integral_range(labels: np.ndarray, phase: int) -> float:
    """Integral range A3 of a phase in voxels: the volume that counts as one independent sample.

    From the scatter of the fraction among cubes of several edges, var = p (1 - p) A3 (1/V_cube - 1/V), median over the
    edges. The standard error of the fraction in V is sqrt(p (1 - p) A3 / V). NaN for an absent phase or a volume too
    small to cut eight cubes from. Source: Matheron 1971; Kanit et al., Int. J. Solids Struct. 40 (2003).
    """
    values = []
    for edge in _edges(labels):
        fractions = subvolume_fractions(labels, edge)[:, phase]
        mean = fractions.mean()
        if 0 < mean < 1:
            shrink = 1 / edge**3 - 1 / (len(fractions) * edge**3)
            values.append(fractions.var() / (mean * (1 - mean)) / shrink)
    return float(np.median(values)) if values else float("nan")


def _edges(labels: np.ndarray) -> list[int]:
    """Up to four cube edges in voxels, falling by a third, that cut the inscribed box into at least eight cubes."""
    lengths = np.array([part.stop - part.start for part in inscribed_box(labels)])
    edges, edge = [], int(lengths.min())
    while edge >= 8 and len(edges) < 4:
        if np.prod(lengths // edge) >= 8:
            edges.append(edge)
        edge = edge * 2 // 3
    return edges


def composition_rows(labels: np.ndarray, voxel_nm: float, representative: bool = True) -> list[dict]:
    """One row per phase: fraction beside the recipe's, its standard error, CBD's share of the pore space.

    The shares are given for both readings of the paper's 17 %: CBD / pore and CBD / (pore + CBD). Sub-volume numbers
    are of the largest cubes of the integral range (NaN with representative=False). An absent phase has fraction NaN.
    """
    fractions = volume_fractions(labels)
    labelled = np.count_nonzero(labels < len(PHASES))
    dense, porous = expected_fractions(), expected_fractions(binder_porosity=0.27)
    edges = _edges(labels) if representative else []
    rows = []
    for code, phase in enumerate(PHASES):
        present = fractions[code] > 0
        share = fractions[code] if present else np.nan
        cells = integral_range(labels, code) if present and edges else np.nan
        scatter = subvolume_fractions(labels, edges[0])[:, code] if edges else np.array([])
        is_cbd = code == CBD and present
        with np.errstate(invalid="ignore", divide="ignore"):
            rows.append(
                {
                    "phase": phase,
                    "volume_fraction": share,
                    "expected_volume_fraction": NOMINAL_FRACTIONS[phase],
                    "recipe_volume_fraction_dense_cbd": dense[phase],
                    "recipe_volume_fraction_porous_cbd": porous[phase],
                    "standard_error": np.sqrt(share * (1 - share) * cells / labelled),
                    "integral_range_um3": cells * (voxel_nm / 1e3) ** 3,
                    "labelled_volume_um3": labelled * (voxel_nm / 1e3) ** 3,
                    "volume_for_5_percent_error_um3": _needed_volume(share, cells) * (voxel_nm / 1e3) ** 3,
                    "subvolume_edge_nm": edges[0] * voxel_nm if edges else np.nan,
                    "subvolume_count": len(scatter),
                    "subvolume_std": scatter.std(ddof=1) if present and len(scatter) > 1 else np.nan,
                    "share_of_pore": share / fractions[PORE] if is_cbd else np.nan,
                    "share_of_pore_and_cbd": share / (fractions[PORE] + share) if is_cbd else np.nan,
                }
            )
    return rows


def _needed_volume(fraction: float, cells: float, error: float = 0.05) -> float:
    """Voxels in which the fraction's standard error is `error` of the fraction."""
    return (1 - fraction) / fraction * cells / error**2
