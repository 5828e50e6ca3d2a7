"""Illumination and sample movement of every projection, found by comparing projections with re-projections.

Model: relative frame = exp(-p(c - d, r - e)) (1 + sum_k a_k M_k), where p is the projection of the tomogram, (e, d) the
movement of the sample in rows and columns and a_k the amplitudes of the illumination modes M_k. Tomogram and unknowns
are found in turn: each round reconstructs, projects again and solves the linearised misfit for (a, d, e).
"""

from dataclasses import dataclass, field, replace

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter

from batseg.tomography.corrections import SMALLEST_TRANSMISSION, fit_modes, principal_patterns
from batseg.tomography.projection import ParallelBeam

FORWARD = 1.3
"""Step over 1: the re-projection holds part of each projection's own error, so plain steps fall short."""

DRIFT_TERMS = 9
"""Cosine terms over the scan that count as slow drift; the rounds find faster movement, these have their own step."""

FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class Alignment:
    """Axis column, shifts (n,) of every projection in columns and rows (pixels), illumination modes and amplitudes.

    `shift_columns` has no mean and no part that turns with the angle: those are the axis and the sample's place.
    `modes` (mode, row, column) are those given and those found, `amplitudes` (n, mode) theirs in every projection.
    `radius` is that of the cylinder the sample was found to be, in pixels, or None. `misfit` is the standard deviation
    of frames against re-projections, round by round; `axis_sigma` the statistical error of the axis.
    """

    axis: float
    shift_columns: np.ndarray
    shift_rows: np.ndarray
    amplitudes: np.ndarray
    modes: np.ndarray
    radius: float | None = None
    misfit: list[float] = field(default_factory=list)
    axis_sigma: float = float("nan")


def align(
    relative: np.ndarray,
    modes: np.ndarray,
    angles_rad: np.ndarray,
    axis: float,
    binnings: tuple[int, ...] = (2, 2, 2, 2, 1),
    move: bool = True,
) -> Alignment:
    """Find illumination and movement of frames (angle, row, column) relative to the flat; `axis` is a first guess.

    Two rounds for the illumination alone come first; then a round for each of `binnings`, at that binning of rows and
    columns. Fewer than 8 rows of a binning give no vertical shift.
    """
    count = len(relative)
    state = Alignment(axis, np.zeros(count), np.zeros(count), fit_modes(relative - relative.mean(axis=0), modes), modes)
    state = _level_illumination(state, relative)
    small = {binning: bin_frames(relative, binning) for binning in {1, 2, *binnings}}
    if len(modes):
        for _ in range(2):
            state, _ = _refine(state, small[2], angles_rad, False, 2)
        state = _add_modes(state, relative, angles_rad)
    for turn, binning in enumerate(binnings):
        state, _ = _refine(state, small[binning], angles_rad, move, binning)
        if turn > 0:
            state = _refine_drift(state, small[binning], angles_rad, move, binning)
    return state


def line_integrals(relative: np.ndarray, alignment: Alignment, binning: int = 1) -> np.ndarray:
    """Sinograms (row, angle, column) of -log transmission, illumination divided out and vertical movement undone."""
    frames = np.tensordot(alignment.amplitudes.astype(np.float32), bin_frames(alignment.modes, binning), 1)
    frames += 1
    np.divide(relative, frames, out=frames)
    np.clip(frames, SMALLEST_TRANSMISSION, None, out=frames)
    np.negative(np.log(frames, out=frames), out=frames)
    return shift_rows(frames, alignment.shift_rows / binning).transpose(1, 0, 2)


