"""Distance metrics from one table of exact nearest-voxel distances per phase.

The table holds squared distances (integers, in voxels) of those voxels of one set that are not in the other; all other
voxels of the set are at distance 0 and only counted. Distances come from an exact Euclidean transform: rows, then
columns (lower envelope of parabolas), and along z only where a distance is asked for.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from batseg.morphology.slabs import in_slabs
from batseg.phases import NOT_LABELLED, PHASES

OPEN = len(PHASES)
"""Code of voxels that are scored but that the prediction left open."""


class Directed(NamedTuple):
    """Distances from every voxel of one set to the nearest voxel of another.

    `size` voxels in the set, `squared` (int32) the squared distances of those outside the other set. If the other set
    is empty, no distance exists and `reachable` is False.
    """

    size: int
    squared: np.ndarray
    reachable: bool

    def distances(self) -> np.ndarray:
        return np.sqrt(self.squared, dtype=np.float64)

    def quantile(self, share: float) -> float:
        """Distance below which `share` of the set lies, linear between ranks as `numpy.percentile`."""
        if not self.reachable or not self.size:
            return math.nan
        rank = share * (self.size - 1)
        zeros = self.size - len(self.squared)
        low, high = math.floor(rank) - zeros, math.ceil(rank) - zeros
        if high < 0:
            return 0.0
        ordered = np.partition(self.squared, [max(low, 0), high])
        below = math.sqrt(ordered[low]) if low >= 0 else 0.0
        return below + (rank - math.floor(rank)) * (math.sqrt(ordered[high]) - below)

    def within(self, tolerance: float) -> int:
        """Voxels of the set that lie within `tolerance` voxels of the other."""
        return self.size - int(np.count_nonzero(self.squared > tolerance**2)) if self.reachable else 0


class Pair(NamedTuple):
    """Both directions: truth voxels to the prediction, and prediction voxels to the truth."""

    truth: Directed
    prediction: Directed


def scored_labels(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The prediction (uint8) where it is scored: 255 where the truth is unlabelled, OPEN where it left a voxel open."""
    scored = np.where(prediction < len(PHASES), prediction, np.uint8(OPEN)).astype(np.uint8)
    scored[truth == NOT_LABELLED] = NOT_LABELLED
    return scored


def distance_pair(truth: np.ndarray, prediction: np.ndarray, phase: int) -> Pair:
    """Distances between the voxels of one phase in two uint8 label volumes (z, y, x)."""
    return Pair(_directed(truth, prediction, phase), _directed(prediction, truth, phase))


def distance_metrics(pair: Pair) -> dict[str, float]:
    """Hausdorff, average and balanced average distance between voxel sets, in voxels.

    HDRFDST: the larger of both directed maxima. AVGDIST: mean of both directed means (Taha & Hanbury: the larger;
    the tool, and we, the mean). bAVD: both sums over |truth|, then their mean. NaN if the phase is absent from either.
    Source: Taha & Hanbury 2015; Aydin et al. 2021 (balanced average distance).
    """
    if not (pair.truth.reachable and pair.prediction.reachable):
        return {"HDRFDST": math.nan, "AVGDIST": math.nan, "bAVD": math.nan}
    missed, spurious = float(pair.truth.distances().sum()), float(pair.prediction.distances().sum())
    return {
        "HDRFDST": math.sqrt(max(side.squared.max(initial=0) for side in pair)),
        "AVGDIST": (missed / pair.truth.size + spurious / pair.prediction.size) / 2,
        "bAVD": (missed + spurious) / (2 * pair.truth.size),
    }


