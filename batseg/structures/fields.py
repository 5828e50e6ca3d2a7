"""Gaussian random fields on coarse periodic lattices, sampled anywhere by compiled code."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import fft

LARGEST_LATTICE = 288
"""Lattice points per axis; a field that needs more repeats itself after that many."""


@dataclass(frozen=True)
class Lattice:
    """A field of zero mean and unit variance: values (z, y, x), float32, periodic; `step` voxels between points."""

    values: np.ndarray
    step: np.ndarray


def gaussian_lattice(shape: Sequence[int], length: float, rng: np.random.Generator) -> Lattice:
    """A field over `shape` voxels with covariance exp(-r²/(2 length²)), `length` in voxels, periodic over the shape."""
    points = [int(np.clip(np.ceil(2 * edge / length), 4, LARGEST_LATTICE)) for edge in shape]
    needed = [int(np.ceil(2 * edge / length)) for edge in shape]
    step = np.array(
        [edge / n if want <= LARGEST_LATTICE else length / 2 for edge, n, want in zip(shape, points, needed)]
    )
    sigma = length / np.sqrt(2) / step  # of the kernel, in lattice points
    noise = fft.rfftn(rng.standard_normal(points, dtype=np.float32))
    for axis, n in enumerate(points):
        frequency = fft.rfftfreq(n) if axis == 2 else fft.fftfreq(n)
        window = np.exp(-2 * (np.pi * frequency * sigma[axis]) ** 2).astype(np.float32)
        noise *= window.reshape([-1 if k == axis else 1 for k in range(3)])
    noise[0, 0, 0] = 0
    values = fft.irfftn(noise, points)
    return Lattice((values / max(values.std(), 1e-12)).astype(np.float32), step.astype(np.float32))


@njit(nogil=True, cache=True, inline="always")
def sample(values, z, y, x):
    """Trilinear value at lattice coordinates, wrapped."""
    nz, ny, nx = values.shape
    fz, fy, fx = np.floor(z), np.floor(y), np.floor(x)
    tz, ty, tx = z - fz, y - fy, x - fx
    z0, y0, x0 = int(fz) % nz, int(fy) % ny, int(fx) % nx
    z1 = z0 + 1 if z0 + 1 < nz else 0
    y1 = y0 + 1 if y0 + 1 < ny else 0
    x1 = x0 + 1 if x0 + 1 < nx else 0
    low = (values[z0, y0, x0] * (1 - tx) + values[z0, y0, x1] * tx) * (1 - ty) + (
        values[z0, y1, x0] * (1 - tx) + values[z0, y1, x1] * tx
    ) * ty
    high = (values[z1, y0, x0] * (1 - tx) + values[z1, y0, x1] * tx) * (1 - ty) + (
        values[z1, y1, x0] * (1 - tx) + values[z1, y1, x1] * tx
    ) * ty
    return low * (1 - tz) + high * tz
