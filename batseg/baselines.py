"""What people use instead of a network, through one interface: `image (z, y, x), mask -> labels (z, y, x) uint8`.

Clusters of grey values, ascending, are pore, graphite, silicon and cbd (paper, Fig. 2b). Outside the mask: 255.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product

import edt
import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_multiotsu
from skimage.segmentation import random_walker as walk
from sklearn.ensemble import RandomForestClassifier

from batseg.greyvalues import kmeans_grey, quantile_range
from batseg.normalisation import normalise
from batseg.phases import NOMINAL_FRACTIONS, NOT_LABELLED, PHASES
from batseg.progress import track


def kmeans(image: np.ndarray, mask: np.ndarray | None = None, sigma: float = 0.0) -> np.ndarray:
    """Thresholds half-way between the four centres of one-dimensional k-means on the grey values.

    `sigma` > 0 smooths first (voxels). Source: paper, Fig. 2b and d.
    """
    return _thresholded(image, mask, sigma, lambda smooth: kmeans_grey(smooth, len(PHASES), mask=mask).boundaries)


def multi_otsu(image: np.ndarray, mask: np.ndarray | None = None, sigma: float = 1.0) -> np.ndarray:
    """Otsu's thresholds for four classes after a Gaussian of `sigma` voxels, as denoise-and-threshold is mostly done.

    Without smoothing this is k-means again: both minimise the variance within classes. Source: Liao et al. 2001.
    """

    def thresholds(smooth: np.ndarray) -> np.ndarray:
        low, high = quantile_range(smooth, mask)
        values = np.clip(smooth if mask is None else smooth[mask], low, high)
        return threshold_multiotsu(values, classes=len(PHASES), nbins=256)

    return _thresholded(image, mask, sigma, thresholds)


def constant_fractions(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    fractions: Mapping[str, float] = NOMINAL_FRACTIONS,
    sigma: float = 0.0,
) -> np.ndarray:
    """Thresholds at the grey values that give every phase its known volume fraction (default: the recipe's).

    The fractions are right by construction; how little the Dice gains from that shows what they are worth as a score.
    """
    cumulated = np.cumsum([fractions[phase] for phase in PHASES])[:-1] / sum(fractions.values())

    def thresholds(smooth: np.ndarray) -> np.ndarray:
        return np.quantile(smooth if mask is None else smooth[mask], cumulated)

    return _thresholded(image, mask, sigma, thresholds)


def _thresholded(image, mask, sigma, thresholds) -> np.ndarray:
    smooth = _smoothed(image, mask, sigma)
    return _within(np.searchsorted(thresholds(smooth), smooth).astype(np.uint8), mask)


def _smoothed(image: np.ndarray, mask: np.ndarray | None, sigma: float) -> np.ndarray:
    """Gaussian mean of the voxels inside the mask, so that what lies outside does not leak in."""
    if not sigma or mask is None:
        return ndimage.gaussian_filter(image, sigma, output=np.float32) if sigma else image
    weights = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    inside = ndimage.gaussian_filter(np.where(mask, image, 0), sigma, output=np.float32)
    return np.divide(inside, weights, out=np.zeros_like(inside), where=weights > 1e-3)


def _within(labels: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    return labels if mask is None else np.where(mask, labels, np.uint8(NOT_LABELLED))


def seeds(image: np.ndarray, mask: np.ndarray | None = None, sigma: float = 1.0, spacing: int = 3) -> np.ndarray:
    """Automatic seeds: centres of the k-means classes' pieces, with the class as label (255 elsewhere).

    A centre is a local maximum of the distance to the nearest voxel of another class, at least 1.5 voxels deep, no
    closer than `spacing` to the next of its class. Our choice; the paper's walker needs seeds at particle centres.
    """
    classes = kmeans(image, mask, sigma)
    depth = edt.edt(np.ascontiguousarray(classes) + np.uint8(1), black_border=False)  # 255 + 1 is 0: background
    found = np.full(image.shape, NOT_LABELLED, np.uint8)
    for phase in range(len(PHASES)):
        inside = np.where(classes == phase, depth, 0)
        centres = peak_local_max(inside, min_distance=spacing, threshold_abs=1.5, exclude_border=False)
        found[tuple(centres.T)] = phase
    return found


def random_walker(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    beta: float = 1000.0,
    sigma: float = 1.0,
    block: int = 64,
    halo: int = 12,
) -> np.ndarray:
    """The 3D random walker from automatic `seeds`, in blocks with a halo so that memory stays bounded.

    The image is smoothed by `sigma` voxels and scaled to standard deviation 1, since the library's weights depend on
    the unit of the grey values; `beta` weighs their differences. A voxel that no seed reaches keeps its k-means class.
    Source: Grady 2006; paper, Fig. 2c.
    """
    classes, marked = kmeans(image, mask, sigma), seeds(image, mask, sigma)
    markers = np.where(marked == NOT_LABELLED, np.int32(0), marked + np.int32(1))
    if mask is not None:
        markers[~mask] = -1
    smooth = _smoothed(image, mask, sigma)
    values = np.clip(smooth, *quantile_range(smooth, mask))
    values = values / (values if mask is None else values[mask]).std()
    result = classes.copy()
    for core, outer in track(list(_blocks(image.shape, block, halo)), "random walker"):
        present = np.unique(marked[outer][markers[outer] > 0])
        if len(present) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # voxels that no seed reaches: they come back as 0 or -1
            walked = walk(values[outer].astype(np.float64), markers[outer], beta, mode="cg_j")
        # the library numbers the labels that it finds from 1 on
        labels = np.where(walked > 0, present[walked - 1], classes[outer])
        result[core] = labels[tuple(slice(c.start - o.start, c.stop - o.start) for c, o in zip(core, outer))]
    return _within(result, mask)


def _blocks(shape: Sequence[int], block: int, halo: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Blocks (core) that tile the volume, each with its surroundings (outer)."""
    axes = []
    for length in shape:
        edges = np.linspace(0, length, max(1, round(length / block)) + 1).astype(int)
        axes.append([(slice(a, b), slice(max(0, a - halo), min(length, b + halo))) for a, b in pairwise(edges)])
    for cuts in product(*axes):
        yield tuple(core for core, _ in cuts), tuple(outer for _, outer in cuts)


class RandomForest:
    """A random forest on local image features, trained on labelled scans: the way of ilastik and Trainable Weka.

    Features at each of `sigmas` (voxels): Gaussian, gradient magnitude, and the three eigenvalues of the Hessian; and
    the grey value itself. Images are normalised inside their sample first. Source: Berg et al. 2019 (ilastik); Breiman
    2001. `voxels_per_phase` labelled voxels of each phase and training scan are drawn.
    """

    def __init__(
        self,
        sigmas: Sequence[float] = (0.7, 1.6, 3.5, 6.0),
        trees: int = 100,
        voxels_per_phase: int = 5000,
        min_samples_leaf: int = 5,
        slab: int = 24,
        seed: int = 0,
    ):
        self.sigmas, self.voxels_per_phase, self.slab, self.seed = tuple(sigmas), voxels_per_phase, slab, seed
        self.forest = RandomForestClassifier(
            trees, min_samples_leaf=min_samples_leaf, max_features="sqrt", n_jobs=-1, random_state=seed
        )
        self.fitted = False

    def fit(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> "RandomForest":
        """Train on (image, labels) pairs; labels 255 are not used. Raises ValueError if nothing is labelled."""
        samples, classes = [], []
        for number, (image, labels) in enumerate(pairs):
            if image.shape != labels.shape:
                raise ValueError(f"training image {image.shape} and labels {labels.shape} differ in shape")
            rng = np.random.default_rng((self.seed, number))
            chosen = np.sort(np.concatenate([self._draw(labels == phase, rng) for phase in range(len(PHASES))]))
            classes.append(labels.ravel()[chosen])
            samples.append(np.concatenate(list(self._features(image, None, chosen, "features for training"))))
        if not sum(map(len, classes)):
            raise ValueError("no voxel is labelled in the training scans")
        self.forest.fit(np.concatenate(samples), np.concatenate(classes))
        self.fitted = True
        return self

    def __call__(self, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        if not self.fitted:
            raise ValueError("the random forest is not trained; give training scans (image and labels)")
        inside = np.flatnonzero(np.ones(image.shape, bool) if mask is None else mask)
        result = np.full(image.size, NOT_LABELLED, np.uint8)
        parts = [self._predict(slab) for slab in self._features(image, mask, inside, "random forest") if len(slab)]
        result[inside] = np.concatenate(parts)
        return result.reshape(image.shape)

    def _predict(self, samples: np.ndarray) -> np.ndarray:
        """Classes; rounded, since the library adds its trees up in the order in which threads end."""
        return self.forest.classes_[self.forest.predict_proba(samples).round(6).argmax(axis=1)]

    def _draw(self, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        candidates = np.flatnonzero(where)
        return rng.choice(candidates, min(self.voxels_per_phase, len(candidates)), replace=False)

    def _features(self, image, mask, chosen: np.ndarray, title: str) -> Iterator[np.ndarray]:
        """Features (voxels, features) of the chosen flat indices (ascending), slab after slab along z."""
        image = normalise(image, mask)
        halo, plane = int(4 * max(self.sigmas)) + 2, image[0].size
        for start in track(range(0, len(image), self.slab), title):
            stop, first = min(start + self.slab, len(image)), max(0, start - halo)
            here = (
                chosen[np.searchsorted(chosen, start * plane) : np.searchsorted(chosen, stop * plane)] - first * plane
            )
            yield np.stack([f.ravel()[here] for f in local_features(image[first : stop + halo], self.sigmas)], axis=1)


def local_features(image: np.ndarray, sigmas: Sequence[float]) -> Iterator[np.ndarray]:
    """Grey value, then per sigma: Gaussian, gradient magnitude, eigenvalues of the Hessian (ascending), as float32.

    Derivatives are multiplied by sigma once per order, so that they compare between scales (Lindeberg 1998).
    """
    yield image
    for sigma in sigmas:
        smooth = ndimage.gaussian_filter(image, sigma, mode="nearest")
        yield smooth
        slopes = [
            np.gradient(smooth, axis=axis) * np.float32(sigma) if n > 1 else np.zeros_like(smooth)
            for axis, n in enumerate(smooth.shape)
        ]
        yield np.sqrt(sum(slope**2 for slope in slopes))
        hessian = np.empty((*smooth.shape, 3, 3), np.float32)
        for i, j in product(range(3), repeat=2):
            if i <= j:
                bent = np.gradient(slopes[i], axis=j) * np.float32(sigma) if smooth.shape[j] > 1 else 0
                hessian[..., i, j] = hessian[..., j, i] = bent
        yield from np.moveaxis(np.linalg.eigvalsh(hessian), -1, 0)