def fit_cylinder(
    mean: np.ndarray, modes: np.ndarray, axis: float
) -> tuple[float | None, tuple[np.ndarray, float] | None]:
    """Radius of a uniform cylinder and (its projection (column,), rms of what it leaves) fitted to the mean projection.

    `mean` is (row, column) of line integrals; illumination modes are fitted along with it. (None, None) without modes.
    """
    if not len(modes):
        return None, None
    rows, columns = mean.shape
    distance = np.arange(columns) - axis
    largest = min(axis, columns - 1 - axis) - 1
    best = None
    for radius in np.arange(0.5 * largest, largest, max(1.0, columns / 256)):
        chord = 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0))
        basis = np.concatenate([np.broadcast_to(chord, (1, rows, columns)), modes]).reshape(len(modes) + 1, -1)
        solution = np.linalg.solve(basis @ basis.T, basis @ mean.ravel())
        rms = float(np.sqrt(np.mean((mean.ravel() - solution @ basis) ** 2)))
        if best is None or rms < best[2]:
            best = float(radius), (solution[0] * chord).astype(np.float32), rms
    return best[0], (best[1], best[2])


def shift_rows(frames: np.ndarray, shifts: np.ndarray, margin: int = 8) -> np.ndarray:
    """Frames (angle, row, column) read at row + shift (pixels), by the Fourier shift theorem with mirrored margins."""
    if not np.any(shifts):
        return frames
    rows = frames.shape[1]
    margin = min(margin, rows - 1)
    length = rows + 2 * margin
    phase = np.exp(2j * np.pi * np.outer(shifts, np.fft.rfftfreq(length))).astype(np.complex64)
    shifted = np.empty(frames.shape, np.float32)
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        part = slice(start, start + FRAMES_AT_ONCE)
        padded = np.pad(frames[part], ((0, 0), (margin, margin), (0, 0)), mode="reflect")
        spectrum = scipy.fft.rfft(padded, axis=1, workers=-1)
        spectrum *= phase[part, :, None]
        shifted[part] = scipy.fft.irfft(spectrum, length, axis=1, workers=-1)[:, margin : margin + rows]
    return shifted


