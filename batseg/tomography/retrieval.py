"""Single-distance phase retrieval (Paganin): a low-pass that undoes edge enhancement of one material.

With defocus z and ratio delta/beta of the sample, a transmission image is divided by 1 + pi lambda z (delta/beta)
f^2. Only the product z delta/beta matters, so strength is said by one length: the period L = sqrt(pi lambda z
delta/beta) that passes at one half. Source: Paganin et al. 2002, J. Microsc. 206.
"""

import numpy as np
import scipy.fft

PLANCK_KEV_NM = 1.23984198

PRESETS_NM = {"sharp": 115.0, "smooth": 360.0}
"""Half-pass periods of the two settings of the paper (Methods: 0.028 and 0.28; their ratio is that of the squares).

The numbers as printed are no material's delta/beta and the distance is not given; as lengths both settings keep edges.
"""


def half_pass_nm(delta_over_beta: float, distance_m: float, energy_kev: float) -> float:
    """Half-pass period L in nm from the ratio delta/beta, the propagation distance and the photon energy."""
    wavelength_nm = PLANCK_KEV_NM / energy_kev
    return float(np.sqrt(np.pi * wavelength_nm * distance_m * 1e9 * delta_over_beta))


def retrieve(transmission: np.ndarray, half_pass_nm: float, pixel_nm: float, margin: int = 32) -> np.ndarray:
    """Transmission (frame, row, column) after the filter 1 / (1 + (L f)^2); the mean stays. L = 0 changes nothing."""
    if half_pass_nm <= 0:
        return transmission
    _, rows, columns = transmission.shape
    pads = [(min(margin, n - 1), min(margin, n - 1)) for n in (rows, columns)]
    padded = np.pad(transmission, ((0, 0), *pads), mode="reflect")
    height, width = padded.shape[1:]
    squared = np.fft.fftfreq(height, pixel_nm)[:, None] ** 2 + np.fft.rfftfreq(width, pixel_nm) ** 2
    response = (1 / (1 + half_pass_nm**2 * squared)).astype(np.float32)
    spectrum = scipy.fft.rfft2(padded, axes=(1, 2), workers=-1) * response
    filtered = scipy.fft.irfft2(spectrum, (height, width), axes=(1, 2), workers=-1, overwrite_x=True)
    return filtered[:, pads[0][0] : pads[0][0] + rows, pads[1][0] : pads[1][0] + columns]
