"""Parallel-beam projection of slices, its adjoint, and filtered back-projection (FBP).

Conventions (ASTRA's): a slice is a size x size grid; row i and column j lie at x = j - (size-1)/2, y = (size-1)/2 - i
(upwards). At angle theta the point (x, y) falls on detector column c = axis + x cos(theta) + y sin(theta). Lengths are
in pixels: a projection is a sum over pixels, and FBP of it returns the value per pixel.

Backends: "nufft" evaluates the Fourier slice theorem with finufft (two slices per complex transform, many transforms
per plan); "astra" is ASTRA's linear (Joseph) projector on the CPU; "astra_cuda" the same geometry on a GPU. The back-
projection of each is the adjoint of its own projection (exactly for the first two).
"""

from collections.abc import Sequence

import astra
import finufft
import numpy as np
import scipy.fft

BACKENDS = ("nufft", "astra", "astra_cuda")
FILTERS = ("ram-lak", "shepp-logan", "cosine", "hamming", "hann", "none")


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

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one sinogram, (angle, column)."""
        return len(self.angles_rad), self.columns

    def project(self, slices: np.ndarray) -> np.ndarray:
        """Sinograms (n, angle, column) = A slices, float32, of slices (n, size, size)."""
        slices = _stack(slices, (self.size, self.size), "slices")
        if self.backend != "nufft":
            return _astra(self, slices, forward=True)
        length = self._length
        values = self._plan(2, length, (len(slices) + 1) // 2).execute(_pair(slices))
        spectrum = values.reshape(-1, len(self.angles_rad), length - 1) * self._phase(length)
        padded = np.zeros((*spectrum.shape[:2], length), np.complex64)
        padded[..., _kept(length)] = spectrum
        sinograms = scipy.fft.ifft(padded, axis=-1, workers=self._workers, overwrite_x=True)
        return _unpair(sinograms[..., : self.columns], len(slices))

    def backproject(self, sinograms: np.ndarray) -> np.ndarray:
        """Slices (n, size, size) = A' sinograms, float32, of sinograms (n, angle, column)."""
        sinograms = _stack(sinograms, self.shape, "sinograms")
        if self.backend != "nufft":
            return _astra(self, sinograms, forward=False)
        length = self._length
        spectrum = scipy.fft.fft(_pair(sinograms), length, axis=-1, workers=self._workers)
        return self._from_spectrum(spectrum / length, length, len(sinograms))

    def fbp(self, sinograms: np.ndarray, filter: str = "ram-lak", cutoff: float = 1.0) -> np.ndarray:
        """Filtered back-projection (n, size, size) of sinograms (n, angle, column), value per pixel.

        `cutoff` is the end of the filter's window as a fraction of the Nyquist frequency. Each angle weighs as much as
        the arc it stands for (0 and 180 degrees share theirs), so 180 and 360 degrees both work.
        """
        sinograms = _stack(sinograms, self.shape, "sinograms")
        weights = angle_weights(self.angles_rad).astype(np.float32)
        # Zero padding to twice the width keeps the ramp's long tails from wrapping round.
        length = _fast_even_length(max(2 * self.columns, self._length))
        response = filter_response(length, filter, cutoff).astype(np.float32)
        if self.backend != "nufft":
            spectrum = scipy.fft.rfft(sinograms, length, axis=-1, workers=self._workers)
            spectrum *= response[: spectrum.shape[-1]]
            filtered = scipy.fft.irfft(spectrum, length, axis=-1, workers=self._workers)[..., : self.columns]
            return _astra(self, np.ascontiguousarray(filtered * weights[:, None]), forward=False)
        spectrum = scipy.fft.fft(_pair(sinograms), length, axis=-1, workers=self._workers)
        spectrum *= response * (weights[:, None] / np.float32(length))
        return self._from_spectrum(spectrum, length, len(sinograms))

    @property
    def _workers(self) -> int | None:
        return self.threads or None

    def _from_spectrum(self, spectrum: np.ndarray, length: int, count: int) -> np.ndarray:
        values = spectrum[..., _kept(length)] * self._phase(length).conj()
        plan = self._plan(1, length, len(values))
        slices = plan.execute(values.reshape(len(values), -1) if len(values) > 1 else values.ravel())
        return _unpair(slices.reshape(-1, self.size, self.size), count)

    def _phase(self, length: int) -> np.ndarray:
        """(angle, length-1) factors that put the rotation axis on its column and the grid's centre on the axis."""
        frequency = _frequencies(length)
        half = self.size // 2 - (self.size - 1) / 2  # finufft's mode 0 against the grid's centre
        shift = self.axis + half * (np.cos(self.angles_rad) - np.sin(self.angles_rad))
        return np.exp(-2j * np.pi * shift[:, None] * frequency).astype(np.complex64)

    def _plan(self, kind: int, length: int, transforms: int) -> finufft.Plan:
        key = (kind, length, transforms)
        if key not in self._plans:
            self._plans = {k: plan for k, plan in self._plans.items() if k[0] != kind}
            frequency = 2 * np.pi * _frequencies(length)
            vertical = -np.sin(self.angles_rad)[:, None] * frequency
            horizontal = np.cos(self.angles_rad)[:, None] * frequency
            plan = finufft.Plan(
                kind,
                (self.size, self.size),
                transforms,
                self.tolerance,
                isign=-1 if kind == 2 else 1,
                dtype="complex64",
                nthreads=self.threads,
            )
            plan.setpts(vertical.ravel().astype(np.float32), horizontal.ravel().astype(np.float32))
            self._plans[key] = plan
        return self._plans[key]


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
    """Period of the detector in which neither the slice's corners nor the axis offset wrap onto the columns."""
    reach = size / np.sqrt(2) + columns / 2 + np.abs(offsets).max() + 8
    return _fast_even_length(max(reach, columns))


def _fast_even_length(least: float) -> int:
    return 2 * scipy.fft.next_fast_len(int(np.ceil(least / 2)))


def _frequencies(length: int) -> np.ndarray:
    """Cycles per pixel of the kept DFT terms."""
    return np.fft.fftfreq(length)[_kept(length)]


def _kept(length: int) -> np.ndarray:
    """Indices of the `length - 1` DFT terms that have a partner of opposite sign: all but the Nyquist term."""
    return np.delete(np.arange(length), length // 2)


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


def _pair(real: np.ndarray) -> np.ndarray:
    """Two real arrays to one complex: the operator is real, so they come apart again."""
    paired = np.zeros(((len(real) + 1) // 2, *real.shape[1:]), np.complex64)
    paired.real = real[0::2]
    paired.imag[: len(real) // 2] = real[1::2]
    return paired


def _unpair(paired: np.ndarray, count: int) -> np.ndarray:
    real = np.empty((count, *paired.shape[1:]), np.float32)
    real[0::2] = paired.real
    real[1::2] = paired.imag[: count // 2]
    return real
