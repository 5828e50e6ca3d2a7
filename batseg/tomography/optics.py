"""From path integrals of delta and beta to the intensity on the detector: exit wave, defocus, pupil, phase ring, blur.

Projection approximation: psi = exp(-k B - i k P), with P and B the line integrals of delta and beta and k = 2 pi /
wavelength. Everything after the sample is linear in the wave and happens in Fourier space: Fresnel propagation
exp(-i pi wavelength z f^2) over the defocus z, the zone plate's pupil, a Zernike ring, the detector's blur.
Source: paper, Supplementary Note 4 (spatially changing edge enhancement); Paganin 2006, ch. 1-2, for the formulas.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from batseg.tomography.materials import wavelength_nm

PAD_ROWS, PAD_COLUMNS = 12, 8


@dataclass(frozen=True)
class Optics:
    """What lies between sample and detector. Lengths in nm in the sample plane.

    Parameters
    ----------
    defocus_nm : mean propagation distance z; the first bright fringe is sqrt(wavelength z) wide.
    defocus_map_nm : (row, column) distance added to it over the field, or None.
    blur_nm : standard deviation of the Gaussian point spread of the intensity.
    resolution_nm : period at which the zone plate's pupil cuts the wave off; 0 for none. The pupil's edge is softened
        over 10 %, which stands for the condenser's partial coherence.
    phase_ring_rad, phase_ring_transmission : Zernike phase contrast: shift and transmission of the unscattered beam,
        frequencies below 1 / `phase_ring_period_nm`; 0 for none.
    """

    energy_kev: float
    pixel_nm: float
    defocus_nm: float = 0.0
    defocus_map_nm: np.ndarray | None = None
    blur_nm: float = 0.0
    resolution_nm: float = 0.0
    phase_ring_rad: float = 0.0
    phase_ring_transmission: float = 1.0
    phase_ring_period_nm: float = 5000.0


def exit_wave(delta_path_nm: np.ndarray, beta_path_nm: np.ndarray, energy_kev: float) -> np.ndarray:
    """psi = exp(-k B - i k P), complex64, from the path integrals P of delta and B of beta in nm."""
    k = np.float32(2 * np.pi / wavelength_nm(energy_kev))
    wave = np.empty(delta_path_nm.shape, np.complex64)
    amplitude = np.exp(-k * beta_path_nm)
    phase = k * delta_path_nm
    np.multiply(amplitude, np.cos(phase), out=wave.real)
    np.multiply(amplitude, -np.sin(phase), out=wave.imag)
    return wave


def propagate(wave: np.ndarray, pixel_nm: float, energy_kev: float, distance_nm: float) -> np.ndarray:
    """Fresnel propagation of a periodic wave (..., row, column) over a distance."""
    rows, columns = _frequencies(wave.shape, pixel_nm)
    spectrum = scipy.fft.fft2(wave, axes=(-2, -1))
    return scipy.fft.ifft2(spectrum * _fresnel(rows, columns, energy_kev, distance_nm), axes=(-2, -1))


def transmission(
    delta_path_nm: np.ndarray,
    beta_path_nm: np.ndarray,
    optics: Optics,
    shifts_px: np.ndarray | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """Intensity I / I0 (angle, row, column), float32, of the images of a sample given by its path integrals.

    `shifts_px` (angle, 2) moves the sample by (rows, columns) before it is imaged. Above and below, the sample is
    taken to go on as a mirror image; at the sides it should end in air. An infinite pixel blur is never applied: with
    no defocus, pupil, blur and shift the result is Beer-Lambert's exp(-2 k B).
    """
    rows, columns = delta_path_nm.shape[1:]
    height = scipy.fft.next_fast_len(rows + 2 * PAD_ROWS)
    width = scipy.fft.next_fast_len(columns + 2 * PAD_COLUMNS)
    before = ((height - rows) // 2, (width - columns) // 2)
    padding = ((0, 0), (before[0], height - rows - before[0]))
    sides = ((0, 0), (0, 0), (before[1], width - columns - before[1]))
    mode = "reflect" if rows > max(padding[1]) else "edge"

    def padded(path: np.ndarray) -> np.ndarray:
        return np.pad(np.pad(path, (*padding, (0, 0)), mode=mode), sides, mode="edge")

    wave = exit_wave(padded(delta_path_nm), padded(beta_path_nm), optics.energy_kev)
    spectrum = scipy.fft.fft2(wave, axes=(-2, -1), workers=threads, overwrite_x=True)
    f_rows, f_columns = _frequencies((height, width), optics.pixel_nm)
    spectrum *= _pupil(f_rows, f_columns, optics)
    if shifts_px is not None:
        phase = np.float32(-2 * np.pi * optics.pixel_nm) * np.asarray(shifts_px, np.float32)
        spectrum *= np.exp(1j * phase[:, 0, None, None] * f_rows)
        spectrum *= np.exp(1j * phase[:, 1, None, None] * f_columns)
    spread = optics.defocus_map_nm
    if spread is None or not np.any(spread):
        image = _intensity(spectrum, f_rows, f_columns, optics, optics.defocus_nm, threads)
    else:
        # The image is nearly linear in z over the spread of one field: two distances, blended pixel by pixel.
        low, high = optics.defocus_nm + float(spread.min()), optics.defocus_nm + float(spread.max())
        weight = (spread - spread.min()) / max(float(np.ptp(spread)), 1e-9)
        weight = np.pad(weight.astype(np.float32), (padding[1], sides[2]), mode="edge")
        image = _intensity(spectrum, f_rows, f_columns, optics, low, threads)
        image += weight * (_intensity(spectrum, f_rows, f_columns, optics, high, threads) - image)
    if optics.blur_nm > 0:
        blurred = scipy.fft.rfft2(image, axes=(-2, -1), workers=threads)
        variance = np.float32(2 * np.pi**2 * optics.blur_nm**2)
        blurred *= np.exp(-variance * f_rows**2) * np.exp(-variance * f_columns[..., : blurred.shape[-1]] ** 2)
        image = scipy.fft.irfft2(blurred, (height, width), axes=(-2, -1), workers=threads, overwrite_x=True)
    return np.ascontiguousarray(image[:, before[0] : before[0] + rows, before[1] : before[1] + columns])


def _intensity(spectrum, f_rows, f_columns, optics: Optics, distance_nm: float, threads) -> np.ndarray:
    if distance_nm != 0:
        spectrum = spectrum * _fresnel(f_rows, f_columns, optics.energy_kev, distance_nm)
    wave = scipy.fft.ifft2(spectrum, axes=(-2, -1), workers=threads)
    return wave.real**2 + wave.imag**2


def _frequencies(shape: tuple[int, ...], pixel_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """Spatial frequencies in 1/nm along rows (n, 1) and columns (n,), float32."""
    rows, columns = (np.fft.fftfreq(length, pixel_nm).astype(np.float32) for length in shape[-2:])
    return rows[:, None], columns


def _fresnel(f_rows: np.ndarray, f_columns: np.ndarray, energy_kev: float, distance_nm: float) -> np.ndarray:
    chirp = np.float32(-np.pi * wavelength_nm(energy_kev) * distance_nm)
    return np.exp(1j * chirp * f_rows**2) * np.exp(1j * chirp * f_columns**2)


def _pupil(f_rows: np.ndarray, f_columns: np.ndarray, optics: Optics) -> np.ndarray | np.complex64:
    """Amplitude transfer of zone plate and phase ring."""
    frequency = np.sqrt(f_rows**2 + f_columns**2)
    pupil = np.ones(frequency.shape, np.complex64)
    if optics.resolution_nm > 0:
        pupil *= np.clip((1.05 - frequency * optics.resolution_nm) / 0.1, 0, 1)
    if optics.phase_ring_rad != 0 or optics.phase_ring_transmission != 1:
        ring = frequency < 1 / optics.phase_ring_period_nm
        pupil[ring] *= optics.phase_ring_transmission * np.exp(1j * optics.phase_ring_rad)
    return pupil
