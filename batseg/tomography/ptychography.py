"""Simulated ptychographic tomograms (PXCT): the electron density of the material that a simulated scan looks at."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from batseg.tomography.fields import smooth_field
from batseg.tomography.materials import wavelength_nm

ELECTRON_RADIUS_NM = 2.8179403e-6
"""Classical electron radius."""


@dataclass(frozen=True)
class Ptychography:
    """What PXCT adds to the density. Defaults: two volumes of a simulated beamtime, resampled to voxels of 61 nm."""

    blur_nm: float = 42.0  # standard deviation of the point spread
    noise: float = 0.022  # standard deviation, electrons per cubic angstrom
    noise_nm: float = 37.0  # its correlation


def electron_density(delta: np.ndarray | float, energy_kev: float) -> np.ndarray | float:
    """Electrons per cubic angstrom from delta = r_e wavelength^2 n_e / (2 pi); holds far from absorption edges."""
    return 2e-3 * np.pi * delta / (ELECTRON_RADIUS_NM * wavelength_nm(energy_kev) ** 2)


def blurred_density(
    delta: np.ndarray, voxel_nm: float, energy_kev: float, seen: Ptychography, rng: np.random.Generator
) -> np.ndarray:
    """PXCT tomogram (z, y, x; float32, electrons per cubic angstrom) of delta, on the same grid."""
    density = gaussian_filter(electron_density(delta, energy_kev).astype(np.float32), seen.blur_nm / voxel_nm)
    return density + np.float32(seen.noise) * smooth_field(delta.shape, [seen.noise_nm / voxel_nm] * 3, rng)
