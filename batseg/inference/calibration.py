"""Are the probabilities right? Reliability curve, calibration error, and what mends it."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

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


@dataclass(frozen=True)
class Calibration:
    """What makes fused probabilities right: softmax((log p + offsets) / temperature).

    A temperature alone changes no label. Offsets, one per phase (none: zeros), undo what class weights do: a network
    that learns with rare phases weighted up names them too often. Source: vector scaling of Guo et al. 2017.
    """

    temperature: float = 1.0
    offsets: tuple[float, ...] = ()

    def __post_init__(self):
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature}: expected a positive number")

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities (phase, ...), normalised over axis 0."""
        if self.temperature == 1 and not any(self.offsets):
            return probabilities
        factors = np.exp(np.asarray(self.offsets or (0.0,) * len(probabilities), np.float32))
        weighted = np.maximum(probabilities, SMALLEST) * factors.reshape(-1, *(1,) * (probabilities.ndim - 1))
        powered = weighted ** np.float32(1 / self.temperature)
        return powered / powered.sum(0)


UNCHANGED = Calibration()


def fit_calibration(truth: np.ndarray, probabilities: np.ndarray, sample: int = 1_000_000) -> Calibration:
    """The calibration with the least negative log-likelihood on labelled voxels; temperature between 0.2 and 5.

    At most about `sample` evenly spaced voxels take part. The first phase's offset is zero; without labelled voxels
    nothing is changed.
    """
    known = np.flatnonzero(truth != NOT_LABELLED)
    known = known[:: max(1, known.size // sample)]
    if known.size == 0:
        return UNCHANGED
    labels = truth.ravel()[known].astype(int)
    logs = np.log(np.maximum(probabilities.reshape(len(probabilities), -1)[:, known], SMALLEST)).astype(np.float64)
    right = np.arange(len(logs))[:, None] == labels

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean negative log-likelihood and its gradient over (log of 1 / temperature, offsets / temperature)."""
        sharpness = np.exp(parameters[0])
        scaled = logs * sharpness
        scaled[1:] += parameters[1:, None]
        scaled -= scaled.max(0)
        total = np.exp(scaled).sum(0)
        excess = np.exp(scaled) / total - right
        slopes = np.append(sharpness * (excess * logs).sum(0).mean(), excess[1:].mean(1))
        return float(np.mean(np.log(total) - (scaled * right).sum(0))), slopes

    bounds = [(-np.log(5), np.log(5))] + [(-5.0, 5.0)] * (len(logs) - 1)
    found = minimize(loss, np.zeros(len(logs)), jac=True, bounds=bounds, method="L-BFGS-B").x
    temperature = float(np.exp(-found[0]))
    return Calibration(temperature, (0.0, *(float(value) * temperature for value in found[1:])))
