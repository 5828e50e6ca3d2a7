"""Fusion rules: how the overlapping windows and the directions become one probability per phase and voxel.

Every rule sums a term per window with a separable weight, divides by the sum of weights, and finishes; the directions
are then joined the same way with equal weight. The paper does not state its rule (Suppl. Note 6): mean softmax is ours.
"""

from dataclasses import dataclass

import torch

SMALLEST = 1e-6  # a probability below this counts as this in a product: one window alone cannot veto a phase


def axis_weights(length: int, sigma: float | None) -> torch.Tensor:
    """Weights along one window axis: ones, or a Gaussian whose standard deviation is `sigma` window edges."""
    if sigma is None:
        return torch.ones(length)
    position = (torch.arange(length) - (length - 1) / 2) / (sigma * length)
    return torch.exp(-(position**2) / 2).clamp_min(1e-3)


@dataclass(frozen=True)
class MeanSoftmax:
    """Mean of the softmax; with `sigma` the windows' centres weigh more than their borders."""

    sigma: float | None = None

    def window_term(self, probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities

    def direction_term(self, probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities

    def finish(self, mean: torch.Tensor, dim: int) -> torch.Tensor:
        return mean


@dataclass(frozen=True)
class ProductSoftmax:
    """Geometric mean of the softmax, normalised: the windows are treated as independent witnesses."""

    sigma: float | None = None

    def window_term(self, probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities.clamp_min(SMALLEST).log()

    def direction_term(self, probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities.clamp_min(SMALLEST).log()

    def finish(self, mean: torch.Tensor, dim: int) -> torch.Tensor:
        return torch.softmax(mean, dim)


@dataclass(frozen=True)
class Vote:
    """Share of windows that vote for a phase; ties go to the lower label code."""

    sigma: float | None = None

    def window_term(self, probabilities: torch.Tensor) -> torch.Tensor:
        winner = probabilities.argmax(1, keepdim=True)
        return torch.zeros_like(probabilities).scatter_(1, winner, 1.0)

    def direction_term(self, probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities

    def finish(self, mean: torch.Tensor, dim: int) -> torch.Tensor:
        return mean.mul(1e4).round().div(1e4)  # so that a tie stays a tie whatever was rounded on the way


Fusion = MeanSoftmax | ProductSoftmax | Vote
