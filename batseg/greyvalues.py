"""Grey values: histograms, and one-dimensional k-means that is exact, deterministic and robust to outliers."""

from typing import NamedTuple

import numpy as np

from batseg.volumes import InputError, mapped_anew

BINS = 1024
OUTLIERS = 1e-3  # share of voxels on either side that takes no part: hot pixels, metal, ring remnants
SAMPLE = 1 << 20


class GreyClusters(NamedTuple):
    """Centres of the clusters in ascending order and the boundaries half-way between neighbouring centres."""

    centres: np.ndarray
    boundaries: np.ndarray


def kmeans_grey(image: np.ndarray, clusters: int = 4, mask: np.ndarray | None = None) -> GreyClusters:
    """K-means on grey values (z, y, x) inside the mask: the optimum itself, without starting values.

    The values go into a histogram between the 0.1 % and 99.9 % quantiles; dynamic programming then finds the division
    of the bins with the least within-cluster variance (Wang & Song 2011, R Journal 3/2). The image is read slab by
    slab, so it may be a chunked volume on disk. For graphite-silicon electrodes the four clusters are, in
    ascending order, pore, graphite, silicon and cbd (paper, Fig. 2b). Raises InputError with too few grey values.
    """
    low, high = quantile_range(image, mask)
    counts, edges = grey_histogram(image, low, high, mask=mask)
    return kmeans_histogram(counts, (edges[1:] + edges[:-1]) / 2, clusters)


def quantile_range(
    image: np.ndarray, mask: np.ndarray | None = None, outliers: float = OUTLIERS, sample: int = SAMPLE
) -> tuple[float, float]:
    """Grey values at the `outliers` and 1 - `outliers` quantiles of a regular sub-sample of about `sample` voxels."""
    stride = max(1, int((np.prod(image.shape) / sample) ** (1 / 3)))
    values = []
    for z in range(stride // 2 if image.shape[0] > stride // 2 else 0, image.shape[0], stride):
        plane = np.asarray(mapped_anew(image)[z])[::stride, ::stride]
        values.append(plane[np.asarray(mask[z])[::stride, ::stride]] if mask is not None else plane.ravel())
    values = np.concatenate(values)
    if values.size == 0 or not np.isfinite(values).all():
        raise InputError("no finite grey value inside the mask")
    low, high = np.quantile(values, [outliers, 1 - outliers])
    if low == high:
        low, high = values.min(), values.max()
    return float(low), float(high)


def grey_histogram(
    image: np.ndarray, low: float, high: float, bins: int = BINS, mask: np.ndarray | None = None, slab: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Counts (bins,) and edges (bins + 1,) of the grey values in [low, high] inside the mask, read slab by slab."""
    counts = np.zeros(bins, np.int64)
    for start in range(0, image.shape[0], slab):
        part = np.asarray(mapped_anew(image)[start : start + slab])
        part = part[np.asarray(mask[start : start + slab])] if mask is not None else part
        counts += np.histogram(part, bins, (low, high))[0]
    return counts, np.linspace(low, high, bins + 1)


def kmeans_histogram(counts: np.ndarray, values: np.ndarray, clusters: int) -> GreyClusters:
    """Exact k-means of a histogram: bins `values` (ascending) with `counts`, by dynamic programming."""
    filled = counts > 0
    weight, value = counts[filled].astype(float), np.asarray(values, float)[filled]
    if len(value) < clusters:
        raise InputError(f"{clusters} clusters need as many different grey values; found {len(value)}")
    origin = value.mean()
    value = value - origin
    total = np.concatenate([[0], np.cumsum(weight)])
    first = np.concatenate([[0], np.cumsum(weight * value)])
    second = np.concatenate([[0], np.cumsum(weight * value**2)])
    n = len(value)
    i, j = np.arange(n + 1)[:, None], np.arange(n + 1)[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = (second[j] - second[i]) - (first[j] - first[i]) ** 2 / (total[j] - total[i])
    cost[i >= j] = np.inf  # cost[i, j]: within-cluster variance of bins i .. j-1
    best, cuts = cost[0], []
    for _ in range(clusters - 1):
        candidates = best[:, None] + cost
        cut = candidates.argmin(0)
        best = candidates[cut, np.arange(n + 1)]
        cuts.append(cut)
    ends = [n]
    for cut in reversed(cuts):
        ends.append(int(cut[ends[-1]]))
    ends = np.array([0, *ends[::-1]])
    centres = (first[ends[1:]] - first[ends[:-1]]) / (total[ends[1:]] - total[ends[:-1]]) + origin
    return GreyClusters(centres, (centres[1:] + centres[:-1]) / 2)
