"""Steady diffusion through a volume: conjugate gradients on the voxel grid, preconditioned by multigrid."""

from dataclasses import dataclass, field

import numpy as np

from batseg.analysis.multigrid import Multigrid
from batseg.analysis.stencil import stencil_of_codes
from batseg.morphology.connectivity import percolating
from batseg.morphology.slabs import SMALL


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
    device: str | None = None,
) -> Diffusion:
    """Effective diffusivity along an axis: concentration 1 and 0 on the two end planes, no flux through the sides.

    codes: integer volume; conductivity[code] is relative to the free electrolyte, 0 for an insulator. Finite volumes
    with harmonic face means; stops when the largest and the smallest flux through any cross-section differ by less
    than `tolerance` of the mean and d_rel changed by less. d_rel comes from the dissipated energy, an upper bound that
    is accurate to about the square of the imbalance. Nothing connected gives d_rel = 0. Raises ValueError if `limit`
    iterations do not suffice. device: where to solve (a torch device); None takes a GPU for large volumes if there is
    one and compiled kernels on all processors otherwise.
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
    del conducts, codes
    operator = _operator(blocked, np.append(conductivity, 0.0), device)
    solution, history = _conjugate_gradients(operator, connected, tolerance, limit)
    if keep_field:
        inner = np.where(connected, operator.on_cpu(solution)[1:-1, 1:-1, 1:-1], np.nan)
        inner = np.ascontiguousarray(np.moveaxis(inner, 0, axis))
    return Diffusion(
        history[-1][1],
        float(fraction),
        float(1 - joined / fraction),
        len(history) - 1,
        history,
        inner if keep_field else None,
    )


def _operator(codes: np.ndarray, conductivity: np.ndarray, device: str | None):
    """The stencil on the processor that should solve it."""
    if codes.size <= SMALL and device is None:
        return stencil_of_codes(codes, conductivity)
    from batseg.analysis.stencil_gpu import gpu_available, gpu_stencil_of_codes  # torch takes seconds to import

    if device is None and not gpu_available():
        return stencil_of_codes(codes, conductivity)
    return gpu_stencil_of_codes(codes, conductivity, device or "cuda")


def _conjugate_gradients(operator, connected: np.ndarray, tolerance: float, limit: int):
    """Solve for the concentration; the solution with halo and the history. Flexible: the K-cycle is not linear."""
    depth, height, width = operator.shape
    solution, residual, direction, applied = (operator.field(double=True) for _ in range(4))
    operator.fill(solution, connected * (1 - (np.arange(depth) + 0.5) / depth)[:, None, None])
    operator.apply(solution, applied)
    residual -= applied
    residual[1, 1:-1, 1:-1] += operator.wz[0]
    multigrid = Multigrid(operator)
    right, preconditioned = operator.field(), operator.field()
    preconditioned[:] = 1
    entering = operator.entering(preconditioned)
    history, energy = [], 0.0
    for iteration in range(limit + 1):
        fluxes = operator.fluxes(solution)
        imbalance = float((fluxes.max() - fluxes.min()) / fluxes.mean())
        # Dissipation of the field: b.1 - b.c - r.c, with b the conductances of the end at concentration 1.
        dissipated = entering - operator.entering(solution) - operator.dot(solution, residual)
        d_rel = dissipated * depth / (height * width)
        history.append((imbalance, d_rel))
        settled = iteration > 0 and abs(d_rel - history[-2][1]) < tolerance * d_rel
        if (settled and abs(imbalance) < tolerance) or operator.dot(residual, residual) == 0:
            return solution, history
        right[:] = residual
        multigrid.solve(right, preconditioned)
        if iteration == 0:
            direction[:] = preconditioned
        else:
            operator.turn(direction, preconditioned, -operator.dot(preconditioned, applied) / energy)
        energy = operator.apply(direction, applied)
        operator.step(solution, residual, direction, applied, operator.dot(residual, direction) / energy)
    raise ValueError(f"diffusion did not converge to {tolerance:g} in {limit} iterations (now {history[-1][0]:.2g})")
