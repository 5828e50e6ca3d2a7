"""Column of the rotation axis from sinograms: opposite projections, or the turning of the first moment.

Re-projection, which shares nothing with them, is part of `alignment`. Sinograms are (row, angle, column) of line
integrals; `shifts` (angle,) are known movements of the sample in columns.
"""

import numpy as np
from scipy.ndimage import gaussian_filter


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
    gap = np.abs(np.mod(angles_rad[None] - angles_rad[:, None], 2 * np.pi) - np.pi)
    first, second = np.unravel_index(np.argsort(gap, axis=None), gap.shape)
    near = gap[first, second] < max(1e-3, 1.01 * gap.min())
    keep = np.flatnonzero(near & (first < second))
    if len(keep) == 0 or gap.min() > np.deg2rad(3):
        raise ValueError(f"no opposite projections: the angles come within {np.rad2deg(gap.min()):.1f} degrees of that")
    keep = keep[np.unique(np.linspace(0, len(keep) - 1, pairs).astype(int))]
    shifts = np.zeros(len(angles_rad)) if shifts is None else shifts
    axis = (sinograms.shape[-1] - 1) / 2
    for _ in range(3):  # the window must be centred on the axis, or it draws the axis to its own middle
        axis = _mirror_axis(sinograms, shifts, list(zip(first[keep], second[keep])), band, axis)
    return axis


def moment_axis(sinograms: np.ndarray, angles_rad: np.ndarray) -> float:
    """Axis from the first moment of the projections, which turns as axis + x cos(theta) + y sin(theta).

    Needs no opposite projections, but air on both sides and steady light.
    """
    profile = sinograms.mean(axis=0, dtype=np.float64)
    moment = (profile @ np.arange(profile.shape[1])) / np.maximum(profile.sum(axis=1), 1e-30)
    turning = np.column_stack([np.ones_like(angles_rad), np.cos(angles_rad), np.sin(angles_rad)])
    axis = float(np.linalg.lstsq(turning, moment, rcond=None)[0][0])
    return float(np.clip(axis, 1, profile.shape[1] - 2))


def _mirror_axis(
    sinograms: np.ndarray, shifts: np.ndarray, pairs: list[tuple[int, int]], band: tuple[float, float], axis: float
) -> float:
    """One reading of the axis from pairs of projections, weighted by a window about `axis`."""
    low, high = band
    columns = sinograms.shape[-1]
    length = 4 * columns
    frequency = np.fft.rfftfreq(length)
    half = min(axis, columns - 1 - axis) + 0.5
    places = np.arange(columns)
    windows = [np.cos(np.pi / 2 * np.clip((places - a) / half, -1, 1)) ** 2 for a in (axis, columns - 1 - axis)]
    spectrum = np.zeros(len(frequency), complex)
    for one, other in pairs:
        frames = [np.asarray(sinograms[:, index], np.float64) for index in (one, other)]
        frames = [gaussian_filter(f, low, mode="nearest") - gaussian_filter(f, high, mode="nearest") for f in frames]
        left, right = np.fft.rfft(frames[0] * windows[0], length), np.fft.rfft(frames[1][:, ::-1] * windows[1], length)
        product = (left * right.conj()).sum(axis=0)
        spectrum += product * np.exp(2j * np.pi * frequency * (shifts[one] + shifts[other]))
    score = np.fft.irfft(spectrum, length)
    reach = columns // 2
    coarse = np.arange(-reach, reach + 1)
    peak = coarse[np.argmax(score[coarse])]
    fine = peak + np.arange(-1, 1.005, 0.01)
    values = (spectrum[None] * np.exp(2j * np.pi * np.outer(fine, frequency))).sum(axis=1).real
    return float(np.clip((columns - 1 + fine[np.argmax(values)]) / 2, 1, columns - 2))
