"""Seven-point conductance stencils on a grid: the compiled kernels of the diffusion solver.

A level is a grid of cells with a conductance on every face: `wz` (nz + 1, ny, nx), `wy` (nz, ny + 1, nx) and `wx`
(nz, ny, nx + 1). The outer faces of wz hold the Dirichlet ends, those of wy and wx are 0 (no flux). Fields have a
halo of one zero cell on every side, (nz + 2, ny + 2, nx + 2), so that no kernel needs a case for the border.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from batseg.morphology.slabs import in_slabs

FAST = {"nogil": True, "cache": True, "fastmath": True, "error_model": "numpy"}


@dataclass(frozen=True)
class Stencil:
    """Face conductances of a grid and the inverse of their sum in each cell (0 where the cell does not conduct)."""

    wz: np.ndarray
    wy: np.ndarray
    wx: np.ndarray
    inverse_diagonal: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.inverse_diagonal.shape

    def field(self, double: bool = False) -> np.ndarray:
        """A zero field with its halo."""
        return np.zeros([length + 2 for length in self.shape], np.float64 if double else np.float32)

    def fill(self, field: np.ndarray, values: np.ndarray) -> None:
        """Set a field to values without a halo."""
        field[1:-1, 1:-1, 1:-1] = values

    def on_cpu(self, field: np.ndarray) -> np.ndarray:
        return field

    def slabs(self, kernel, *arguments) -> list:
        return in_slabs(kernel, self.shape[0], self.inverse_diagonal.size, *arguments)

    def apply(self, field: np.ndarray, out: np.ndarray) -> float:
        """out = A field; returns the inner product of both."""
        return sum(self.slabs(_apply, self.wz, self.wy, self.wx, field, out))

    def smooth(self, field: np.ndarray, right: np.ndarray, colours: tuple[int, int], from_zero: bool = False) -> None:
        """One red-black Gauss-Seidel sweep of A field = right, colours in the given order."""
        for step, colour in enumerate(colours):
            if from_zero and step == 0:
                self.slabs(_divide, self.inverse_diagonal, field, right, colour)
            else:
                self.slabs(_relax, self.wz, self.wy, self.wx, self.inverse_diagonal, field, right, colour)

    def restrict_residual(self, field: np.ndarray, right: np.ndarray, coarse: np.ndarray) -> None:
        """coarse = sum of right - A field over each block of 2 x 2 x 2 cells."""
        rows = coarse.shape[0] - 2
        in_slabs(_restrict, rows, self.inverse_diagonal.size, self.wz, self.wy, self.wx, field, right, coarse)

    def prolong(self, coarse: np.ndarray, field: np.ndarray) -> None:
        """Add the value of each block of 2 x 2 x 2 cells to its conducting cells."""
        self.slabs(_prolong, coarse, self.inverse_diagonal, field)

    def dot(self, first: np.ndarray, second: np.ndarray) -> float:
        """Inner product of two fields."""
        return sum(self.slabs(_dot, first, second))

    def step(self, solution, residual, direction, applied, length: float) -> None:
        """solution += length direction, residual -= length applied."""
        self.slabs(_step, solution, residual, direction, applied, solution.dtype.type(length))

    def turn(self, direction: np.ndarray, preconditioned: np.ndarray, factor: float) -> None:
        """direction = preconditioned + factor direction."""
        self.slabs(_turn, direction, preconditioned, direction.dtype.type(factor))

    def fluxes(self, field: np.ndarray, high: float = 1.0, low: float = 0.0) -> np.ndarray:
        """Flux through each of the nz + 1 layers of faces across z, with the ends at high and low."""
        found = np.empty(self.shape[0] + 1)
        in_slabs(_fluxes, found.size, field.size, self.wz, field, high, low, found)
        return found

    def entering(self, field: np.ndarray) -> float:
        """Product of the conductances of the first end with the field in the first slice."""
        return float((self.wz[0].astype(np.float64) * field[1, 1:-1, 1:-1]).sum())

    def coarsen(self) -> "Stencil":
        """The Galerkin operator of blocks of 2 x 2 x 2 cells: conductances between blocks add up."""
        return Stencil.of_faces(*_coarse_faces(self.wz, self.wy, self.wx))

    @classmethod
    def of_faces(cls, wz: np.ndarray, wy: np.ndarray, wx: np.ndarray) -> "Stencil":
        """A stencil from its face conductances."""
        inverse = np.empty((wy.shape[0], wz.shape[1], wz.shape[2]), np.float32)
        in_slabs(_invert_diagonal, inverse.shape[0], inverse.size, wz, wy, wx, inverse)
        return cls(wz, wy, wx, inverse)


def face_table(conductivity: np.ndarray) -> np.ndarray:
    """Conductance of the face between two codes, (codes, codes): the harmonic mean, which is exact for layers."""
    conductivity = np.asarray(conductivity, np.float64)
    one, two = np.meshgrid(conductivity, conductivity, indexing="ij")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((one > 0) & (two > 0), 2 * one * two / (one + two), 0.0).astype(np.float32)


def stencil_of_codes(codes: np.ndarray, conductivity: np.ndarray) -> Stencil:
    """Stencil of a volume whose cells have conductivity[code]; ends at z = 0 and z = nz, half a cell away."""
    conductivity = np.asarray(conductivity, np.float64)
    table = face_table(conductivity)
    depth, height, width = codes.shape
    wz = np.zeros((depth + 1, height, width), np.float32)
    wy = np.zeros((depth, height + 1, width), np.float32)
    wx = np.zeros((depth, height, width + 1), np.float32)
    in_slabs(_fill_faces, depth, codes.size, codes, table, wz, wy, wx)
    wz[0], wz[-1] = 2 * conductivity[codes[0]], 2 * conductivity[codes[-1]]
    return Stencil.of_faces(wz, wy, wx)


@njit(**FAST)
def _fill_faces(codes, table, wz, wy, wx, start, stop):
    depth, height, width = codes.shape
    for z in range(start, stop):
        for y in range(height):
            for x in range(width):
                here = codes[z, y, x]
                if z + 1 < depth:
                    wz[z + 1, y, x] = table[here, codes[z + 1, y, x]]
                if y + 1 < height:
                    wy[z, y + 1, x] = table[here, codes[z, y + 1, x]]
                if x + 1 < width:
                    wx[z, y, x + 1] = table[here, codes[z, y, x + 1]]


@njit(**FAST)
def _invert_diagonal(wz, wy, wx, inverse, start, stop):
    for z in range(start, stop):
        for y in range(inverse.shape[1]):
            for x in range(inverse.shape[2]):
                total = wz[z, y, x] + wz[z + 1, y, x] + wy[z, y, x] + wy[z, y + 1, x] + wx[z, y, x] + wx[z, y, x + 1]
                inverse[z, y, x] = np.float32(1.0) / total if total > 0 else np.float32(0.0)


@njit(**FAST)
def _coarse_faces(wz, wy, wx):
    depth, height, width = wy.shape[0], wz.shape[1], wz.shape[2]
    nz, ny, nx = (depth + 1) // 2, (height + 1) // 2, (width + 1) // 2
    cz = np.zeros((nz + 1, ny, nx), np.float32)
    cy = np.zeros((nz, ny + 1, nx), np.float32)
    cx = np.zeros((nz, ny, nx + 1), np.float32)
    for z in range(depth + 1):
        if z % 2 == 0 or z == depth:
            for y in range(height):
                for x in range(width):
                    cz[(z + 1) // 2, y // 2, x // 2] += wz[z, y, x]
    for z in range(depth):
        for y in range(0, height + 1, 2):
            for x in range(width):
                cy[z // 2, y // 2, x // 2] += wy[z, y, x]
        for y in range(height):
            for x in range(0, width + 1, 2):
                cx[z // 2, y // 2, x // 2] += wx[z, y, x]
    return cz, cy, cx


@njit(**FAST)
def _apply(wz, wy, wx, field, out, start, stop):
    height, width = wz.shape[1], wz.shape[2]
    product = 0.0
    for z in range(start, stop):
        for y in range(height):
            row = 0.0
            for x in range(width):
                here = field[z + 1, y + 1, x + 1]
                value = wz[z, y, x] * (here - field[z, y + 1, x + 1])
                value += wz[z + 1, y, x] * (here - field[z + 2, y + 1, x + 1])
                value += wy[z, y, x] * (here - field[z + 1, y, x + 1])
                value += wy[z, y + 1, x] * (here - field[z + 1, y + 2, x + 1])
                value += wx[z, y, x] * (here - field[z + 1, y + 1, x])
                value += wx[z, y, x + 1] * (here - field[z + 1, y + 1, x + 2])
                out[z + 1, y + 1, x + 1] = value
                row += value * here
            product += row
    return product


@njit(**FAST)
def _divide(inverse, field, right, colour, start, stop):
    for z in range(start, stop):
        for y in range(inverse.shape[1]):
            for x in range((colour + z + y) & 1, inverse.shape[2], 2):
                field[z + 1, y + 1, x + 1] = right[z + 1, y + 1, x + 1] * inverse[z, y, x]


@njit(**FAST)
def _relax(wz, wy, wx, inverse, field, right, colour, start, stop):
    height, width = wz.shape[1], wz.shape[2]
    for z in range(start, stop):
        for y in range(height):
            for x in range((colour + z + y) & 1, width, 2):
                value = right[z + 1, y + 1, x + 1]
                value += wz[z, y, x] * field[z, y + 1, x + 1]
                value += wz[z + 1, y, x] * field[z + 2, y + 1, x + 1]
                value += wy[z, y, x] * field[z + 1, y, x + 1]
                value += wy[z, y + 1, x] * field[z + 1, y + 2, x + 1]
                value += wx[z, y, x] * field[z + 1, y + 1, x]
                value += wx[z, y, x + 1] * field[z + 1, y + 1, x + 2]
                field[z + 1, y + 1, x + 1] = value * inverse[z, y, x]


@njit(**FAST)
def _restrict(wz, wy, wx, field, right, coarse, start, stop):
    depth, height, width = wy.shape[0], wz.shape[1], wz.shape[2]
    for block in range(start, stop):
        coarse[block + 1] = 0
        for z in range(2 * block, min(2 * block + 2, depth)):
            for y in range(height):
                target = coarse[block + 1, y // 2 + 1]
                for x in range(width):
                    here = field[z + 1, y + 1, x + 1]
                    value = right[z + 1, y + 1, x + 1]
                    value -= wz[z, y, x] * (here - field[z, y + 1, x + 1])
                    value -= wz[z + 1, y, x] * (here - field[z + 2, y + 1, x + 1])
                    value -= wy[z, y, x] * (here - field[z + 1, y, x + 1])
                    value -= wy[z, y + 1, x] * (here - field[z + 1, y + 2, x + 1])
                    value -= wx[z, y, x] * (here - field[z + 1, y + 1, x])
                    value -= wx[z, y, x + 1] * (here - field[z + 1, y + 1, x + 2])
                    target[x // 2 + 1] += value


@njit(**FAST)
def _prolong(coarse, inverse, field, start, stop):
    for z in range(start, stop):
        for y in range(inverse.shape[1]):
            for x in range(inverse.shape[2]):
                if inverse[z, y, x] > 0:
                    field[z + 1, y + 1, x + 1] += coarse[z // 2 + 1, y // 2 + 1, x // 2 + 1]


@njit(**FAST)
def _fluxes(wz, field, high, low, fluxes, start, stop):
    depth = wz.shape[0] - 1
    for z in range(start, stop):
        total = 0.0
        for y in range(wz.shape[1]):
            row = 0.0
            for x in range(wz.shape[2]):
                above = high if z == 0 else field[z, y + 1, x + 1]
                below = low if z == depth else field[z + 1, y + 1, x + 1]
                row += wz[z, y, x] * (above - below)
            total += row
        fluxes[z] = total


@njit(**FAST)
def _step(solution, residual, direction, applied, length, start, stop):
    for z in range(start + 1, stop + 1):
        for y in range(1, solution.shape[1] - 1):
            for x in range(1, solution.shape[2] - 1):
                solution[z, y, x] += length * direction[z, y, x]
                residual[z, y, x] -= length * applied[z, y, x]


@njit(**FAST)
def _dot(first, second, start, stop):
    product = 0.0
    for z in range(start + 1, stop + 1):
        for y in range(1, first.shape[1] - 1):
            row = 0.0
            for x in range(1, first.shape[2] - 1):
                row += first[z, y, x] * second[z, y, x]
            product += row
    return product


@njit(**FAST)
def _turn(direction, preconditioned, factor, start, stop):
    for z in range(start + 1, stop + 1):
        for y in range(1, direction.shape[1] - 1):
            for x in range(1, direction.shape[2] - 1):
                direction[z, y, x] = preconditioned[z, y, x] + factor * direction[z, y, x]
