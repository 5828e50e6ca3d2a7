"""Steady diffusion through a volume: conjugate gradients on the voxel grid, preconditioned by multigrid."""

from dataclasses import dataclass, field

import numpy as np

from batseg.analysis.multigrid import Multigrid
from batseg.analysis.stencil import inner_products, slice_fluxes, stencil_of_codes, step_along, turn
from batseg.morphology.connectivity import percolating
from batseg.morphology.slabs import in_slabs


@dataclass(frozen=True)
class Diffusion:
    """Result of `solve_diffusion`.

    d_rel: effective over intrinsic diffusivity. conducting: fraction of conducting voxels. unconnected: share of them
    that no path joins with both ends (they carry nothing). history: (flux imbalance, d_rel) after every iteration.
    field: concentration (z, y, x), NaN outside the connected conductor, only if asked for.
    """

    d_rel: float
    conducting: float
    unconnected: float
    iterations: int
    history: list[tuple[float, float]] = field(default_factory=list)
    field: np.ndarray | None = None


def solve_diffusion(
    codes: np.ndarray,
    conductivity: np.ndarray,
    axis: int = 0,
    tolerance: float = 1e-3,
    limit: int = 200,
    keep_field: bool = False,
) -> Diffusion:
    """Effective diffusivity along an axis: concentration 1 and 0 on the two end planes, no flux through the sides.

    codes: integer volume; conductivity[code] is relative to the free electrolyte, 0 for an insulator. Finite volumes
    with harmonic face means; stops when the largest and the smallest flux through any cross-section differ by less
    than `tolerance` of the mean and d_rel changed by less. d_rel comes from the dissipated energy, an upper bound that
    is accurate to about the square of the imbalance. Nothing connected gives d_rel = 0. Raises ValueError if `limit`
    iterations do not suffice.
    Source: paper, Methods (Laplace equation, Dirichlet ends, symmetric sides, tolerance 0.001).
    """
    codes = np.ascontiguousarray(np.moveaxis(codes, axis, 0), dtype=np.uint8)
    conductivity = np.asarray(conductivity, np.float64)
    if (conductivity < 0).any() or codes.max(initial=0) >= conductivity.size:
        raise ValueError(f"conductivity needs one value >= 0 for each code 0..{codes.max()}, got {conductivity}")
    if codes.shape[0] < 2:
        raise ValueError(f"transport needs at least 2 voxels along axis {axis}, got {codes.shape[0]}")
    conducts = conductivity[codes] > 0
    connected = percolating(conducts, 0)
    fraction, joined = conducts.mean(), connected.mean()
    if joined == 0:
        return Diffusion(0.0, float(fraction), 1.0 if fraction > 0 else 0.0, 0)
    blocked = np.where(connected, codes, conductivity.size).astype(np.uint8)
    del conducts
    operator = stencil_of_codes(blocked, np.append(conductivity, 0.0))
    solution, history = _conjugate_gradients(operator, connected, tolerance, limit)
    if keep_field:
        inner = np.where(connected, solution[1:-1, 1:-1, 1:-1], np.nan)
        inner = np.ascontiguousarray(np.moveaxis(inner, 0, axis))
    return Diffusion(
        history[-1][1],
        float(fraction),
        float(1 - joined / fraction),
        len(history) - 1,
        history,
        inner if keep_field else None,
    )


def _conjugate_gradients(operator, connected, tolerance, limit):
    """Solve for the concentration; the solution with halo and the history."""
    depth, height, width = operator.shape
    solution, residual, direction, applied = (operator.field(np.float64) for _ in range(4))
    levels = 1 - (np.arange(depth, dtype=float) + 0.5) / depth
    np.multiply(connected, levels[:, None, None], out=solution[1:-1, 1:-1, 1:-1])
    operator.apply(solution, applied)
    np.negative(applied, out=residual)
    residual[1, 1:-1, 1:-1] += operator.wz[0]
    multigrid = Multigrid(operator)
    right, preconditioned = operator.field(), operator.field()
    entering = float(operator.wz[0].sum(dtype=np.float64))
    history, fluxes, energy = [], np.empty(depth + 1), 0.0
    for iteration in range(limit + 1):
        in_slabs(slice_fluxes, depth + 1, residual.size, operator.wz, solution, 1.0, 0.0, fluxes)
        imbalance = float((fluxes.max() - fluxes.min()) / fluxes.mean())
        d_rel = _energy(operator, solution, residual, entering) * depth / (height * width)
        history.append((imbalance, d_rel))
        settled = iteration > 0 and abs(d_rel - history[-2][1]) < tolerance * d_rel
        if (settled and abs(imbalance) < tolerance) or _norm(operator, residual) == 0:
            return solution, history
        right[:] = residual
        multigrid.solve(right, preconditioned)
        if iteration == 0:
            direction[:] = preconditioned
        else:
            along = sum(one for one, _ in operator.slabs(inner_products, preconditioned, applied, applied))
            operator.slabs(turn, direction, preconditioned, -along / energy)
        energy = operator.apply(direction, applied)
        size = sum(one for one, _ in operator.slabs(inner_products, residual, direction, direction))
        operator.slabs(step_along, solution, residual, direction, applied, size / energy)
    raise ValueError(f"diffusion did not converge to {tolerance:g} in {limit} iterations (now {history[-1][0]:.2g})")


def _norm(operator, field) -> float:
    return sum(one for one, _ in operator.slabs(inner_products, field, field, field))


def _energy(operator, solution, residual, entering: float) -> float:
    """Dissipation of the field: entering - b.c - r.c, with b the entering conductances at concentration 1."""
    given = float((operator.wz[0].astype(np.float64) * solution[1, 1:-1, 1:-1]).sum())
    rest = sum(one for one, _ in operator.slabs(inner_products, solution, residual, residual))
    return entering - given - rest
