"""Aggregation multigrid with a K-cycle: the preconditioner of the diffusion solver."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from batseg.analysis.stencil import Stencil

RED_BLACK, BLACK_RED = (0, 1), (1, 0)
DIRECT = 600
"""Grids up to this many cells are solved directly."""


class Multigrid:
    """Approximate inverse of a stencil on blocks of 2 x 2 x 2 cells, level upon level.

    finest: a `Stencil` or its twin on a GPU; levels too small for a GPU are on the CPU.
    Each coarser level is solved by two steps of conjugate gradients preconditioned by the next (a K-cycle): these find
    the right size of the correction by themselves, which the piecewise constant prolongation gets wrong by a factor.
    Source: Notay & Vassilevski, Numer. Linear Algebra Appl. 15 (2008).
    """

    def __init__(self, finest):
        self.levels = [finest]
        while np.prod(self.levels[-1].shape) > DIRECT:
            self.levels.append(self.levels[-1].coarsen())
        self.factor = cho_factor(_dense(self.levels[-1]))
        coarser = self.levels[1:]
        self.right = [None] + [level.field() for level in coarser]
        self.work = [[level.field() for _ in range(4)] for level in coarser[:-1]]

    def solve(self, right: np.ndarray, out: np.ndarray) -> None:
        """out ~ A^-1 right on the finest level (float32 fields with halo)."""
        self._cycle(0, right, out)

    def _cycle(self, level: int, right: np.ndarray, out: np.ndarray) -> None:
        here = self.levels[level]
        if level == len(self.levels) - 1:
            inner = (slice(1, -1),) * 3
            out[inner] = cho_solve(self.factor, right[inner].ravel()).reshape(here.shape)
            return
        out[:] = 0
        here.smooth(out, right, RED_BLACK, from_zero=True)
        here.restrict_residual(out, right, self.right[level + 1])
        here.prolong(self._solve_coarse(level + 1), out)
        here.smooth(out, right, BLACK_RED)

    def _solve_coarse(self, level: int) -> np.ndarray:
        """Two steps of flexible conjugate gradients on self.right[level] (which they overwrite); the solution."""
        here, residual = self.levels[level], self.right[level]
        if level == len(self.levels) - 1:
            solution = here.field()
            self._cycle(level, residual, solution)
            return solution
        solution, direction, applied, preconditioned = self.work[level - 1]
        solution[:] = 0
        self._cycle(level, residual, direction)
        for step in range(2):
            energy = here.apply(direction, applied)
            if energy <= 0:
                break
            here.step(solution, residual, direction, applied, here.dot(residual, direction) / energy)
            if step == 0:
                self._cycle(level, residual, preconditioned)
                here.turn(direction, preconditioned, -here.dot(preconditioned, applied) / energy)
        return solution


def _dense(level: Stencil) -> np.ndarray:
    """The stencil as a dense matrix (float64), with 1 on the diagonal of cells that do not conduct."""
    shape = level.shape
    number = np.arange(np.prod(shape)).reshape(shape)
    matrix = np.zeros((number.size, number.size))
    for axis, faces in enumerate((level.wz, level.wy, level.wx)):
        inner = np.moveaxis(faces, axis, 0)[1:-1].astype(np.float64)
        moved = np.moveaxis(number, axis, 0)
        matrix[moved[:-1], moved[1:]] = matrix[moved[1:], moved[:-1]] = -inner
        outer = np.moveaxis(faces, axis, 0).astype(np.float64)
        matrix[number, number] += np.moveaxis(outer[:-1] + outer[1:], 0, axis)
    diagonal = np.arange(number.size)
    matrix[diagonal, diagonal] = np.where(matrix[diagonal, diagonal] > 0, matrix[diagonal, diagonal], 1.0)
    return matrix
