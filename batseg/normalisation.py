"""Grey values of a tomogram made comparable: the sample's cylinder is found, its values are centred and scaled."""

import numpy as np
from scipy import ndimage

CLIP = 8.0
"""Normalised values beyond this many spreads (x-ray hits, bright streaks) are cut. Our choice."""

_SLICES = 64
"""The mask and the scale are measured on at most about this many evenly spaced slices."""

_VALUES = 2_000_000
"""A robust scale is measured on at most about this many evenly spaced voxels."""

_MAP = 64
"""The cylinder is sought on a map of at most about this many pixels a side."""


def sample_mask(image: np.ndarray, min_contrast: float = 0.45) -> np.ndarray:
    """Voxels (z, y, x; bool) inside the laser-milled cylinder, which stands along z; all of them if none is in view.

    A disc, the same in every slice, is fitted to two maps over z: mean and standard deviation. Inside the sample both
    are higher than in the air around it. A disc is accepted if it explains the share `min_contrast` of the two maps'
    variance; a cube cut out of the sample has no such disc. `image` may be an array on disk. The result is a
    read-only view that takes the memory of one slice. Source: the paper mills cylinders (Methods); how to find them
    is our choice.
    """
    slices = np.asarray(image[:: _slice_step(image)], dtype=np.float32)
    if not np.isfinite(slices).all():
        raise ValueError("image holds NaN or infinite values; fill them before looking for the sample")
    disc = _find_disc(slices.mean(axis=0), slices.std(axis=0), min_contrast)
    return np.broadcast_to(disc, image.shape)


def robust_scale(image: np.ndarray, mask: np.ndarray | None = None) -> tuple[float, float]:
    """Centre and spread of the grey values inside the mask: mean and standard deviation between percentiles 1 and 99.

    Measured on evenly spaced voxels, so that `image` may be a large array on disk. The spread of a constant image is
    1. Source: z-score per volume (Baumgartner et al. 2018); the percentiles are our choice.
    """
    step = _slice_step(image)
    values = np.asarray(image[::step])
    values = values[np.asarray(mask[::step])] if mask is not None else values.ravel()
    if values.size == 0:
        raise ValueError("the mask is empty: no voxel to normalise with")
    values = values[:: max(1, values.size // _VALUES)].astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("image holds NaN or infinite values; fill them before normalising")
    low, high = np.percentile(values, (1, 99))
    values = values[(values >= low) & (values <= high)]
    spread = float(values.std(dtype=np.float64))
    return float(values.mean(dtype=np.float64)), spread if spread > 0 else 1.0


def scaled(values: np.ndarray, centre: float, spread: float) -> np.ndarray:
    """(values - centre) / spread as float32, cut at +-8."""
    result = np.subtract(values, centre, dtype=np.float32)
    result /= np.float32(spread)
    return np.clip(result, -CLIP, CLIP, out=result)


def normalise(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """The whole image with robust centre 0 and spread 1 inside the mask (found if not given), as float32."""
    mask = sample_mask(image) if mask is None else mask
    return scaled(image, *robust_scale(image, mask))


def _slice_step(image: np.ndarray) -> int:
    return max(1, image.shape[0] // _SLICES)


def _find_disc(mean: np.ndarray, spread: np.ndarray, min_contrast: float) -> np.ndarray:
    """The disc that explains most of both maps' variance as a boolean slice; everything if it explains too little."""
    step = max(1, -(-max(mean.shape) // _MAP))
    maps = [_smooth(_binned(values, step)) for values in (mean, spread)]
    rows, columns = maps[0].shape
    reach = 0.12 * min(rows, columns)
    best = (0.0, 0.0, 0.0, 0.0)
    for centre_row in (rows - 1) / 2 + np.linspace(-reach, reach, 13):
        for centre_column in (columns - 1) / 2 + np.linspace(-reach, reach, 13):
            best = max(best, _best_radius(maps, centre_row, centre_column))
    explained, centre_row, centre_column, radius = best
    if explained < min_contrast:
        return np.ones(mean.shape, bool)
    row, column = (np.arange(length) / step - (step - 1) / (2 * step) for length in mean.shape)
    return np.hypot(row[:, None] - centre_row, column[None] - centre_column) <= radius


def _smooth(values: np.ndarray) -> np.ndarray:
    """A map without its narrow rings and outliers: median of 5 x 5, Gaussian, cut at percentiles 5 and 95."""
    values = ndimage.gaussian_filter(ndimage.median_filter(values, 5), 1)
    return np.clip(values, *np.percentile(values, (5, 95)))


def _binned(values: np.ndarray, step: int) -> np.ndarray:
    """Block means of step x step pixels; an incomplete last block is filled with edge values."""
    rows, columns = (-(-length // step) * step for length in values.shape)
    padded = np.pad(values, ((0, rows - values.shape[0]), (0, columns - values.shape[1])), mode="edge")
    return padded.reshape(rows // step, step, columns // step, step).mean(axis=(1, 3), dtype=np.float64)


def _best_radius(maps: list[np.ndarray], centre_row: float, centre_column: float) -> tuple[float, float, float, float]:
    """(explained share of variance, centre, centre, radius) of the best disc about one centre, by sums over radius."""
    row, column = np.ogrid[: maps[0].shape[0], : maps[0].shape[1]]
    distance = np.hypot(row - centre_row, column - centre_column).ravel()
    order = np.argsort(distance)
    count = np.arange(1, order.size)
    explained = np.zeros(order.size - 1)
    for values in maps:
        deviation = (values - values.mean()).ravel()[order]
        inside = np.cumsum(deviation)[:-1]
        between = inside**2 * (1 / count + 1 / (order.size - count))
        explained += np.where(inside > 0, between, 0) / max((deviation**2).sum(), 1e-30) / len(maps)
    share = count / order.size
    explained[(share < 0.15) | (share > 0.97)] = 0
    best = int(np.argmax(explained))
    return float(explained[best]), centre_row, centre_column, float(distance[order[best]])
