"""Smooth random fields: the one source of everything that varies slowly in space or time in a simulated scan."""

from collections.abc import Sequence

import numpy as np


def bump_basis(length: int, correlation: float) -> np.ndarray:
    """Gaussian bumps (length, knots) whose random sum has unit variance everywhere; the identity for correlation 0.

    `correlation` is the standard deviation of the smoothing kernel in samples. Knots lie closer than the kernel is
    wide, so the sum shows no grid; every row has unit L2 norm.
    """
    if correlation <= 0:
        return np.eye(length, dtype=np.float32)
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
    bases = [bump_basis(length, width) for length, width in zip(shape, correlation)]
    field = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    for axis, (basis, width) in enumerate(zip(bases, correlation)):
        if width > 0:
            field = np.moveaxis(np.tensordot(basis, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)