def surface_metrics(pair: Pair) -> dict[str, float]:
    """HD95 and surface Dice (normalised surface distance) at one and two voxels, from the distances between surfaces.

    HD95: the larger of both directed 95th percentiles. SURFDICE: share of both surfaces' voxels within the tolerance of
    the other. NaN for a phase without a surface in both; surface Dice is 0 if it has one in only one of them.
    Source: Nikolov et al. 2021; Maier-Hein et al. 2024 (Metrics Reloaded).
    """
    total = pair.truth.size + pair.prediction.size
    found = {"HD95": max(pair.truth.quantile(0.95), pair.prediction.quantile(0.95))}
    if math.isnan(pair.truth.quantile(0.95)):
        found["HD95"] = math.nan
    for tolerance in (1, 2):
        near = pair.truth.within(tolerance) + pair.prediction.within(tolerance)
        found[f"SURFDICE{tolerance}"] = near / total if total else math.nan
    return found


def mahalanobis(truth_moments: np.ndarray, prediction_moments: np.ndarray) -> float:
    """Mahalanobis distance between the centroids under the pooled population covariance; no unit.

    NaN if the phase is absent from either; in a volume of one slice only the two axes with extent count.
    Source: Taha & Hanbury 2015.
    """
    if not truth_moments[0] or not prediction_moments[0]:
        return math.nan
    means, scatters = zip(*(_mean_and_scatter(moments) for moments in (truth_moments, prediction_moments)))
    covariance = (scatters[0] + scatters[1]) / (truth_moments[0] + prediction_moments[0])
    shift = means[0] - means[1]
    return math.sqrt(max(0.0, float(shift @ np.linalg.pinv(covariance) @ shift)))


def _mean_and_scatter(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size, first, second = moments[0], moments[1:4], np.empty((3, 3))
    second[np.triu_indices(3)] = moments[4:]
    second = np.triu(second) + np.triu(second, 1).T
    mean = first / size
    return mean, second - size * np.outer(mean, mean)


def moments(labels: np.ndarray) -> np.ndarray:
    """Per phase: number of voxels, sums of z, y, x and of zz, zy, zx, yy, yx, xx about the volume's centre, (4, 10)."""
    per_slice = np.concatenate(in_slabs(_slice_moments, len(labels), labels.size, labels))
    z = np.arange(len(labels), dtype=np.float64)[:, None] - len(labels) // 2
    size, y, x, yy, yx, xx = np.moveaxis(per_slice.astype(np.float64), -1, 0)  # exact: below 2**53 in a slice
    columns = (size, z * size, y, x, z * z * size, z * y, z * x, yy, yx, xx)
    return np.stack([column.sum(0) for column in columns], axis=-1)


@njit(nogil=True, cache=True)
def _slice_moments(labels, first, last):
    _depth, height, width = labels.shape
    found = np.zeros((last - first, OPEN, 6), np.int64)
    sums = np.empty((OPEN, 3), np.int64)
    for z in range(first, last):
        for y in range(height):
            dy = y - height // 2
            sums[:] = 0
            for x in range(width):
                phase = labels[z, y, x]
                if phase < OPEN:
                    dx = x - width // 2
                    sums[phase, 0] += 1
                    sums[phase, 1] += dx
                    sums[phase, 2] += dx * dx
            for phase in range(OPEN):
                size, x1, x2 = sums[phase]
                found[z - first, phase] += np.array([size, dy * size, x1, dy * dy * size, dy * x1, x2])
    return found


def grown(mask: np.ndarray) -> np.ndarray:
    """The mask and its face neighbours."""
    found = mask.copy()
    for axis in range(mask.ndim):
        before, after = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        found[tuple(after)] |= mask[tuple(before)]
        found[tuple(before)] |= mask[tuple(after)]
    return found


def surfaces(labels: np.ndarray) -> np.ndarray:
    """Surface voxels of every phase: the label where a face neighbour has another one, 255 elsewhere.

    The edge of the volume and of the labelled region is no surface: the phase goes on there unseen.
    """
    found = np.full(labels.shape, NOT_LABELLED, np.uint8)
    in_slabs(_mark_surfaces, len(labels), labels.size, labels, found)
    return found


@njit(nogil=True, cache=True)
def _mark_surfaces(labels, found, first, last):
    depth, height, width = labels.shape
    for z in range(first, last):
        for y in range(height):
            for x in range(width):
                label = labels[z, y, x]
                if label >= OPEN:
                    continue
                for dz, dy, dx in ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)):
                    k, i, j = z + dz, y + dy, x + dx
                    if 0 <= k < depth and 0 <= i < height and 0 <= j < width:
                        other = labels[k, i, j]
                        if other != label and other != NOT_LABELLED:
                            found[z, y, x] = label
                            break


