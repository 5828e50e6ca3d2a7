"""Parallel-beam projection of slices, its adjoint, and filtered back-projection (FBP).

Conventions (ASTRA's): a slice is a size x size grid; row i and column j lie at x = j - (size-1)/2, y = (size-1)/2 - i
(upwards). At angle theta the point (x, y) falls on detector column c = axis + x cos(theta) + y sin(theta). Lengths are
in pixels: a projection is a sum over pixels, and FBP of it returns the value per pixel.

Backends: "nufft" evaluates the Fourier slice theorem with finufft (two slices per complex transform, many transforms
per plan); "astra" is ASTRA's linear (Joseph) projector on the CPU; "astra_cuda" the same geometry on a GPU. The back-
projection of each is the adjoint of its own projection (exactly for the first two).
"""

from collections.abc import Callable, Sequence

import astra
import finufft
import numpy as np
import scipy.fft

BACKENDS = ("nufft", "astra", "astra_cuda")
FILTERS = ("ram-lak", "shepp-logan", "cosine", "hamming", "hann", "none")
PAIRS_AT_ONCE = 16


class ParallelBeam:
    """Projection operator A of (size, size) slices onto `columns` detector columns at the given angles.

    Parameters
    ----------
    axis : column of the rotation axis, one number or one per angle (jitter); default the detector's middle.
    columns : detector columns, default `size`.
    tolerance : relative accuracy of the non-uniform FFT.
    threads : of finufft and FFT; 0 means as many as the machine allows.
    """

    def __init__(
        self,
        size: int,
        angles_rad: Sequence[float],
        axis: float | Sequence[float] | None = None,
        backend: str = "nufft",
        columns: int | None = None,
        tolerance: float = 1e-4,
        threads: int = 0,
    ):
        if backend not in BACKENDS:
            raise ValueError(f"projection backend must be one of {', '.join(BACKENDS)}; got {backend!r}")
        if backend == "astra_cuda" and not astra.use_cuda():  # a CUDA call without a GPU would kill the process
            raise ValueError("backend 'astra_cuda' needs a CUDA GPU, none is visible; use 'nufft' or 'astra'")
        self.size, self.columns = int(size), int(columns or size)
        self.angles_rad = np.asarray(angles_rad, np.float64).ravel()
        middle = (self.columns - 1) / 2
        self.axis = np.broadcast_to(np.asarray(middle if axis is None else axis, np.float64), self.angles_rad.shape)
        if not ((self.axis > 0) & (self.axis < self.columns - 1)).all():
            raise ValueError(f"rotation axis at column {self.axis.mean():g} is outside the {self.columns} columns")
        self.backend, self.tolerance = backend, tolerance
        self.threads = threads
        self._plans: dict[tuple[int, int], finufft.Plan] = {}
        self._length = _padded_length(self.size, self.columns, self.axis - middle)
        # The Nyquist term has no partner of opposite sign: without it the operator stays real.
        self._kept = np.delete(np.arange(self._length), self._length // 2)
        self._frequency = np.fft.fftfreq(self._length)[self._kept]  # cycles per pixel
        half = self.size // 2 - (self.size - 1) / 2  # finufft's mode 0 against the grid's centre
        shift = self.axis + half * (np.cos(self.angles_rad) - np.sin(self.angles_rad))
        self._phase = np.exp(-2j * np.pi * np.outer(shift, self._frequency)).astype(np.complex64)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one sinogram, (angle, column)."""
        return len(self.angles_rad), self.columns

    def project(self, slices: np.ndarray) -> np.ndarray:
        """Sinograms (n, angle, column) = A slices, float32, of slices (n, size, size)."""
        slices = _stack(slices, (self.size, self.size), "slices")
        if self.backend != "nufft":
            return _astra(self, slices, forward=True)

        def project(part: np.ndarray, pairs: int) -> np.ndarray:
            values = self._plan(2, pairs).execute(_pair(part, pairs))
            padded = np.zeros((pairs, len(self.angles_rad), self._length), np.complex64)
            padded[..., self._kept] = values.reshape(*padded.shape[:2], -1) * self._phase
            return scipy.fft.ifft(padded, axis=-1, workers=self._workers, overwrite_x=True)[..., : self.columns]

        return _in_groups(project, slices, self.shape)

    def backproject(self, sinograms: np.ndarray) -> np.ndarray:
        """Slices (n, size, size) = A' sinograms, float32, of sinograms (n, angle, column)."""
        sinograms = _stack(sinograms, self.shape, "sinograms")
        if self.backend != "nufft":
            return _astra(self, sinograms, forward=False)

        def backproject(part: np.ndarray, pairs: int) -> np.ndarray:
            return self._from_periodic(_pair(part, pairs))

        return _in_groups(backproject, sinograms, (self.size, self.size))

    def fbp(self, sinograms: np.ndarray, filter: str = "ram-lak", cutoff: float = 1.0) -> np.ndarray:
        """Filtered back-projection (n, size, size) of sinograms (n, angle, column), value per pixel.

        `cutoff` is the end of the filter's window as a fraction of the Nyquist frequency. Each angle weighs as much as
        the arc it stands for (0 and 180 degrees share theirs), so 180 and 360 degrees both work.
        """
        sinograms = _stack(sinograms, self.shape, "sinograms")
        weights = angle_weights(self.angles_rad).astype(np.float32)
        # Zero padding to twice the width keeps the ramp's long tails from wrapping round.
        length = _fast_even_length(2 * max(self.columns, self._length // 2))
        response = filter_response(length, filter, cutoff).astype(np.float32)[: length // 2 + 1] * weights[:, None]
        # The filter's tails beside the detector reach the slice's corners: keep them, at negative columns too.
        beside = (self._length - self.columns) // 2
        columns = np.arange(self._length)
        columns[columns >= self.columns + beside] += length - self._length

        def filtered(part: np.ndarray) -> np.ndarray:
            spectrum = scipy.fft.rfft(part, length, axis=-1, workers=self._workers)
            spectrum *= response
            return scipy.fft.irfft(spectrum, length, axis=-1, workers=self._workers, overwrite_x=True)

        if self.backend != "nufft":
            return _astra(self, filtered(sinograms)[..., : self.columns], forward=False)

        def fbp(part: np.ndarray, pairs: int) -> np.ndarray:
            return self._from_periodic(_pair(filtered(part)[..., columns], pairs))

        return _in_groups(fbp, sinograms, (self.size, self.size))

    @property
    def _workers(self) -> int | None:
        return self.threads or None

    def _from_periodic(self, sinograms: np.ndarray) -> np.ndarray:
        """Back-projection of paired sinograms whose columns repeat with the padded length."""
        spectrum = scipy.fft.fft(sinograms, self._length, axis=-1, norm="forward", workers=self._workers)
        values = (spectrum[..., self._kept] * self._phase.conj()).reshape(len(spectrum), -1)
        slices = self._plan(1, len(values)).execute(values if len(values) > 1 else values[0])
        return slices.reshape(-1, self.size, self.size)

    def _plan(self, kind: int, transforms: int) -> finufft.Plan:
        if (kind, transforms) not in self._plans:
            self._plans = {key: plan for key, plan in self._plans.items() if key[0] != kind}
            vertical = np.outer(-np.sin(self.angles_rad), 2 * np.pi * self._frequency)
            horizontal = np.outer(np.cos(self.angles_rad), 2 * np.pi * self._frequency)
            grid = (self.size, self.size)
            options = {"isign": -1 if kind == 2 else 1, "dtype": "complex64", "nthreads": self.threads}
            plan = finufft.Plan(kind, grid, transforms, self.tolerance, **options)
            plan.setpts(vertical.ravel().astype(np.float32), horizontal.ravel().astype(np.float32))
            self._plans[kind, transforms] = plan
        return self._plans[kind, transforms]


def filter_response(length: int, filter: str = "ram-lak", cutoff: float = 1.0) -> np.ndarray:
    """Frequency response (length,) of an FBP filter in FFT order, from the ramp's exact samples in space.

    The band-limited ramp in space is 1/4 at 0, -1/(pi n)^2 at odd n, 0 at even n: unlike |q| sampled in frequency it
    leaves the mean right. Source: Kak & Slaney 1988, ch. 3, eq. 61; windows as in ASTRA.
    """
    if filter not in FILTERS:
        raise ValueError(f"filter must be one of {', '.join(FILTERS)}; got {filter!r}")
    if not 0 < cutoff <= 1:
        raise ValueError(f"the filter's cutoff is a fraction of the Nyquist frequency in (0, 1]; got {cutoff}")
    if filter == "none":
        return np.ones(length)
    n = np.fft.fftfreq(length, 1 / length).round()
    odd = n % 2 == 1
    ramp = np.zeros(length)
    ramp[0] = 0.25
    ramp[odd] = -1 / (np.pi * n[odd]) ** 2
    response = np.fft.fft(ramp).real
    q = np.abs(np.fft.fftfreq(length)) / (0.5 * cutoff)  # 1 at the cutoff
    windows = {
        "ram-lak": np.ones(length),
        "shepp-logan": np.sinc(q / 2),
        "cosine": np.cos(np.pi * q / 2),
        "hamming": 0.54 + 0.46 * np.cos(np.pi * q),
        "hann": 0.5 + 0.5 * np.cos(np.pi * q),
    }
    return response * np.where(q <= 1, windows[filter], 0)


def angle_weights(angles_rad: np.ndarray) -> np.ndarray:
    """Arc (n,) in rad that each angle stands for modulo 180 degrees; the sum is pi for full coverage.

    Equal directions share their arc. No angle stands for more than 1.5 times the median arc, so that the angles beside
    a missing wedge are not blown up to fill it.
    """
    folded = np.mod(np.asarray(angles_rad, np.float64), np.pi)
    folded[np.pi - folded < 1e-6] = 0
    directions, inverse, counts = np.unique(np.round(folded, 6), return_inverse=True, return_counts=True)
    if len(directions) < 3:
        return np.full(len(folded), np.pi / len(folded))
    gaps = np.diff(np.append(directions, directions[0] + np.pi))
    arcs = (gaps + np.roll(gaps, 1)) / 2
    return (np.minimum(arcs, 1.5 * np.median(arcs)) / counts)[inverse]


def _padded_length(size: int, columns: int, offsets: np.ndarray) -> int:
    """Period of the detector that takes the slice's diagonal and the axis offset without wrapping round."""
    return _fast_even_length(max(size * np.sqrt(2), columns) + 2 * np.abs(offsets).max() + 8)


def _fast_even_length(least: float) -> int:
    return 2 * scipy.fft.next_fast_len(int(np.ceil(least / 2)))


def _astra(beam: ParallelBeam, stack: np.ndarray, forward: bool) -> np.ndarray:
    """A or A' of a stack, slice by slice, with ASTRA."""
    across = np.stack([np.cos(beam.angles_rad), np.sin(beam.angles_rad)], axis=1)  # along the detector's columns
    along = across[:, ::-1] * [1, -1]
    centre = ((beam.columns - 1) / 2 - beam.axis)[:, None] * across
    geometry = astra.create_proj_geom("parallel_vec", beam.columns, np.hstack([along, centre, across]))
    grid = astra.create_vol_geom(beam.size, beam.size)
    projector = astra.create_projector("cuda" if beam.backend == "astra_cuda" else "linear", geometry, grid)
    try:
        operator = astra.OpTomo(projector)
        results = np.empty((len(stack), *(beam.shape if forward else (beam.size, beam.size))), np.float32)
        for item, result in zip(stack, results):
            (operator.FP if forward else operator.BP)(np.ascontiguousarray(item), out=result)
        return results
    finally:
        astra.projector.delete(projector)


def _stack(arrays: np.ndarray, shape: tuple[int, int], name: str) -> np.ndarray:
    arrays = np.asarray(arrays, np.float32)
    if arrays.ndim != 3 or arrays.shape[1:] != shape:
        raise ValueError(f"{name} must have shape (n, {shape[0]}, {shape[1]}), got {arrays.shape}")
    return arrays


def _in_groups(operate: Callable, stack: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Real results (n, *shape) of an operation on complex pairs of slices, few pairs at a time, all groups equal.

    What the operation needs beside its result so doesn't grow with the number of slices.
    """
    pairs = max(1, (len(stack) + 1) // 2)
    each = -(-pairs // -(-pairs // PAIRS_AT_ONCE))
    results = np.empty((len(stack), *shape), np.float32)
    for start in range(0, len(stack), 2 * each):
        result = results[start : start + 2 * each]
        paired = operate(stack[start : start + 2 * each], each).reshape(-1, *shape)
        result[0::2] = paired.real[: (len(result) + 1) // 2]
        result[1::2] = paired.imag[: len(result) // 2]
    return results


def _pair(real: np.ndarray, pairs: int) -> np.ndarray:
    """Two real arrays to one complex: the operator is real, so they come apart again. The last pairs may be empty."""
    paired = np.zeros((pairs, *real.shape[1:]), np.complex64)
    paired.real[: (len(real) + 1) // 2] = real[0::2]
    paired.imag[: len(real) // 2] = real[1::2]
    return paired
