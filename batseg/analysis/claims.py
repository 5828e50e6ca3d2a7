"""The paper's statements about Figures 7 and 8, Table 2 and Supplementary Note 7, tested one by one.

Every verdict is computed from the descriptors of the samples: 'confirmed' if the 95 % interval of what is measured
lies wholly inside what the statement allows, 'contradicted' if it lies wholly outside, 'undecided' otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from batseg.analysis.statistics import contrast, trend

CONFIRMED, CONTRADICTED, UNDECIDED = "confirmed", "contradicted", "undecided"
CYCLES = 8.0
"""A trend is given as the change over this many cycles, the paper's longest series."""

Descriptors = dict[str, np.ndarray]
Interval = tuple[float, float, float]
"""Estimate, lower and upper end."""


@dataclass(frozen=True)
class Claim:
    """A statement, where it stands, its number if it has one, what is measured, and the range that confirms it."""

    experiment: str
    statement: str
    place: str
    paper: str
    measured: str
    estimate: Callable[[np.ndarray, Descriptors], Interval]
    low: float = -np.inf
    high: float = np.inf

    def test(self, cycles: np.ndarray, values: Descriptors) -> dict:
        """One row: the statement, the paper's number, ours with its interval, the verdict."""
        value, low, high = self.estimate(np.asarray(cycles, float), values)
        return {
            "experiment": self.experiment,
            "statement": self.statement,
            "place": self.place,
            "paper": self.paper,
            "measured": self.measured,
            "value": value,
            "interval_low": low,
            "interval_high": high,
            "confirmed_from": self.low,
            "confirmed_to": self.high,
            "verdict": verdict(low, high, self.low, self.high),
        }


def verdict(low: float, high: float, allowed_low: float, allowed_high: float) -> str:
    """Where an interval lies against the range that a statement allows; unknown (NaN) is undecided."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return UNDECIDED
    if allowed_low < low and high < allowed_high:
        return CONFIRMED
    if high < allowed_low or low > allowed_high:
        return CONTRADICTED
    return UNDECIDED


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean over samples with Student's 95 % interval; NaN ends for fewer than two."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if known.size < 2:
        return (float(known.mean()) if known.size else np.nan), np.nan, np.nan
    half = t.ppf(0.975, known.size - 1) * known.std(ddof=1) / np.sqrt(known.size)
    return float(known.mean()), float(known.mean() - half), float(known.mean() + half)


def mean_of(name: str, states: str = "all") -> Callable:
    """Mean of a descriptor over all samples, the pristine or the cycled ones."""
    return lambda cycles, values: mean_interval(values[name][_members(cycles, states)])


def less(name: str, other: str, states: str = "all") -> Callable:
    """Mean over samples of the difference of two descriptors of the same sample."""
    return lambda cycles, values: mean_interval((values[name] - values[other])[_members(cycles, states)])


def ratio(name: str, other: str) -> Callable:
    """Mean over samples of one descriptor over another of the same sample, less 1."""
    return lambda cycles, values: mean_interval(values[name] / values[other] - 1)


def change_over_cycling(name: str, relative: bool = False) -> Callable:
    """Slope times CYCLES with its 95 % interval, absolute or relative to the mean over samples; NaN if not measured."""

    def estimate(cycles: np.ndarray, values: Descriptors) -> Interval:
        numbers = values[name]
        if not np.isfinite(numbers).any():
            return np.nan, np.nan, np.nan
        found = trend(cycles, numbers, np.random.default_rng(0), draws=1)
        scale = CYCLES / (np.nanmean(numbers) if relative else 1.0)
        value = found["slope_per_cycle"] * scale
        half = t.ppf(0.975, max(found["samples"] - 2, 1)) * found["slope_standard_error"] * abs(scale)
        return value, value - half, value + half

    return estimate


def cycled_less_pristine(name: str, only: float | None = None) -> Callable:
    """Mean of the cycled samples (or of one state) less that of the pristine ones, Welch's 95 % interval."""

    def estimate(cycles: np.ndarray, values: Descriptors) -> Interval:
        later = cycles > 0 if only is None else cycles == only
        found = contrast(values[name][cycles == 0], values[name][later])
        return found["difference"], found["low"], found["high"]

    return estimate


def _members(cycles: np.ndarray, states: str) -> np.ndarray:
    return {"all": np.isfinite(cycles) | True, "pristine": cycles == 0, "cycled": cycles > 0}[states]


def check_claims(claims: Sequence[Claim], cycles: Sequence[float], values: Descriptors) -> list[dict]:
    """All claims as rows. A descriptor that was not measured leaves its claims undecided."""
    rows = []
    known = {name: np.asarray(numbers, float) for name, numbers in values.items()}
    for claim in claims:
        try:
            rows.append(claim.test(np.asarray(cycles, float), known))
        except KeyError:
            rows.append(claim.test(np.asarray(cycles, float), _Unmeasured(known, len(cycles))))
    return rows


class _Unmeasured(dict):
    def __init__(self, known: Descriptors, count: int):
        super().__init__(known)
        self.count = count

    def __missing__(self, name: str) -> np.ndarray:
        return np.full(self.count, np.nan)
