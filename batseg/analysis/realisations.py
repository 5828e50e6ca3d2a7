"""Segmentation error carried through: label volumes drawn from the network's probabilities, blob by blob."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from batseg.phases import NOT_LABELLED
from batseg.progress import track


def correlated_field(shape: tuple[int, ...], length_voxels: float, rng: np.random.Generator) -> np.ndarray:
    """A standard normal field whose correlation falls to exp(-1/2) at about `length_voxels`; 0 gives white noise.

    White noise smoothed by a Gaussian of sigma length / sqrt(2) and brought back to unit variance.
    """
    noise = rng.standard_normal(shape, dtype=np.float32)
    sigma = length_voxels / np.sqrt(2)
    if sigma <= 0:
        return noise
    smooth = gaussian_filter(noise, sigma, mode="wrap", truncate=3.0)
    return smooth / _smoothed_sd(shape, sigma)


def _smoothed_sd(shape: tuple[int, ...], sigma: float) -> float:
    """Standard deviation of white noise after the wrapped Gaussian filter: the norm of its kernel, axis by axis."""
    variance = 1.0
    for length in shape:
        pulse = np.zeros(length)
        pulse[0] = 1.0
        variance *= (gaussian_filter(pulse, sigma, mode="wrap", truncate=3.0) ** 2).sum()
    return float(np.sqrt(variance))


def draw_labels(probabilities: np.ndarray, length_voxels: float, rng: np.random.Generator) -> np.ndarray:
    """One label volume (uint8) whose phase probabilities in every voxel are exactly those given, (phase, z, y, x).

    argmax of log p + G with Gumbel noise G, made correlated over `length_voxels` by a Gaussian copula: neighbouring
    voxels err together, as a misjudged boundary does. Voxels whose probabilities add up to 0 are not labelled.
    Source: the Gumbel-max trick; the correlation is our choice, the paper carries no segmentation error.
    """
    if probabilities.ndim != 4 or not np.isfinite(probabilities).all() or probabilities.min() < 0:
        raise ValueError(f"probabilities must be (phase, z, y, x), finite and >= 0; got shape {probabilities.shape}")
    best = np.full(probabilities.shape[1:], -np.inf, np.float32)
    labels = np.full(best.shape, NOT_LABELLED, np.uint8)
    for code, probability in enumerate(probabilities):
        uniform = ndtr(correlated_field(best.shape, length_voxels, rng)).clip(1e-7, 1 - 1e-7)
        with np.errstate(divide="ignore"):
            score = np.log(probability) - np.log(-np.log(uniform))
        better = score > best
        labels[better], best[better] = code, score[better]
    return labels


def agreeing(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities whose largest is that of the label in every labelled voxel.

    Where a rule after the network (the CBD / pore threshold) chose another phase than the most probable, the two
    change places: the choice is the rule's, the confidence the network's. Not labelled voxels become 0.
    """
    probabilities = probabilities.copy()
    winner = probabilities.argmax(axis=0)
    moved = np.nonzero((winner != labels) & (labels < len(probabilities)))
    chosen, lost = (labels[moved].astype(np.intp), *moved), (winner[moved], *moved)
    probabilities[chosen], probabilities[lost] = probabilities[lost], probabilities[chosen]
    probabilities[:, labels >= len(probabilities)] = 0
    return probabilities


def realised(
    probabilities: np.ndarray,
    describe: Callable[[np.ndarray], dict[str, float]],
    count: int,
    length_voxels: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """Descriptors of `count` label realisations, {name: (count,)}; realisation i uses default_rng((seed, i))."""
    draws = [
        describe(draw_labels(probabilities, length_voxels, np.random.default_rng((seed, i))))
        for i in track(range(count), "label realisations")
    ]
    return {name: np.array([draw.get(name, np.nan) for draw in draws]) for name in draws[0]}


def uncertainty_rows(
    values: dict[str, float], realisations: dict[str, np.ndarray], parts: dict[str, np.ndarray]
) -> list[dict]:
    """One row per descriptor: its value and its two standard errors, from segmentation and from sampling.

    segmentation_sd: scatter among label realisations. realisations_mean tells of bias: labels by argmax and labels
    drawn differ in roughness. sampling_sd: scatter among sub-volumes / sqrt(number), for a descriptor that has them
    (`parts`), else NaN. interval: value -/+ 1.96 times both together (the known one alone where one is NaN).
    """
    rows = []
    for quantity, value in values.items():
        drawn = np.asarray(realisations.get(quantity, [np.nan]), float)
        drawn = drawn[np.isfinite(drawn)]
        cells = np.asarray(parts.get(quantity, []), float)
        cells = cells[np.isfinite(cells)]
        segmentation = drawn.std(ddof=1) if drawn.size > 1 else np.nan
        sampling = cells.std(ddof=1) / np.sqrt(cells.size) if cells.size > 1 else np.nan
        errors = np.array([segmentation, sampling])
        both = np.sqrt(np.nansum(errors**2)) if np.isfinite(errors).any() else np.nan
        rows.append(
            {
                "quantity": quantity,
                "value": value,
                "realisations": int(drawn.size),
                "realisations_mean": drawn.mean() if drawn.size else np.nan,
                "segmentation_sd": segmentation,
                "sampling_sd": sampling,
                "interval_low": value - 1.96 * both,
                "interval_high": value + 1.96 * both,
            }
        )
    return rows
