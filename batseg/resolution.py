"""Fourier shell correlation (FSC): the resolution at which two tomograms of one sample stop agreeing.

Source: paper, Results and Supplementary Note 2 (119 nm); van Heel & Schatz 2005, J. Struct. Biol. 151.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft

CRITERIA = ("half-bit", "one-bit", "0.143")


@dataclass(frozen=True)
class ShellCorrelation:
    """FSC curve: frequency (1/nm) of each shell, correlation, number of independent Fourier terms, voxel size."""

    frequency: np.ndarray
    correlation: np.ndarray
    independent: np.ndarray
    voxel_nm: float

    def threshold(self, criterion: str) -> np.ndarray:
        """Value of a criterion (half-bit, one-bit, 0.143) on every shell."""
        return threshold(criterion, self.independent)

    def resolution_nm(self, criterion: str = "half-bit") -> float:
        """Period at the first crossing below the criterion, interpolated between shells.

        NaN if the correlation is below it from the start; two voxels (Nyquist) if it never falls below.
        """
        excess = self.correlation - self.threshold(criterion)
        below = np.flatnonzero(excess[1:] < 0) + 1  # the first shell holds the mean's leakage
        if not len(below):
            return 2 * self.voxel_nm
        last = below[0]
        if last == 1 and excess[0] < 0:
            return float("nan")
        share = excess[last - 1] / (excess[last - 1] - excess[last]) if excess[last - 1] > 0 else 0.0
        step = self.frequency[last] - self.frequency[last - 1]
        return float(1 / (self.frequency[last - 1] + share * step))


def threshold(criterion: str, independent: np.ndarray) -> np.ndarray:
    """FSC value at which `independent` Fourier terms carry half a bit, or one bit, each; or 0.143."""
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}; got {criterion!r}")
    if criterion == "0.143":
        return np.full(np.shape(independent), 0.143)
    root = np.sqrt(np.maximum(independent, 1))
    if criterion == "half-bit":
        return np.minimum((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root), 1)
    return np.minimum((0.5 + 2.4142 / root) / (1.5 + 1.4142 / root), 1)


def shell_correlation(first: np.ndarray, second: np.ndarray, voxel_nm: float, taper: float = 0.5) -> ShellCorrelation:
    """FSC of two volumes (z, y, x) on one grid, in shells one Fourier pixel of the longest edge wide.

    Volumes are weighted by a window that falls to 0 over the outer `taper` (fraction of the edge, both sides
    together), so that the faces do not correlate; independent terms are counted as half of each shell (a real volume's
    terms come in pairs) times the window's share of the volume.

    Raises ValueError if the shapes differ or an edge is shorter than 8 voxels.
    """
    if first.shape != second.shape or first.ndim != 3 or min(first.shape) < 8:
        raise ValueError(
            f"two volumes of one shape with edges of 8 voxels or more are needed: {first.shape}, {second.shape}"
        )
    windows = [_tukey(length, taper) for length in first.shape]
    window = windows[0][:, None, None] * windows[1][:, None] * windows[2]
    spectra = [
        scipy.fft.rfftn((volume - np.mean(volume, dtype=np.float64)).astype(np.float32) * window, workers=-1)
        for volume in (first, second)
    ]
    axes = [np.fft.fftfreq(length) for length in first.shape[:2]] + [np.fft.rfftfreq(first.shape[2])]
    radius = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2)
    edge = max(first.shape)
    shell = np.rint(radius * edge).astype(np.int32).ravel()
    # rfft keeps one of each pair of terms, except in its first (and, for even length, last) plane.
    pairs = np.full(first.shape[2] // 2 + 1, 2.0, np.float32)
    pairs[0] = 1
    if first.shape[2] % 2 == 0:
        pairs[-1] = 1
    pairs = np.broadcast_to(pairs, radius.shape).ravel()
    count = edge // 2 + 1

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(shell, values.ravel() * pairs, minlength=count)[:count]

    cross = total((spectra[0] * spectra[1].conj()).real)
    power = total(np.abs(spectra[0]) ** 2) * total(np.abs(spectra[1]) ** 2)
    independent = total(np.ones(radius.shape)) / 2 * float(np.mean(window**2))
    correlation = cross / np.sqrt(np.maximum(power, 1e-30))
    frequency = np.arange(count) / (edge * voxel_nm)
    return ShellCorrelation(frequency[1:], correlation[1:], independent[1:], voxel_nm)


def inscribed_block(shape: tuple[int, int, int], radius: float) -> tuple[slice, slice, slice]:
    """Slices of the largest upright square block inside a cylinder about the middle of the grid."""
    edges = [min(int(np.sqrt(2) * radius), length) for length in shape[1:]]
    return (slice(None), *(slice((n - edge) // 2, (n - edge) // 2 + edge) for n, edge in zip(shape[1:], edges)))


def _tukey(length: int, taper: float) -> np.ndarray:
    """Flat window with cosine flanks that take `taper` of the length together."""
    place = (np.arange(length) + 0.5) / length
    distance = np.minimum(place, 1 - place)
    flank = max(taper / 2, 1e-6)
    return np.where(distance < flank, 0.5 - 0.5 * np.cos(np.pi * distance / flank), 1).astype(np.float32)
