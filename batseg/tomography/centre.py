"""Column of the rotation axis from sinograms, by two methods that share nothing: opposite projections and sharpness.

(The third, re-projection, is part of `alignment`.) Sinograms are (row, angle, column) of line integrals; `shifts`
(angle,) are known movements of the sample in columns.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from batseg.tomography.projection import ParallelBeam


def mirror_axis(
    sinograms: np.ndarray,
    angles_rad: np.ndarray,
    shifts: np.ndarray | None = None,
    band: tuple[float, float] = (1.0, 8.0),
    pairs: int = 8,
) -> float:
    """Axis from opposite projections: p(theta + pi, c) = p(theta, 2 axis - c).

    Cross-correlation of projections with their mirrored opposites, band-passed between two Gaussians (pixels) so that
    neither noise nor illumination decides, summed over rows and up to `pairs` pairs and read to 1/100 pixel.

    Raises ValueError if no two projections are opposite within 3 degrees.
    """
    low, high = band
    gap = np.abs(np.mod(angles_rad[None] - angles_rad[:, None], 2 * np.pi) - np.pi)
    first, second = np.unravel_index(np.argsort(gap, axis=None), gap.shape)
    near = gap[first, second] < max(1e-3, 1.01 * gap.min())
    keep = np.flatnonzero(near & (first < second))
    if len(keep) == 0 or gap.min() > np.deg2rad(3):
        raise ValueError(f"no opposite projections: the angles come within {np.rad2deg(gap.min()):.1f} degrees of that")
    keep = keep[np.unique(np.linspace(0, len(keep) - 1, pairs).astype(int))]
    columns = sinograms.shape[-1]
    length = 4 * columns
    frequency = np.fft.rfftfreq(length)
    shifts = np.zeros(len(angles_rad)) if shifts is None else shifts
    spectrum = np.zeros(len(frequency), complex)
    for one, other in zip(first[keep], second[keep]):
        frames = [np.asarray(sinograms[:, index], np.float64) for index in (one, other)]
        frames = [gaussian_filter(f, low, mode="nearest") - gaussian_filter(f, high, mode="nearest") for f in frames]
        window = np.hanning(columns)
        product = np.fft.rfft(frames[0] * window, length) * np.fft.rfft(frames[1][:, ::-1] * window, length).conj()
        spectrum += product.sum(axis=0) * np.exp(2j * np.pi * frequency * (shifts[one] + shifts[other]))
    score = np.fft.irfft(spectrum, length)
    reach = columns // 2
    coarse = np.arange(-reach, reach + 1)
    peak = coarse[np.argmax(score[coarse])]
    fine = peak + np.arange(-1, 1.01, 0.02)
    values = (spectrum[None] * np.exp(2j * np.pi * np.outer(fine, frequency))).sum(axis=1).real
    return float((columns - 1 + fine[np.argmax(values)]) / 2)


def sharpness_axis(
    sinograms: np.ndarray,
    angles_rad: np.ndarray,
    guess: float,
    shifts: np.ndarray | None = None,
    radius: float | None = None,
    reach: float = 2.0,
    rows: int = 16,
) -> tuple[float, float]:
    """Axis at which the tomogram is sharpest, and its uncertainty from the scatter between rows.

    Sharpness is the sum of the fourth power of the band-passed tomogram: a wrong axis turns points into arcs. Searched
    within `reach` pixels of `guess`, then within 0.4, where a parabola is fitted per group of rows.
    """
    size = sinograms.shape[2]
    chosen = np.unique(np.linspace(0.03 * len(sinograms), 0.97 * (len(sinograms) - 1), rows).astype(int))
    sinograms = gaussian_filter(sinograms, (1, 0, 0))[chosen] if len(sinograms) > 4 else sinograms[chosen]
    middle = (size - 1) / 2
    inside = np.hypot(*np.ogrid[-middle : size - middle, -middle : size - middle]) <= (radius or middle - 2)
    shifts = np.zeros(len(angles_rad)) if shifts is None else shifts

    def sharpness(axis: float) -> np.ndarray:
        slices = ParallelBeam(size, angles_rad, axis + shifts, tolerance=1e-3).fbp(sinograms, "hann")
        fine = gaussian_filter(slices, (0, 0.8, 0.8)) - gaussian_filter(slices, (0, 4, 4))
        return (fine[:, inside].astype(np.float64) ** 4).sum(axis=1)

    steps = [reach / 4]
    while steps[-1] > 0.1:
        steps.append(max(steps[-1] / 5, 0.1))
    for step in steps:
        grid = np.clip(guess + step * np.arange(-4, 5), 1, size - 2)
        values = np.stack([sharpness(axis) for axis in grid])
        best = int(np.argmax(values.sum(axis=1)))
        guess = float(grid[best])
    near = slice(max(best - 3, 0), best + 4)
    groups = np.array_split(np.arange(values.shape[1]), min(4, values.shape[1]))
    tops = [_parabola_top(grid[near], values[near][:, group].sum(axis=1)) for group in groups]
    scatter = float(np.std(tops) / np.sqrt(max(len(tops) - 1, 1))) if len(tops) > 1 else float("nan")
    return _parabola_top(grid[near], values[near].sum(axis=1)), scatter


def _parabola_top(places: np.ndarray, values: np.ndarray) -> float:
    """Place of the maximum of a parabola through the values, within the places."""
    bend, slope, _ = np.polyfit(places - places.mean(), values / np.abs(values).max(), 2)
    top = -slope / (2 * bend) if bend < 0 else 0.0
    return float(np.clip(places.mean() + top, places.min(), places.max()))
