"""What is done to labels after the network: cbd and pore told apart by a grey-value threshold."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from batseg.greyvalues import kmeans_grey
from batseg.phases import CBD, GRAPHITE, PORE

Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]


def threshold_cbd_pore(labels: np.ndarray, image: np.ndarray, threshold: float) -> np.ndarray:
    """Voxels labelled cbd or pore become cbd where image > threshold and pore elsewhere; all others stay.

    Source: paper, Results: "voxels predicted as CBD or pore", with the k-means boundary of graphite and silicon.
    """
    if labels.shape != image.shape:
        raise ValueError(f"labels {labels.shape} and image {image.shape} differ in shape")
    either = (labels == CBD) | (labels == PORE)
    return np.where(either, np.where(image > threshold, CBD, PORE), labels).astype(labels.dtype)


@dataclass(frozen=True)
class GreyThreshold:
    """Threshold at the graphite/silicon boundary of a k-means with `clusters` on the tomogram's own grey values."""

    clusters: int = 4

    def threshold(self, image: np.ndarray, mask: np.ndarray | None = None) -> float:
        return float(kmeans_grey(image, self.clusters, mask).boundaries[GRAPHITE])

    def fitted(self, image: np.ndarray, mask: np.ndarray | None = None) -> Rule:
        """The rule for this tomogram, to be applied to any part of it as rule(labels, image)."""
        threshold = self.threshold(image, mask)
        return lambda labels, part: threshold_cbd_pore(labels, part, threshold)

    def __call__(self, labels: np.ndarray, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        return self.fitted(image, mask)(labels, image)


@dataclass(frozen=True)
class Unchanged:
    """Labels as the network gave them."""

    def fitted(self, image: np.ndarray, mask: np.ndarray | None = None) -> Rule:
        return lambda labels, part: labels

    def __call__(self, labels: np.ndarray, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        return labels
