"""Statistics of a cycling series: samples nested in states, sub-volumes nested in samples."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from scipy.stats import nct, norm, t


def bootstrap_mean(
    samples: Sequence[Sequence[float]], rng: np.random.Generator, draws: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean over samples, drawing samples and, within each, its sub-volumes (or its one value).

    With few samples the percentile interval is too short by sqrt((n - 1) / n); it is widened about the mean by the
    inverse and by the ratio of Student's to the normal quantile. NaN for fewer than two samples.
    """
    groups = [np.asarray(sample, float)[np.isfinite(sample)] for sample in samples]
    groups = [group for group in groups if group.size]
    count = len(groups)
    if count < 2:
        return float("nan"), float("nan")
    chosen = rng.integers(0, count, (draws, count))
    drawn = np.empty((draws, count))
    for i, group in enumerate(groups):
        slots = chosen == i
        drawn[slots] = rng.choice(group, (np.count_nonzero(slots), group.size)).mean(axis=1)
    means = drawn.mean(axis=1)
    centre = np.mean([group.mean() for group in groups])
    tail = (1 + level) / 2
    widen = np.sqrt(count / (count - 1)) * t.ppf(tail, count - 1) / norm.ppf(tail)
    low, high = np.quantile(means, [1 - tail, tail])
    return float(centre + widen * (low - centre)), float(centre + widen * (high - centre))


def trend(cycles: Sequence[float], values: Sequence[float], rng: np.random.Generator, draws: int = 20000) -> dict:
    """Slope of a descriptor with the number of cycles, its standard error, and the permutation p-value (two-sided).

    The p-value is the share of relabellings of the samples whose slope is at least as steep: all of them where there
    are no more than 5040, else `draws` random ones. NaN for fewer than four samples or one state.
    """
    cycles, values = np.asarray(cycles, float), np.asarray(values, float)
    known = np.isfinite(values) & np.isfinite(cycles)
    cycles, values = cycles[known], values[known]
    if len(values) < 4 or np.ptp(cycles) == 0:
        return {"slope_per_cycle": np.nan, "slope_standard_error": np.nan, "p_value": np.nan, "samples": len(values)}
    centred = cycles - cycles.mean()
    spread = centred @ centred
    slope = centred @ values / spread
    residual = values - values.mean() - slope * centred
    if len(values) <= 7:
        orders = np.array(list(permutations(range(len(values)))))
    else:
        orders = np.argsort(rng.random((draws, len(values))), axis=1)
    slopes = values[orders] @ centred / spread
    steep = np.abs(slopes) >= abs(slope) * (1 - 1e-9)
    added = 0 if len(values) <= 7 else 1
    return {
        "slope_per_cycle": float(slope),
        "slope_standard_error": float(np.sqrt(residual @ residual / (len(values) - 2) / spread)),
        "p_value": float((steep.sum() + added) / (len(orders) + added)),
        "samples": len(values),
    }


def samples_needed(within_sd: float, change: float, power: float = 0.8, level: float = 0.05) -> float:
    """Samples per state to see a difference of `change` between two states: two-sided t-test with that power.

    NaN where the scatter is unknown or the change zero; at most 10000.
    """
    if not (np.isfinite(within_sd) and np.isfinite(change)) or change == 0:
        return float("nan")
    for count in range(2, 10001):
        freedom = 2 * (count - 1)
        shift = abs(change) / within_sd * np.sqrt(count / 2) if within_sd > 0 else np.inf
        if not np.isfinite(shift) or 1 - nct.cdf(t.ppf(1 - level / 2, freedom), freedom, shift) >= power:
            return float(count)
        if count > 30:  # Student's t is normal here: solve instead of counting on
            needed = 2 * ((norm.ppf(1 - level / 2) + norm.ppf(power)) * within_sd / change) ** 2
            return float(min(10000, max(count, np.ceil(needed))))
    return 10000.0


