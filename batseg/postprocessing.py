"""What is done to labels after the network: cbd and pore told apart by a grey-value threshold."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from batseg.greyvalues import kmeans_grey
from batseg.phases import CBD, GRAPHITE, PORE
from batseg.volumes import mapped_anew

Box = tuple[slice, ...]
Rule = Callable[[np.ndarray, Box], np.ndarray]
"""(labels of a part of the tomogram, where the part lies) -> labels."""

WHOLE = (slice(None),) * 3


def threshold_cbd_pore(labels: np.ndarray, image: np.ndarray, threshold: float) -> np.ndarray:
    """Voxels labelled cbd or pore become cbd where image > threshold and pore elsewhere; all others stay.

    Source: paper, Results: "voxels predicted as CBD or pore", with the k-means boundary of graphite and silicon.
    """
    if labels.shape != image.shape:
        raise ValueError(f"labels {labels.shape} and image {image.shape} differ in shape")
    either = (labels == CBD) | (labels == PORE)
    return np.where(either, np.where(image > threshold, CBD, PORE), labels).astype(labels.dtype)


@dataclass(frozen=True)
class SmoothedImage:
    """A tomogram (z, y, x) whose parts are smoothed as they are read: [box] or [slices], with a margin around them.

    sigma : of the Gaussian, voxels; it ends at four sigma, so a part is what it would be in the whole smoothed volume.
    """

    image: np.ndarray
    sigma: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image.shape

    def __getitem__(self, key: int | slice | Box) -> np.ndarray:
        if isinstance(key, (int, np.integer)):
            return self[key : key + 1][0]
        key = key if isinstance(key, tuple) else (key,)
        box = [slice(*part.indices(length)) for part, length in zip((*key, *WHOLE)[:3], self.shape)]
        margin = int(4 * self.sigma + 0.5)
        wide = tuple(slice(max(0, part.start - margin), part.stop + margin) for part in box)
        values = np.asarray(mapped_anew(self.image)[wide], np.float32)
        inner = tuple(slice(part.start - outer.start, part.stop - outer.start) for part, outer in zip(box, wide))
        return ndimage.gaussian_filter(values, self.sigma, mode="nearest")[inner] if self.sigma else values[inner]


@dataclass(frozen=True)
class GreyThreshold:
    """Threshold at the graphite/silicon boundary of a k-means with `clusters` on the tomogram's own grey values.

    smoothing : sigma in voxels of a Gaussian over the grey values beforehand, against voxel noise; 0 for none, as in
    the paper, whose volumes are less noisy.
    """

    clusters: int = 4
    smoothing: float = 0.0

    def threshold(self, image: np.ndarray, mask: np.ndarray | None = None) -> float:
        return float(kmeans_grey(self.seen(image), self.clusters, mask).boundaries[GRAPHITE])

    def seen(self, image: np.ndarray) -> SmoothedImage:
        return SmoothedImage(image, self.smoothing)

    def fitted(self, image: np.ndarray, mask: np.ndarray | None = None) -> Rule:
        """The rule for this tomogram, to be applied to any part of its labels as rule(labels, box)."""
        seen, threshold = self.seen(image), self.threshold(image, mask)
        return lambda labels, box: threshold_cbd_pore(labels, seen[box], threshold)

    def __call__(self, labels: np.ndarray, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        if labels.shape != image.shape:
            raise ValueError(f"labels {labels.shape} and image {image.shape} differ in shape")
        return self.fitted(image, mask)(labels, WHOLE)


@dataclass(frozen=True)
class Unchanged:
    """Labels as the network gave them."""

    def fitted(self, image: np.ndarray, mask: np.ndarray | None = None) -> Rule:
        return lambda labels, box: labels

    def __call__(self, labels: np.ndarray, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        return labels
