"""Are the probabilities right? Reliability curve, expected calibration error, temperature scaling."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from batseg.phases import NOT_LABELLED

SMALLEST = 1e-6


@dataclass(frozen=True)
class Reliability:
    """Voxels, mean confidence (largest probability) and share of right labels per bin of confidence; NaN if empty."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean |accuracy - confidence| weighted by voxels. NaN without voxels."""
        filled = self.counts > 0
        if not filled.any():
            return float("nan")
        gap = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((gap * self.counts[filled]).sum() / self.counts.sum())


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> Reliability:
    """Reliability of probabilities (phase, z, y, x) against labels (z, y, x); 255 is left out.

    Source: Guo et al. 2017, On calibration of modern neural networks (arXiv 1706.04599).
    """
    known = truth != NOT_LABELLED
    truth, probabilities = truth[known], probabilities[:, known]
    confidence = probabilities.max(0)
    right = probabilities.argmax(0) == truth
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(place, confidence, bins) / counts
        accuracy = np.bincount(place, right, bins) / counts
    return Reliability(counts, mean_confidence, accuracy)


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities to the power 1 / temperature, normalised over axis 0. The order of the phases stays."""
    if temperature <= 0:
        raise ValueError(f"temperature {temperature}: expected a positive number")
    if temperature == 1:
        return probabilities
    powered = np.maximum(probabilities, SMALLEST) ** np.float32(1 / temperature)
    return powered / powered.sum(0)


def fit_temperature(truth: np.ndarray, probabilities: np.ndarray, sample: int = 1_000_000) -> float:
    """The temperature with the least negative log-likelihood on labelled voxels, between 0.2 and 5.

    At most about `sample` evenly spaced voxels take part. 1 if no voxel is labelled.
    """
    known = np.flatnonzero(truth != NOT_LABELLED)
    known = known[:: max(1, known.size // sample)]
    if known.size == 0:
        return 1.0
    labels = truth.ravel()[known].astype(int)
    logs = np.log(np.maximum(probabilities.reshape(len(probabilities), -1)[:, known], SMALLEST)).astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        scaled -= scaled.max(0)
        return float(np.mean(np.log(np.exp(scaled).sum(0)) - scaled[labels, np.arange(labels.size)]))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.2), np.log(5)), method="bounded").x))