def _directed(labels: np.ndarray, others: np.ndarray, phase: int) -> Directed:
    depth, voxels = len(labels), labels.size
    asked, size, sites = np.concatenate(in_slabs(_count, depth, voxels, labels, others, phase)).T
    starts = np.concatenate([[0], np.cumsum(asked)])
    reachable = bool(sites.any())
    found = np.empty(starts[-1] if reachable else 0, np.int32)
    if len(found):
        in_slices = np.empty(labels.shape, np.int32)
        in_slabs(_transform_in_slices, depth, voxels, others, phase, in_slices)
        in_slabs(_distances_along_z, depth, voxels, labels, others, phase, in_slices, starts, found)
    return Directed(int(size.sum()), found, reachable)


@njit(nogil=True, cache=True)
def _count(labels, others, phase, first, last):
    """Per slice: voxels of the phase outside the other's, of the phase, and of the other's."""
    found = np.zeros((last - first, 3), np.int64)
    for z in range(first, last):
        in_labels, in_others, in_both = 0, 0, 0
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                here, there = labels[z, y, x] == phase, others[z, y, x] == phase
                in_labels += here
                in_others += there
                in_both += here and there
        found[z - first] = np.array([in_labels - in_both, in_labels, in_others])
    return found


@njit(nogil=True, cache=True)
def _transform_in_slices(labels, phase, squared, first, last):
    """Squared distance of every voxel to the nearest voxel of the phase in its own slice. Source: Meijster et al. 2000.

    A slice without the phase holds a value beyond any distance in the volume.
    """
    depth, height, width = labels.shape
    far = depth + height + width
    along_x = np.empty((height, width), np.int32)
    vertex, start = np.empty(height, np.int32), np.empty(height, np.int32)
    for z in range(first, last):
        for y in range(height):
            nearest = far
            for x in range(width):
                nearest = 0 if labels[z, y, x] == phase else min(nearest + 1, far)
                along_x[y, x] = nearest
            for x in range(width - 2, -1, -1):
                along_x[y, x] = min(along_x[y, x], along_x[y, x + 1] + 1)
        for x in range(width):
            end = 0
            vertex[0], start[0] = 0, 0
            for y in range(1, height):
                value = along_x[y, x] ** 2
                while end >= 0:
                    top, at = vertex[end], start[end]
                    if (at - top) ** 2 + along_x[top, x] ** 2 <= (at - y) ** 2 + value:
                        break
                    end -= 1
                if end < 0:
                    end = 0
                    vertex[0], start[0] = y, 0
                else:
                    top = vertex[end]
                    crossing = 1 + (y * y - top * top + value - along_x[top, x] ** 2) // (2 * (y - top))
                    if crossing < height:
                        end += 1
                        vertex[end], start[end] = y, crossing
            for y in range(height - 1, -1, -1):
                top = vertex[end]
                squared[z, y, x] = (y - top) ** 2 + along_x[top, x] ** 2
                if y == start[end]:
                    end -= 1


@njit(nogil=True, cache=True)
def _distances_along_z(labels, others, phase, in_slices, starts, found, first, last):
    """Squared distances of the asked voxels (of the phase, outside the other's), slice after slice."""
    depth, height, width = labels.shape
    for z in range(first, last):
        index = starts[z]
        for y in range(height):
            for x in range(width):
                if labels[z, y, x] != phase or others[z, y, x] == phase:
                    continue
                best = in_slices[z, y, x]
                step = 1
                while step * step < best and step < depth:
                    if z >= step:
                        best = min(best, in_slices[z - step, y, x] + step * step)
                    if z + step < depth:
                        best = min(best, in_slices[z + step, y, x] + step * step)
                    step += 1
                found[index] = best
                index += 1
