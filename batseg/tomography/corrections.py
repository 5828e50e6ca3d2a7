"""From counts to transmission: dark and flat fields, bad pixels, zingers, changing illumination, rings.

Frames are (frame, row, column), sinograms (row, angle, column).
"""

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, median_filter, uniform_filter

from batseg.volumes import InputError

MAD_TO_SIGMA = 1.4826
SMALLEST_TRANSMISSION = 0.01


def require_usable_counts(data: np.ndarray, white: np.ndarray, dark: np.ndarray, name: str = "scan") -> None:
    """Raise InputError for frames that hold no image: not finite, all zero, saturated, or flats not above the dark."""
    for kind, frames in (("projections", data), ("flat fields", white), ("dark fields", dark)):
        if not np.isfinite(frames).all():
            raise InputError(f"{name}: {kind} hold values that are NaN or infinite")
    for kind, frames in (("projection", data), ("flat field", white)):
        empty = ~frames.any(axis=(1, 2))
        if empty.any():
            raise InputError(f"{name}: {empty.sum()} of {len(frames)} {kind}s are all zero (first: {empty.argmax()})")
        # A clipped detector piles counts up on its highest value, all bits set; photon noise never does.
        top = frames.max()
        full = (frames == top).mean(axis=(1, 2)) > 0.01
        if full.any() and top >= 255 and np.log2(top + 1.0) % 1 == 0:
            raise InputError(f"{name}: {full.sum()} of {len(frames)} {kind}s are saturated at {top:g} counts")
    beam = np.median(white) - np.median(dark)
    if beam <= 0:
        raise InputError(f"{name}: flat fields ({np.median(white):g}) are not brighter than dark ({np.median(dark):g})")


def find_bad_pixels(data: np.ndarray, white: np.ndarray, dark: np.ndarray, threshold: float = 8.0) -> np.ndarray:
    """Mask (row, column) of dead, hot, dim and flickering pixels.

    A pixel is bad if its dark level, its sensitivity or its frame-to-frame noise lies more than `threshold` robust
    standard deviations (and 5 %, for noise 60 %) from the median of its 5 x 5 neighbourhood.
    """
    level = np.median(dark, axis=0).astype(np.float32)
    beam = np.maximum(np.median(white, axis=0).astype(np.float32) - level, 1)
    typical = np.median(beam)
    noise = np.median(np.abs(np.diff(np.asarray(data, np.float32), axis=0)), axis=0) if len(data) > 2 else level
    bad = np.zeros(level.shape, bool)
    for image, least in ((level / typical, 0.003), (beam / median_filter(beam, 5), 0.05)):
        bad |= _outliers(image, threshold, least)
    if len(data) > 2:
        spread = noise / np.maximum(median_filter(noise, 5), 1e-6)
        bad |= _outliers(spread, threshold, 0.6)
    return bad


