"""Column of the rotation axis, found from the data to a fraction of a pixel."""

import numpy as np


def mirrored_pair_axis(sinograms: np.ndarray, angles_rad: np.ndarray) -> float:
    """Axis column from pairs of opposite projections: p(theta + 180 deg, c) = p(theta, 2 axis - c).

    `sinograms` (row, angle, column) of line integrals. Phase-only weights are avoided: the cross-correlation of the
    first and the mirrored opposite projection is summed over rows and interpolated by a parabola.
    """
    first, second = 0, int(np.argmin(np.abs(np.mod(angles_rad - angles_rad[0], 2 * np.pi) - np.pi)))
    one = sinograms[:, first] - sinograms[:, first].mean(axis=-1, keepdims=True)
    other = sinograms[:, second, ::-1] - sinograms[:, second].mean(axis=-1, keepdims=True)
    columns = one.shape[-1]
    product = np.fft.rfft(one, 2 * columns) * np.fft.rfft(other, 2 * columns).conj()
    score = np.fft.fftshift(np.fft.irfft(product.sum(axis=0), 2 * columns))
    peak = int(np.clip(np.argmax(score), 1, len(score) - 2))
    left, middle, right = score[peak - 1 : peak + 2]
    bend = left - 2 * middle + right
    shift = peak - columns + (0.5 * (left - right) / bend if bend else 0.0)
    return (columns - 1 + shift) / 2
