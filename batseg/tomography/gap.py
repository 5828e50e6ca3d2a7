"""How far a simulated tomogram is from a measured one: histogram, power spectrum, and a classifier's success.

The gap is the cross-validated area under the ROC curve (AUC) of a logistic regression that tells patches of the two
apart from their grey-value histograms and power spectra: 0.5 means that it cannot, 1 that it always can.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from batseg.normalisation import normalise

HISTOGRAM_BINS, SPECTRUM_BINS = 16, 12


def power_spectrum(image: np.ndarray, mask: np.ndarray, bins: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """(frequency in 1/pixel, mean power) in spherical shells of the image inside a mask (z, y, x).

    The mask is softened, and the mean taken off, so that its edge leaks little into the spectrum.
    """
    window = ndimage.gaussian_filter(mask.astype(np.float32), 4) * mask * np.hanning(len(mask) + 2)[1:-1, None, None]
    values = (image - image[mask].mean()) * window
    power = np.abs(np.fft.rfftn(values)) ** 2 / (window**2).sum()
    frequency = _radius(image.shape)
    edges = np.linspace(0, 0.5, bins + 1)
    shells = np.digitize(frequency.ravel(), edges) - 1
    kept = shells < bins
    counts = np.bincount(shells[kept], minlength=bins)
    sums = np.bincount(shells[kept], power.ravel()[kept], minlength=bins)
    return (edges[1:] + edges[:-1]) / 2, sums / np.maximum(counts, 1)


def patch_starts(mask: np.ndarray, patch: tuple[int, int, int], step: float = 1.0) -> np.ndarray:
    """(n, 3) corners of patches of which at least 95 % lie inside the mask; `step` 1 makes them disjoint."""
    steps = [max(1, round(size * step)) for size in patch]
    starts = []
    for corner in product(*(range(0, length - size + 1, s) for length, size, s in zip(mask.shape, patch, steps))):
        if mask[tuple(slice(s, s + size) for s, size in zip(corner, patch))].mean() >= 0.95:
            starts.append(corner)
    if not starts:
        raise ValueError(f"no patch of {patch} voxels lies inside the sample of {mask.shape} voxels; take smaller ones")
    return np.array(starts)


def grey_edges(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Inner edges of the histogram's bins: from the 1 % to the 99 % quantile of a tomogram inside its mask."""
    return np.linspace(*np.quantile(image[mask], (0.01, 0.99)), HISTOGRAM_BINS - 1)


def patch_features(image: np.ndarray, starts: np.ndarray, patch: tuple[int, int, int], edges: np.ndarray) -> np.ndarray:
    """(patch, feature): share of voxels per grey-value bin, then log power per spherical shell of frequencies."""
    window = np.einsum("i,j,k->ijk", *(np.hanning(size + 2)[1:-1] for size in patch)).astype(np.float32)
    frequency = _radius(patch).ravel()
    shells = np.minimum((frequency / 0.5 * SPECTRUM_BINS).astype(int), SPECTRUM_BINS)  # corners share the last shell
    counts = np.bincount(shells, minlength=SPECTRUM_BINS + 1)
    features = []
    for start in starts:
        values = image[tuple(slice(s, s + size) for s, size in zip(start, patch))]
        histogram = np.bincount(np.digitize(values.ravel(), edges), minlength=len(edges) + 1) / values.size
        power = np.abs(np.fft.rfftn((values - values.mean()) * window)).ravel() ** 2
        spectrum = np.log(np.bincount(shells, power, minlength=SPECTRUM_BINS + 1) / np.maximum(counts, 1) + 1e-12)
        features.append(np.concatenate([np.sqrt(histogram), spectrum[counts > 0]]))
    return np.array(features)


@dataclass(frozen=True)
class Gap:
    """AUC with its standard deviation over repeated splits, and the patches it rests on (both classes)."""

    auc: float
    spread: float
    patches: int


def gap(
    measured: np.ndarray,
    simulated: np.ndarray,
    measured_mask: np.ndarray,
    simulated_mask: np.ndarray | None = None,
    patch: tuple[int, int, int] = (12, 20, 20),
    repeats: int = 5,
) -> Gap:
    """Cross-validated AUC of a logistic regression between patches of two tomograms.

    Both are normalised first (robust centre 0 and spread 1 in the mask), as they are for a network. Patches at one
    place of either volume stay in one fold, so that nothing is learnt by heart from the same structure.
    """
    simulated_mask = measured_mask if simulated_mask is None else simulated_mask
    measured, simulated = normalise(measured, measured_mask), normalise(simulated, simulated_mask)
    edges = grey_edges(measured, measured_mask)
    features, classes, groups = [], [], []
    for label, (image, mask) in enumerate(((measured, measured_mask), (simulated, simulated_mask))):
        starts = patch_starts(mask, patch)
        features.append(patch_features(image, starts, patch, edges))
        classes.append(np.full(len(starts), label))
        groups.append(np.ravel_multi_index(starts.T, mask.shape))
    features, classes, groups = map(np.concatenate, (features, classes, groups))
    aucs = []
    for seed in range(repeats):
        scores = np.zeros(len(classes))
        for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(features, classes, groups):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
            scores[test] = model.fit(features[train], classes[train]).decision_function(features[test])
        aucs.append(roc_auc_score(classes, scores))
    return Gap(float(np.mean(aucs)), float(np.std(aucs)), len(classes))


def _radius(shape: tuple[int, ...]) -> np.ndarray:
    """Length of the frequency vector of each term of rfftn, in cycles per pixel."""
    axes = [np.fft.fftfreq(length) for length in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))