def fill_bad_pixels(frames: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """`frames` with bad pixels replaced, in place, by the distance-weighted mean of the good ones around them.

    Raises InputError if more than half of the detector is bad.
    """
    if bad.mean() > 0.5:
        raise InputError(f"{bad.mean():.0%} of the detector's pixels are bad: are the flat fields in order?")
    for row, column in np.argwhere(bad):
        for reach in (1, 2, 4, 8, 16, 32):
            rows = np.arange(max(row - reach, 0), min(row + reach + 1, bad.shape[0]))
            columns = np.arange(max(column - reach, 0), min(column + reach + 1, bad.shape[1]))
            distance = (rows[:, None] - row) ** 2 + (columns - column) ** 2
            weights = np.where(bad[np.ix_(rows, columns)], 0, 1 / np.maximum(distance, 1)).astype(frames.dtype)
            if np.count_nonzero(weights) >= 3:
                break
        patch = frames[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        frames[:, row, column] = np.tensordot(patch, weights, 2) / weights.sum()
    return frames


def remove_zingers(frames: np.ndarray, threshold: float = 8.0) -> int:
    """Replace, in place, pixels hit by an x-ray (brighter than their surrounding) by the median around them.

    `frames` are relative to the flat field (about 1). `threshold` is in robust standard deviations of a pixel against
    the mean of its 3 x 3 neighbourhood; the dimmer flanks of a hit go with it. Returns the number of replaced pixels.
    """
    contrast = (frames - uniform_filter(frames, (0, 3, 3))) * np.float32(9 / 8)
    sigma = MAD_TO_SIGMA * np.median(np.abs(contrast[:: max(1, len(contrast) // 16)]))
    frame, row, column = np.nonzero(contrast > max(threshold * sigma, 1e-6))
    height, width = frames.shape[1:]

    def around(down: int, right: int) -> np.ndarray:
        return frames[frame, np.clip(row + down, 0, height - 1), np.clip(column + right, 0, width - 1)]

    # A crack seen edge-on is a bright line: a hit is brighter than its surrounding in every direction.
    lines = [(around(i, j) + around(-i, -j)) / 2 for i, j in ((0, 2), (2, 0), (2, 2), (2, -2))]
    isolated = frames[frame, row, column] - np.max(lines, axis=0) > 0.5 * threshold * sigma if len(frame) else frame > 0
    hits = np.zeros(frames.shape, bool)
    hits[frame[isolated], row[isolated], column[isolated]] = True
    if not hits.any():
        return 0
    hits |= binary_dilation(hits, np.ones((1, 3, 3), bool)) & (contrast > 0.375 * threshold * sigma)
    frame, row, column = np.nonzero(hits)
    ring = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if max(abs(i), abs(j)) == 2]
    frames[frame, row, column] = np.median([around(i, j) for i, j in ring], axis=0)
    return len(frame)


def flat_field(white: np.ndarray, dark: np.ndarray) -> np.ndarray:
    """Mean flat (row, column) above the mean dark; at least one count."""
    return np.maximum(white.mean(axis=0, dtype=np.float32) - dark.mean(axis=0, dtype=np.float32), 1)


def illumination_modes(
    relative_white: np.ndarray, flat: np.ndarray | None = None, smooth: float = 1.0, most: int = 24
) -> np.ndarray:
    """Patterns (mode, row, column), orthonormal, by which the illumination differs from the mean flat.

    Principal components of the flats (frame, row, column) divided by their mean, as many as stand out of the photon
    noise, and, if the mean `flat` is given, its relative slopes along rows and columns: what a beam does that moves.
    Source: Van Nieuwenhove et al. 2015, Opt. Express 23 (dynamic flats); the slopes are ours.
    """
    rows, columns = relative_white.shape[1:]
    change = relative_white - relative_white.mean(axis=0)
    patterns = principal_patterns(change, smooth, most, lost=1)[0]
    if flat is not None and min(rows, columns) > 2:
        slopes = np.stack(np.gradient(gaussian_filter(np.log(flat), 0.5)))
        patterns = np.concatenate([patterns, slopes.astype(np.float32)])
    if not len(patterns):
        return patterns
    basis, triangle = np.linalg.qr(patterns.reshape(len(patterns), -1).T)
    independent = np.abs(np.diag(triangle)) > 1e-6
    return np.ascontiguousarray(basis.T[independent]).reshape(-1, rows, columns)


def principal_patterns(
    change: np.ndarray, smooth: float = 1.0, most: int = 24, lost: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Patterns (k, row, column) and courses (frame, k) of frames of mean 0 that stand 1.5 times out of white noise.

    The noise is measured on what is fine in each frame; `lost` degrees of freedom went into removing the mean.
    Nothing stands out of fewer than three frames.
    """
    frames, rows, columns = change.shape
    if frames < 3:
        return np.zeros((0, rows, columns), np.float32), np.zeros((frames, 0), np.float32)
    fine = change - uniform_filter(change, (0, 3, 3))
    sigma = MAD_TO_SIGMA * np.median(np.abs(fine)) / np.sqrt((1 - 1 / 9) * (1 - lost / frames))
    blurred = gaussian_filter(change, (0, smooth, smooth)).reshape(frames, -1)
    strengths, courses = np.linalg.eigh(blurred @ blurred.T)
    strengths, courses = np.sqrt(np.maximum(strengths[::-1], 0)), courses[:, ::-1]
    noise = sigma * (_noise_gain(smooth) * np.sqrt(rows * columns) + np.sqrt(frames))
    count = min(int((strengths[: frames - lost] > 1.5 * noise).sum()), most)
    patterns = courses[:, :count].T @ blurred / strengths[:count, None]
    return patterns.reshape(count, rows, columns).astype(np.float32), courses[:, :count] * strengths[:count]


def fit_modes(relative: np.ndarray, modes: np.ndarray) -> np.ndarray:
    """Amplitudes (frame, mode) of the modes in frames (frame, row, column), by least squares."""
    if not len(modes):
        return np.zeros((len(relative), 0))
    flat = modes.reshape(len(modes), -1)
    return np.linalg.solve(flat @ flat.T, flat @ relative.reshape(len(relative), -1).T).T


def suppress_stripes(sinograms: np.ndarray, width: float = 2.0, rows: float = 1.0) -> np.ndarray:
    """Sinograms (row, angle, column) without the stripes, constant in angle, that make rings.

    The mean over the angles, less what is left of it after smoothing over `width` columns and `rows` rows (standard
    deviations), is subtracted: noise of the flats and scratches change from row to row, the mean over all directions
    of a sample is smooth. Wide stripes need a larger width, which costs detail near the axis.
    """
    mean = sinograms.mean(axis=1)
    stripes = mean - gaussian_filter(mean, (rows, width), mode="nearest")
    return sinograms - stripes[:, None]


def suppress_stripes_sorted(sinograms: np.ndarray, size: int = 11) -> np.ndarray:
    """Sinograms (row, angle, column) with partial and wide stripes removed, one row at a time.

    Every column is sorted along the angles, the sorted sinogram is median-filtered across `size` columns and sorted
    back. Source: Vo, Atwood & Drakopoulos 2018, Opt. Express 26, algorithm 3.
    """
    order = np.argsort(sinograms, axis=1, kind="stable")
    values = np.take_along_axis(sinograms, order, axis=1)
    result = np.empty_like(sinograms)
    np.put_along_axis(result, order, median_filter(values, (1, 1, size)), axis=1)
    return result


def stripe_strength(sinograms: np.ndarray) -> float:
    """Standard deviation of the stripes over that of the mean of as many angles of pure noise: 1 means no stripes.

    Stripes are what is fine across columns in the mean over angles; noise is what is fine in a single angle.
    """
    fine = sinograms - uniform_filter(sinograms, (0, 0, 3))
    single = MAD_TO_SIGMA * np.median(np.abs(fine - np.median(fine, axis=1, keepdims=True)))
    stripes = MAD_TO_SIGMA * np.median(np.abs(fine.mean(axis=1)))
    return float(stripes / max(single / np.sqrt(sinograms.shape[1]), 1e-30))


def _outliers(image: np.ndarray, threshold: float, least: float) -> np.ndarray:
    deviation = np.abs(image - median_filter(image, 5))
    return deviation > max(threshold * MAD_TO_SIGMA * np.median(deviation), least)


def _noise_gain(smooth: float) -> float:
    """Standard deviation of unit white noise after a 2D Gaussian of standard deviation `smooth`."""
    impulse = np.zeros((2 * int(5 * smooth) + 3,) * 2)
    impulse[impulse.shape[0] // 2, impulse.shape[1] // 2] = 1
    return float(np.sqrt((gaussian_filter(impulse, smooth) ** 2).sum()))
