"""Effective transport through the pore space, including and neglecting CBD (Table 2)."""

from collections.abc import Iterator, Sequence

import numpy as np

from batseg.analysis.diffusion import solve_diffusion
from batseg.analysis.region import downscaled, inscribed_box
from batseg.phases import CBD, GRAPHITE, PHASES, PORE

CBD_POROSITY = 0.27
"""Unresolved pores inside CBD. Source: paper, text (FIB-SEM, 27 ± 3 %)."""

AXES = "zyx"


def conductors(cbd_diffusivity: float | None = None) -> dict[str, np.ndarray]:
    """Relative diffusivity of (pore, graphite, silicon, CBD) for each conductor.

    pore: CBD blocks (the paper's "including CBD"). pore+cbd: CBD counts as pore ("neglecting CBD"). With a value,
    pore+porous_cbd: CBD conducts by that much; porosity^1.5 = 0.14 is Bruggeman's estimate for its 27 % pores.
    """
    found = {"pore": np.array([1.0, 0, 0, 0]), "pore+cbd": np.array([1.0, 0, 0, 1.0])}
    if cbd_diffusivity is not None:
        if not 0 <= cbd_diffusivity <= 1:
            raise ValueError(f"cbd_diffusivity is a share of the free electrolyte's, 0 to 1; got {cbd_diffusivity}")
        found["pore+porous_cbd"] = np.array([1.0, 0, 0, cbd_diffusivity])
    return found


def porosity(fractions: np.ndarray, conductor: str) -> float:
    """Pore volume fraction epsilon of a conductor: CBD counts fully, with its own porosity, or not at all."""
    share = {"pore": 0.0, "pore+cbd": 1.0, "pore+porous_cbd": CBD_POROSITY}[conductor]
    return float(fractions[PORE] + share * fractions[CBD])


def transport_rows(
    labels: np.ndarray,
    voxel_nm: float,
    through_plane: str = "z",
    directions: str = AXES,
    downscale: Sequence[int] = (2,),
    tolerance: Sequence[float] = (1e-3,),
    cbd_diffusivity: float | None = CBD_POROSITY**1.5,
) -> Iterator[dict]:
    """One row per conductor, direction, downscale and tolerance; lazily, as each takes its time.

    Settings after the first downscale and tolerance are there to compare with: they are solved through plane only.

    D_rel = D_eff / D, tau_factor = epsilon / D_rel (the paper's tortuosity), sqrt_tau its square root. epsilon counts
    all pores, also those that no path joins with both ends (`unconnected` is their share). Measured in the largest
    labelled box. A direction with fewer than two voxels, or a conductor whose phases are all absent, gives NaN.
    Nothing connected gives D_rel 0 and infinite tau. `history` is (flux imbalance, D_rel) after every iteration.
    Source: paper, Methods and Table 2 (downscale 2, tolerance 1e-3).
    """
    whole = labels[inscribed_box(labels)]
    for factor in downscale:
        box = downscaled(whole, int(factor))
        box = np.where(box < len(PHASES), box, GRAPHITE).astype(np.uint8)  # cannot happen inside the box
        fractions = np.bincount(box.ravel(), minlength=len(PHASES)) / box.size
        for conductor, diffusivity in conductors(cbd_diffusivity).items():
            for limit in tolerance:
                first = (factor, limit) == (downscale[0], tolerance[0])
                for direction in directions if first else through_plane:
                    yield {
                        "conductor": conductor,
                        "direction": direction,
                        "through_plane": direction == through_plane,
                        "downscale": int(factor),
                        "tolerance": float(limit),
                        "voxel_nm": voxel_nm * factor,
                        "box_voxels": "x".join(map(str, box.shape)),
                    } | _solved(box, fractions, conductor, diffusivity, direction, float(limit))


def _solved(box, fractions, conductor, diffusivity, direction, tolerance) -> dict:
    epsilon = porosity(fractions, conductor)
    axis = AXES.index(direction)
    if epsilon == 0 or box.shape[axis] < 2:
        blank = dict.fromkeys(("epsilon", "D_rel", "tau_factor", "sqrt_tau", "unconnected", "flux_imbalance"), np.nan)
        return blank | {"iterations": 0, "history": []}
    found = solve_diffusion(box, diffusivity, axis, tolerance)
    tau = epsilon / found.d_rel if found.d_rel > 0 else np.inf
    return {
        "epsilon": epsilon,
        "D_rel": found.d_rel,
        "tau_factor": tau,
        "sqrt_tau": np.sqrt(tau),
        "unconnected": found.unconnected,
        "flux_imbalance": found.history[-1][0] if found.history else np.nan,
        "iterations": found.iterations,
        "history": found.history,
    }
