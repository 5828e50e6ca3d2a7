"""Sub-volumes of similar composition, compared across cycling states (text on Fig. 8; Supplementary Fig. 8b)."""

import numpy as np

from batseg.analysis.composition import volume_fractions
from batseg.analysis.diffusion import solve_diffusion
from batseg.analysis.region import cubes
from batseg.analysis.sizes import size_values
from batseg.analysis.transport import AXES
from batseg.morphology.interfaces import coverage
from batseg.phases import CBD, GRAPHITE, PHASES, PORE, SILICON
from batseg.progress import track

QUANTITIES = (
    "D_rel",
    "median_pore_radius_nm",
    "median_cbd_radius_nm",
    "coverage_silicon_by_cbd",
    "coverage_graphite_by_cbd",
)


def subvolume_rows(labels: np.ndarray, voxel_nm: float, through_plane: str = "z", edge: int = 48) -> list[dict]:
    """One row per cube of `edge` voxels: place, fractions, D_rel through plane, radii, coverage; [] if none fits."""
    rows = []
    axis = AXES.index(through_plane)
    for number, cube in enumerate(track(cubes(labels, edge), "sub-volumes")):
        part = np.ascontiguousarray(labels[cube])
        fractions = volume_fractions(part)
        radii = {
            phase: size_values(part, (phase,), voxel_nm, "local thickness") if fractions[phase] else np.array([np.nan])
            for phase in (PORE, CBD)
        }
        rows.append(
            {"subvolume": number, "edge_nm": edge * voxel_nm}
            | {f"corner_{name}_voxel": side.start for name, side in zip(AXES, cube)}
            | {f"volume_fraction_{phase}": value for phase, value in zip(PHASES, fractions)}
            | {
                "D_rel": solve_diffusion(part, np.array([1.0, 0, 0, 0]), axis).d_rel if fractions[PORE] else np.nan,
                "median_pore_radius_nm": float(np.median(radii[PORE])),
                "median_cbd_radius_nm": float(np.median(radii[CBD])),
                "coverage_silicon_by_cbd": coverage(part, SILICON)["cbd"],
                "coverage_graphite_by_cbd": coverage(part, GRAPHITE)["cbd"],
            }
        )
    return rows


def similar(rows: list[dict], tolerance: float = 0.02) -> list[dict]:
    """The sub-volumes whose phase fractions all lie within `tolerance` of the median over all sub-volumes.

    The paper does not state its rule; this is ours.
    """
    if not rows:
        return []
    fractions = np.array([[row[f"volume_fraction_{phase}"] for phase in PHASES] for row in rows])
    near = np.abs(fractions - np.median(fractions, axis=0)).max(axis=1) <= tolerance
    return [row for row, kept in zip(rows, near) if kept]