def pooled_sd(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation within groups, pooled; NaN if no group has two values."""
    known = [np.asarray(group, float)[np.isfinite(group)] for group in groups]
    freedom = sum(max(len(group) - 1, 0) for group in known)
    if freedom == 0:
        return float("nan")
    return float(np.sqrt(sum(((group - group.mean()) ** 2).sum() for group in known if len(group)) / freedom))


def contrast(first: Sequence[float], second: Sequence[float]) -> dict:
    """Mean of the second group less that of the first, with Welch's 95 % interval; NaN for fewer than two in either."""
    a, b = (np.asarray(group, float)[np.isfinite(group)] for group in (first, second))
    if len(a) < 2 or len(b) < 2:
        return {"difference": np.nan, "low": np.nan, "high": np.nan}
    difference = b.mean() - a.mean()
    one, two = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if one + two == 0:
        return {"difference": float(difference), "low": float(difference), "high": float(difference)}
    freedom = (one + two) ** 2 / (one**2 / (len(a) - 1) + two**2 / (len(b) - 1))
    half = t.ppf(0.975, freedom) * np.sqrt(one + two)
    return {"difference": float(difference), "low": float(difference - half), "high": float(difference + half)}


def statistics_rows(
    names: Sequence[str],
    cycles: Sequence[float],
    values: dict[str, Sequence[float]],
    rng: np.random.Generator,
    change: float = 0.2,
) -> list[dict]:
    """One row per descriptor: trend with cycling, pristine against cycled, scatter, samples needed per state.

    names and cycles: of the samples, in the order of every array in `values`. change: the relative change of the
    first state's mean that should be seen.
    """
    cycles = np.asarray(cycles, float)
    states = np.unique(cycles[np.isfinite(cycles)])
    rows = []
    for quantity, numbers in values.items():
        numbers = np.asarray(numbers, float)
        groups = [numbers[cycles == state] for state in states]
        first = groups[0] if groups else np.array([])
        within = pooled_sd(groups)
        known = first[np.isfinite(first)]
        against = contrast(first, np.concatenate(groups[1:]) if len(groups) > 1 else [])
        rows.append(
            {"quantity": quantity, "first_state_mean": known.mean() if known.size else np.nan}
            | trend(cycles, numbers, rng)
            | {f"cycled_less_first_{name}": value for name, value in against.items()}
            | {
                "sd_within_states": within,
                "relative_change": change,
                "samples_per_state_needed": samples_needed(within, change * known.mean() if known.size else np.nan),
            }
        )
    return rows


def state_rows(
    cycles: Sequence[float], values: dict[str, Sequence[float]], rng: np.random.Generator, parts: dict | None = None
) -> list[dict]:
    """One row per descriptor and state: samples, mean, standard deviation and bootstrap interval of the mean.

    parts: {descriptor: list per sample of that sample's sub-volume values}; where given, the bootstrap also draws
    sub-volumes (about each sample's own value).
    """
    cycles = np.asarray(cycles, float)
    rows = []
    for quantity, numbers in values.items():
        numbers = np.asarray(numbers, float)
        for state in np.unique(cycles[np.isfinite(cycles)]):
            members = np.flatnonzero(cycles == state)
            own = numbers[members]
            known = own[np.isfinite(own)]
            groups = [[value] for value in own]
            if parts and quantity in parts:
                groups = [_about(parts[quantity][i], numbers[i]) for i in members]
            low, high = bootstrap_mean(groups, rng)
            rows.append(
                {
                    "quantity": quantity,
                    "state_cycles": state,
                    "samples": len(known),
                    "mean": known.mean() if known.size else np.nan,
                    "standard_deviation": known.std(ddof=1) if len(known) > 1 else np.nan,
                    "interval_low": low,
                    "interval_high": high,
                }
            )
    return rows


def _about(parts: Sequence[float], value: float) -> np.ndarray:
    """Sub-volume values moved so that their mean is the sample's own value."""
    parts = np.asarray(parts, float)[np.isfinite(parts)]
    return parts - parts.mean() + value if parts.size > 1 and np.isfinite(value) else np.array([value])