def bin_frames(frames: np.ndarray, binning: int) -> np.ndarray:
    """Frames (n, row, column) averaged over binning x binning pixels; what does not fill a bin is left out.

    Fewer than 16 rows are averaged along columns only.
    """
    if binning == 1:
        return frames
    count, rows, columns = frames.shape
    down = binning if rows >= 16 else 1
    cut = frames[:, : rows // down * down, : columns // binning * binning]
    return cut.reshape(count, rows // down, down, columns // binning, binning).mean(axis=(2, 4))


def binned_column(column: np.ndarray | float, binning: float) -> np.ndarray | float:
    """Where a column of the detector lies after binning from its left edge."""
    return (column + 0.5) / binning - 0.5


def _level_illumination(state: Alignment, relative: np.ndarray) -> Alignment:
    """State with the mean illumination that a uniform cylinder leaves unexplained, where the sample is such a cylinder.

    It counts as one if it leaves less of the mean projection unexplained than the illumination changes from frame to
    frame; else the flats are trusted.
    """
    mean = -np.log(np.clip(relative, SMALLEST_TRANSMISSION, None)).mean(axis=0)
    radius, cylinder = fit_cylinder(mean, state.modes, state.axis)
    fluctuation = np.sqrt((state.amplitudes**2).mean(axis=0).sum() / mean.size)
    if cylinder is None or cylinder[1] > fluctuation:
        return state
    return replace(state, amplitudes=fit_modes(relative * np.exp(cylinder[0]) - 1, state.modes), radius=radius)


def _refine(
    state: Alignment, relative: np.ndarray, angles_rad: np.ndarray, move: bool, binning: int
) -> tuple[Alignment, np.ndarray]:
    """One round: reconstruct, project, solve for amplitudes and movement. Also what the illumination leaves."""
    modes = bin_frames(state.modes, binning)
    size = relative.shape[2]
    beam = ParallelBeam(size, angles_rad, binned_column(state.axis + state.shift_columns, binning))
    slices = beam.fbp(line_integrals(relative, state, binning))
    slices *= _sample_mask(state, size, binning)
    again = shift_rows(np.ascontiguousarray(beam.project(slices).transpose(1, 0, 2)), -state.shift_rows / binning)
    del slices
    misfit = np.exp(again)
    misfit *= relative
    misfit -= 1
    rows = move and relative.shape[1] >= 8
    amplitudes, step = _solve(misfit, again, modes, [True] * move + [True] * rows)
    moved, vertical = state, state.shift_rows
    if move:
        moved = _with_columns(state, FORWARD * binning * step[:, 0], angles_rad)
    if rows:
        vertical = vertical + FORWARD * binning * np.clip(step[:, 1], -0.5, 0.5)
        vertical = vertical - vertical.mean()
    left = np.subtract(misfit, np.tensordot(amplitudes.astype(np.float32), modes, 1), out=misfit)
    misfits = [*state.misfit, float(left.std())]
    # Binned modes are not orthonormal, but the amplitudes hold for the unbinned ones as they are.
    return replace(moved, shift_rows=vertical, amplitudes=amplitudes, misfit=misfits), left


def _add_modes(state: Alignment, relative: np.ndarray, angles_rad: np.ndarray, most: int = 8) -> Alignment:
    """State with the modes that flicker in the projections but not in the flats.

    Taken from the principal components of the misfit: those that stand out of the others and jump from projection to
    projection; what a wrong tomogram leaves changes slowly with the angle.
    """
    _, left = _refine(state, relative, angles_rad, False, 1)
    _, courses = principal_patterns(left - left.mean(axis=0), lost=1)
    if not courses.shape[1]:
        return state
    strength = np.linalg.norm(courses, axis=0)
    unit = (courses / strength).T
    jumps = (np.diff(unit, axis=1) ** 2).sum(axis=1) > 1.3  # 2 (1 - autocorrelation)
    chosen = unit[jumps & (strength > 2 * np.median(strength))][:most].astype(np.float32)
    found = np.tensordot(chosen, left, 1)
    amplitudes = state.amplitudes
    modes = np.concatenate([state.modes, found])
    if len(found):
        scale = np.linalg.norm(found.reshape(len(found), -1), axis=1)
        modes[len(state.modes) :] /= scale[:, None, None]
        amplitudes = np.concatenate([amplitudes, chosen.T * scale], axis=1)
    return replace(state, modes=modes, amplitudes=amplitudes)


def _refine_drift(
    state: Alignment, relative: np.ndarray, angles_rad: np.ndarray, move: bool, binning: int
) -> Alignment:
    """One Gauss-Newton step on the axis and, if the sample may move, on slow drift across the columns.

    Neighbouring projections pin these down too loosely for the rounds to find them in reasonable time; the misfit of
    16 rows does. The turning part (cos, sin) is left out: it is the sample's place. A shift moves the sinograms that go
    into the tomogram one way and its re-projections the other: the misfit's slope is the difference of the two.
    """
    sinograms = gaussian_filter(line_integrals(relative, state, binning), (1, 0, 0))
    sinograms = sinograms[np.unique(np.linspace(0.03 * len(sinograms), 0.97 * (len(sinograms) - 1), 16).astype(int))]
    size, mask = sinograms.shape[2], _sample_mask(state, relative.shape[2], binning)
    terms = np.column_stack([np.cos(k * angles_rad) for k in range(DRIFT_TERMS if move else 1) if k != 1])
    turning = np.column_stack([np.cos(angles_rad), np.sin(angles_rad)])
    if move:
        terms = terms - turning @ np.linalg.lstsq(turning, terms, rcond=None)[0]
        left, strengths, _ = np.linalg.svd(terms, full_matrices=False)
        terms = left[:, strengths > 0.2 * strengths[0]] * np.sqrt(len(angles_rad))

    beam = ParallelBeam(size, angles_rad, binned_column(state.axis + state.shift_columns, binning), tolerance=1e-3)

    def project_again(sinograms: np.ndarray) -> np.ndarray:
        return beam.project(beam.fbp(sinograms) * mask)

    def band(sinograms: np.ndarray) -> np.ndarray:
        return (gaussian_filter(sinograms, (0, 0, 1)) - gaussian_filter(sinograms, (0, 0, 6))).ravel()

    again = project_again(sinograms)
    now = band(sinograms - again)
    across, again_across = _column_slopes(sinograms), _column_slopes(again)
    weights = (terms.T / binning).astype(np.float32)[:, None, :, None]
    slopes = np.column_stack([band(weight * again_across - project_again(weight * across)) for weight in weights])
    normal = slopes.T @ slopes
    change = terms @ -np.linalg.solve(normal, slopes.T @ now)
    change = np.clip(change, -1.0, 1.0)
    variance = np.linalg.inv(normal) * (now**2).mean()
    sigma = float(np.sqrt(terms.mean(axis=0) @ variance @ terms.mean(axis=0)))
    if not move:
        return replace(state, axis=state.axis + float(change.mean()), axis_sigma=sigma)
    return replace(_with_columns(state, change, angles_rad), axis_sigma=sigma)


def _column_slopes(sinograms: np.ndarray) -> np.ndarray:
    """Derivative along the columns, by the Fourier transform: the sample is within the detector."""
    columns = sinograms.shape[-1]
    spectrum = scipy.fft.rfft(sinograms, axis=-1) * (2j * np.pi * np.fft.rfftfreq(columns)).astype(np.complex64)
    return scipy.fft.irfft(spectrum, columns, axis=-1)


def _with_columns(state: Alignment, change: np.ndarray, angles_rad: np.ndarray) -> Alignment:
    """State with `change` added to the shifts in columns: mean to the axis, turning part left out."""
    turning = np.column_stack([np.ones_like(angles_rad), np.cos(angles_rad), np.sin(angles_rad)])
    shifts = state.shift_columns + change
    gauge = np.linalg.lstsq(turning, shifts, rcond=None)[0]
    return replace(state, axis=state.axis + float(gauge[0]), shift_columns=shifts - turning @ gauge)


def _sample_mask(state: Alignment, size: int, binning: int) -> np.ndarray:
    """Where the tomogram is not air, (size, size): the cylinder found, or all that every projection sees."""
    middle = (size - 1) / 2
    radius = middle if state.radius is None else state.radius / binning + 3
    return np.hypot(*np.ogrid[-middle : size - middle, -middle : size - middle]) <= radius


def _solve(
    misfit: np.ndarray, again: np.ndarray, modes: np.ndarray, directions: list[bool], smooth: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes (n, mode) and movement (n, direction) that explain the misfit of each frame, by least squares.

    A frame moved by d differs from the re-projection p by d dp/dc, in first order.
    """
    count, known = len(misfit), len(modes)
    steps = len(directions)
    flat_modes = gaussian_filter(modes, (0, smooth, smooth)).reshape(known, misfit[0].size)
    normal = np.zeros((count, known + steps, known + steps))
    right = np.zeros((count, known + steps))
    normal[:, :known, :known] = flat_modes @ flat_modes.T
    for start in range(0, count, FRAMES_AT_ONCE):
        part = slice(start, start + FRAMES_AT_ONCE)
        target = gaussian_filter(misfit[part], (0, smooth, smooth)).reshape(-1, flat_modes.shape[1])
        right[part, :known] = target @ flat_modes.T
        slopes = np.gradient(gaussian_filter(again[part], (0, smooth, smooth)), axis=(2, 1)[:steps]) if steps else []
        slopes = [slopes] if isinstance(slopes, np.ndarray) else slopes
        slopes = [slope.reshape(len(target), -1) for slope in slopes]
        for i, slope in enumerate(slopes):
            normal[part, :known, known + i] = normal[part, known + i, :known] = slope @ flat_modes.T
            right[part, known + i] = np.einsum("np,np->n", slope, target)
            for j, other in enumerate(slopes[: i + 1]):
                product = np.einsum("np,np->n", slope, other)
                normal[part, known + i, known + j] = normal[part, known + j, known + i] = product
    scale = np.einsum("nii->n", normal) / max(known + steps, 1)
    normal += 1e-9 * scale[:, None, None] * np.eye(known + steps)
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    return solution[:, :known], solution[:, known:]
