"""Smooth random fields: the one source of everything that varies slowly in space or time in a simulated scan."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

NARROW = 2.0  # below this correlation a plain filter is cheaper than a product with as many knots as samples


def bump_basis(length: int, correlation: float) -> np.ndarray:
    """Gaussian bumps (length, knots) whose random sum has unit variance everywhere.

    `correlation` is the standard deviation of the smoothing kernel in samples. Knots lie closer than the kernel is
    wide, so the sum shows no grid; every row has unit L2 norm.
    """
    margin = 3 * correlation
    knots = np.linspace(-margin, length - 1 + margin, int(np.ceil((length + 2 * margin) / (0.8 * correlation))) + 1)
    basis = np.exp(-0.5 * ((np.arange(length)[:, None] - knots) / correlation) ** 2)
    return (basis / np.linalg.norm(basis, axis=1, keepdims=True)).astype(np.float32)


def smooth_field(shape: Sequence[int], correlation: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """A Gaussian random field, float32, zero mean and unit variance, smoothed over `correlation` samples per axis.

    A correlation of 0 leaves that axis white: (0, 20, 20) gives independent smooth images. The cost is one small
    matrix product per axis, whatever the correlation.
    """
    if len(shape) != len(correlation):
        raise ValueError(f"one correlation per axis: got shape {tuple(shape)} and correlations {tuple(correlation)}")
    bases = {axis: bump_basis(shape[axis], width) for axis, width in enumerate(correlation) if width >= NARROW}
    knots = [bases[axis].shape[1] if axis in bases else length for axis, length in enumerate(shape)]
    field = rng.standard_normal(knots, dtype=np.float32)
    for axis, basis in bases.items():
        field = np.moveaxis(np.tensordot(basis, field, axes=(1, axis)), 0, axis)
    for axis, width in enumerate(correlation):
        if 0 < width < NARROW:
            kernel = np.exp(-0.5 * (np.arange(-8, 9) / width) ** 2)
            kernel = (kernel / np.linalg.norm(kernel)).astype(np.float32)
            field = ndimage.correlate1d(field, kernel, axis=axis, mode="wrap")
    return np.ascontiguousarray(field)
