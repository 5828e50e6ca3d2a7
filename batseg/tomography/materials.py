"""Refractive index n = 1 - delta + i beta of the four phases, from composition and density.

The binder domain (CBD) is PVDF, carbon black and copper with unresolved pores; its copper fraction varies in space.
Source: paper, Methods (recipe, copper stain) and text (27 % internal porosity); xraylib's tables for the constants.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xraylib

from batseg.phases import CBD, NOT_LABELLED
from batseg.tomography.fields import smooth_field

CROSS_SECTIONS = ("photoabsorption", "total")
GRAPHITE_DENSITY, CARBON_BLACK_DENSITY, PVDF_DENSITY, SILICON_OXIDE_DENSITY, COPPER_DENSITY = (
    2.26,
    1.9,
    1.78,
    2.13,
    8.96,
)


def wavelength_nm(energy_kev: float) -> float:
    """Wavelength in nm; 0.1476 nm at 8.4 keV."""
    return 1.239842 / energy_kev


@lru_cache(maxsize=256)
def refractive_index(
    formula: str, density_g_cm3: float, energy_kev: float, cross_section: str = "photoabsorption"
) -> tuple[float, float]:
    """(delta, beta) of a compound at one energy; the linear attenuation coefficient is 4 pi beta / wavelength.

    `cross_section` says what attenuates: 'photoabsorption', or 'total', which adds scattering out of the beam (15 %
    more for carbon at 8.4 keV). Raises ValueError for what xraylib does not know.
    """
    if cross_section not in CROSS_SECTIONS:
        raise ValueError(f"cross_section must be one of {', '.join(CROSS_SECTIONS)}, got {cross_section!r}")
    if not 1 <= energy_kev <= 100:
        raise ValueError(f"energy_kev must lie in 1..100 keV, got {energy_kev}")
    attenuation = xraylib.CS_Photo_CP if cross_section == "photoabsorption" else xraylib.CS_Total_CP
    mu_per_cm = attenuation(formula, energy_kev) * density_g_cm3
    delta = 1.0 - xraylib.Refractive_Index_Re(formula, energy_kev, density_g_cm3)
    return delta, mu_per_cm * 1e-7 * wavelength_nm(energy_kev) / (4 * np.pi)


def mixture_index(
    parts: Sequence[tuple[str, float, float]], energy_kev: float, cross_section: str = "photoabsorption"
) -> tuple[float, float]:
    """(delta, beta) of a mixture from (formula, density g/cm3, volume fraction); what is missing to 1 is empty."""
    indices = [refractive_index(formula, density, energy_kev, cross_section) for formula, density, _ in parts]
    fractions = [fraction for _, _, fraction in parts]
    if min(fractions) < 0 or sum(fractions) > 1 + 1e-9:
        raise ValueError(f"volume fractions must be positive and sum to at most 1, got {fractions}")
    return tuple(float(np.dot(fractions, column)) for column in zip(*indices))


@dataclass(frozen=True)
class Composition:
    """What the phases are made of. Volume fractions of the dry binder follow the recipe: PVDF 10 g, carbon 5 g."""

    silicon_formula: str = "SiO"
    silicon_density: float = SILICON_OXIDE_DENSITY
    graphite_density: float = GRAPHITE_DENSITY
    cbd_porosity: float = 0.27  # unresolved pores (paper, text)
    copper_fraction: float = 0.16  # of the solid CBD; 0.16 = half of the carbon black's volume (paper, Methods)
    copper_spread: float = 0.3  # relative standard deviation over space of the copper fraction, smooth
    copper_correlation_nm: float = 250.0
    copper_grain: float = 0.8  # the same on a finer scale: clusters of nanoparticles
    copper_grain_nm: float = 40.0
    density_spread: float = 0.0  # relative standard deviation over space of every solid's density
    density_correlation_nm: float = 500.0
    cross_section: str = "photoabsorption"

    def binder(self, energy_kev: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """(delta, beta) of the solid CBD without copper, and of copper."""
        pvdf, carbon = 10 / PVDF_DENSITY, 5 / CARBON_BLACK_DENSITY
        parts = [
            ("C2H2F2", PVDF_DENSITY, pvdf / (pvdf + carbon)),
            ("C", CARBON_BLACK_DENSITY, carbon / (pvdf + carbon)),
        ]
        without = mixture_index(parts, energy_kev, self.cross_section)
        return without, refractive_index("Cu", COPPER_DENSITY, energy_kev, self.cross_section)

    def phase_indices(self, energy_kev: float) -> tuple[np.ndarray, np.ndarray]:
        """(delta, beta), each (4,) in the order of the phases, with the mean copper fraction in the CBD."""
        graphite = refractive_index("C", self.graphite_density, energy_kev, self.cross_section)
        silicon = refractive_index(self.silicon_formula, self.silicon_density, energy_kev, self.cross_section)
        without, copper = np.array(self.binder(energy_kev))
        cbd = (1 - self.cbd_porosity) * ((1 - self.copper_fraction) * without + self.copper_fraction * copper)
        delta, beta = np.array([(0.0, 0.0), graphite, silicon, cbd]).T
        return delta, beta


def index_volumes(
    labels: np.ndarray, voxel_nm: float, composition: Composition, energy_kev: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """delta and beta (z, y, x), float32, of a label volume; pores and unlabelled voxels (255) are empty."""
    codes = np.where(labels == NOT_LABELLED, 0, labels)
    if codes.max(initial=0) > CBD:
        raise ValueError(f"labels must hold 0..3 or 255, found {int(codes.max())}")
    delta, beta = (table.astype(np.float32)[codes] for table in composition.phase_indices(energy_kev))
    if max(composition.copper_spread, composition.copper_grain) > 0 and (inside := codes == CBD).any():
        smooth = smooth_field(labels.shape, [composition.copper_correlation_nm / voxel_nm] * 3, rng)[inside]
        grain = smooth_field(labels.shape, [composition.copper_grain_nm / voxel_nm] * 3, rng)[inside]
        # Lognormal of the set mean and relative spreads: copper clusters are few and dense, and never negative.
        variances = np.log1p(np.square([composition.copper_spread, composition.copper_grain]))
        field = np.sqrt(variances[0]) * smooth + np.sqrt(variances[1]) * grain
        fraction = np.minimum(composition.copper_fraction * np.exp(field - variances.sum() / 2), 1)
        without, copper = composition.binder(energy_kev)
        for volume, dry, metal in zip((delta, beta), without, copper):
            volume[inside] = (1 - composition.cbd_porosity) * (dry + fraction * (metal - dry))
    if composition.density_spread > 0:
        field = smooth_field(labels.shape, [composition.density_correlation_nm / voxel_nm] * 3, rng)
        factor = np.clip(1 + composition.density_spread * field, 0, None, dtype=np.float32)
        delta, beta = delta * factor, beta * factor
    return delta, beta


def attenuation_per_cm(beta: np.ndarray | float, energy_kev: float) -> np.ndarray | float:
    """Linear attenuation coefficient in 1/cm from beta."""
    return 4 * np.pi * beta / wavelength_nm(energy_kev) * 1e7
