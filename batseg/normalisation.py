"""Grey values of a tomogram made comparable: the cylinder of the sample is found, then its values are centred and scaled."""

import numpy as np
from scipy import ndimage

CLIP = 8.0
"""Normalised values beyond this many spreads (x-ray hits, bright streaks) are cut. Our choice."""

_VALUES = 2_000_000
"""A robust scale is measured on at most about this many evenly spaced voxels."""

_MAP = 64
"""The cylinder is sought on a map of at most this many pixels a side."""


def sample_mask(image: np.ndarray, min_contrast: float = 0.35) -> np.ndarray:
    """Voxels (z, y, x; bool) inside the laser-milled cylinder, which stands along z; all of them if there is none in view.

    A disc, the same in every slice, is fitted to two maps over z: mean and standard deviation. Inside the sample both
    are higher than in the air around it. A disc is accepted if it explains the share `min_contrast` of the two maps'
    variance; a cube cut out of the sample has no such disc. The result is a read-only view that takes one slice of
    memory. Source: the paper mills cylinders (Methods); how to find them is our choice.
    """
    slices = np.asarray(image[:: max(1, len(image) // 64)], dtype=np.float32)
    if not np.isfinite(slices).all():
        raise ValueError("image holds NaN or infinite values; fill them before looking for the sample")
    disc = _find_disc(slices.mean(axis=0), slices.std(axis=0), min_contrast)
    return np.broadcast_to(disc, image.shape)


def robust_scale(image: np.ndarray, mask: np.ndarray | None = None) -> tuple[float, float]:
    """Centre and spread of the grey values inside the mask: mean and standard deviation between percentiles 1 and 99.

    Large images are measured on evenly spaced voxels. The spread of a constant image is 1. Source: z-score per volume
    (Baumgartner et al. 2018); the percentiles are our choice.
    """
    step = max(1, round((np.prod(image.shape) / _VALUES) ** (1 / 3)))
    sparse = (slice(None, None, step),) * image.ndim
    values = np.asarray(image[sparse])
    values = values[mask[sparse]] if mask is not None else values.ravel()
    if values.size == 0:
        raise ValueError("the mask is empty: no voxel to normalise with")
    values = values.astype(np.float32)
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
    """The whole image with the robust centre 0 and spread 1 inside the mask (found if not given), as float32."""
    mask = sample_mask(image) if mask is None else mask
    return scaled(image, *robust_scale(image, mask))


def _find_disc(mean: np.ndarray, spread: np.ndarray, min_contrast: float) -> np.ndarray:
    """The disc that explains most of both maps' variance as a boolean slice; everything if it explains too little."""
    step = max(1, -(-max(mean.shape) // _MAP))
    maps = [
        ndimage.gaussian_filter(ndimage.zoom(ndimage.uniform_filter(m, step), 1 / step, order=1), 1)
        for m in (mean, spread)
    ]
    rows, columns = maps[0].shape
    best = (0.0, 0.0, 0.0, 0.0)
    reach = 0.12 * min(rows, columns)
    for centre_row in (rows - 1) / 2 + np.linspace(-reach, reach, 9):
        for centre_column in (columns - 1) / 2 + np.linspace(-reach, reach, 9):
            best = max(best, _best_radius(maps, centre_row, centre_column))
    explained, centre_row, centre_column, radius = best
    if explained < min_contrast:
        return np.ones(mean.shape, bool)
    offset = (step - 1) / 2
    row, column = np.ogrid[: mean.shape[0], : mean.shape[1]]
    inside = (row - centre_row * step - offset) ** 2 + (column - centre_column * step - offset) ** 2
    return inside <= (radius * step) ** 2


def _best_radius(maps: list[np.ndarray], centre_row: float, centre_column: float) -> tuple[float, float, float, float]:
    """(share of variance explained, centre, centre, radius) of the best disc about this centre: cumulated sums over radius."""
    row, column = np.ogrid[: maps[0].shape[0], : maps[0].shape[1]]
    distance = np.hypot(row - centre_row, column - centre_column).ravel()
    order = np.argsort(distance)
    count = np.arange(1, order.size)
    explained = np.zeros(order.size - 1)
    for values in (m.ravel()[order].astype(np.float64) for m in maps):
        values = values - values.mean()
        inside = np.cumsum(values)[:-1]
        between = inside**2 / count + inside**2 / (order.size - count)
        explained += np.where(inside > 0, between, 0) / max((values**2).sum(), 1e-30) / len(maps)
    share = count / order.size
    explained[(share < 0.15) | (share > 0.97)] = 0
    best = int(np.argmax(explained))
    return float(explained[best]), centre_row, centre_column, float(distance[order[best]])
