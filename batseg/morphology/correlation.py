"""Two-point correlation of phases by FFT, with any labelled region and without periodic images."""

from dataclasses import dataclass

import numpy as np
from scipy import fft


@dataclass(frozen=True)
class Correlation:
    """Two-point correlation: `lag_nm` (n,), `radial` (n,) the mean over directions, `axes` (3, n) along z, y, x.

    A value is the probability that a point is in the first phase and the point at that distance in the second.
    NaN where no pair of labelled voxels has that distance.
    """

    lag_nm: np.ndarray
    radial: np.ndarray
    axes: np.ndarray


def two_point_correlation(
    mask: np.ndarray,
    other: np.ndarray | None = None,
    voxel_nm: float = 1.0,
    lags: int | None = None,
    valid: np.ndarray | None = None,
) -> Correlation:
    """S2(r) of a mask (or the cross-correlation of two masks) for distances of 0 to `lags` voxels.

    Both are counted inside `valid` only (default: everywhere): pairs in the phases over pairs that could be. `lags`
    defaults to half the shortest edge. The radial mean bins distances to the nearest whole voxel.
    Source: Torquato, Random Heterogeneous Materials (2002), chapter 2.
    """
    mask = np.asarray(mask, bool)
    valid = np.ones(mask.shape, bool) if valid is None else np.asarray(valid, bool)
    lags = min(mask.shape) // 2 if lags is None else int(lags)
    if mask.ndim != 3 or not 0 <= lags < min(mask.shape):
        raise ValueError(f"lags must be 0 to {min(mask.shape) - 1} voxels in a volume {mask.shape}, got {lags}")
    shape = [fft.next_fast_len(length + lags, real=True) for length in mask.shape]
    pairs = _correlate(valid, valid, shape, lags)
    hits = _correlate(mask & valid, mask & valid if other is None else np.asarray(other, bool) & valid, shape, lags)
    pairs, hits = np.maximum(np.round(pairs), 0), np.maximum(np.round(hits), 0)  # both are counts
    offsets = [np.concatenate([np.arange(lags + 1), np.arange(-lags, 0)])] * 3
    z, y, x = np.meshgrid(*offsets, indexing="ij", sparse=True)
    distance = np.rint(np.sqrt(z * z + y * y + x * x)).astype(np.int64)
    near = distance <= lags
    with np.errstate(invalid="ignore", divide="ignore"):
        radial = np.bincount(distance[near], hits[near]) / np.bincount(distance[near], pairs[near])
        along = [np.moveaxis(hits, axis, 0)[: lags + 1, 0, 0] for axis in range(3)]
        possible = [np.moveaxis(pairs, axis, 0)[: lags + 1, 0, 0] for axis in range(3)]
        axes = np.stack(along) / np.stack(possible)
    return Correlation(np.arange(lags + 1) * voxel_nm, radial, axes)


def _correlate(first: np.ndarray, second: np.ndarray, shape: list[int], lags: int) -> np.ndarray:
    """Sum of first(p) second(p + lag) for lags -lags..lags per axis, in FFT order, (2 lags + 1)³."""
    transformed = fft.rfftn(first.astype(np.float32), shape, workers=-1)
    same = first is second
    product = np.abs(transformed) ** 2 if same else np.conj(transformed) * fft.rfftn(second.astype(np.float32), shape)
    result = fft.irfftn(product.astype(np.complex64), shape, workers=-1).astype(np.float64)
    kept = np.concatenate([np.arange(lags + 1), np.arange(-lags, 0)])
    return result[np.ix_(kept, kept, kept)]
