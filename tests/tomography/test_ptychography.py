from math import erf

import numpy as np
import pytest

from batseg.phases import CBD, GRAPHITE, PORE
from batseg.tomography.materials import Composition, index_volumes
from batseg.tomography.ptychography import Ptychography, blurred_density, electron_density
from batseg.tomography.scan import Imaging, Motion, ScanConditions, random_streams, simulate_pxct
from batseg.tomography.synthetic import simulate_tomogram

SHARP = Ptychography(blur_nm=0, noise=0)


@pytest.mark.parametrize(
    ("phase", "density_g_cm3", "electrons", "mass"), [("graphite", 2.26, 6, 12.011), ("silicon", 2.13, 22, 44.084)]
)
def test_the_electron_density_is_what_the_mass_density_says(phase, density_g_cm3, electrons, mass):
    delta = dict(zip(("pore", "graphite", "silicon"), Composition().phase_indices(8.4)[0]))[phase]
    assert electron_density(delta, 8.4) == pytest.approx(
        0.602214 * density_g_cm3 * electrons / mass, rel=0.02
    )  # f of silicon: +1.3 %


def test_pxct_and_scan_see_the_same_material_and_pxct_leaves_the_scan_as_it_is():
    labels = np.random.default_rng(0).choice([PORE, GRAPHITE, CBD], (8, 24, 24)).astype(np.uint8)
    conditions = ScanConditions(motion=Motion(angles=40), ptychography=SHARP)
    with_it, kept, _ = simulate_tomogram(labels, 61.0, conditions, np.random.default_rng(1), pxct=True)
    without, _, scan = simulate_tomogram(labels, 61.0, conditions, np.random.default_rng(1))
    assert np.array_equal(with_it["image"].array, without["image"].array)
    assert with_it["density"].shape == kept.shape == (8, 24, 24)
    cylinder = np.full((8, 24, 24), CBD, np.uint8)
    material = random_streams(np.random.default_rng(2))["material"]
    delta, _ = index_volumes(cylinder, 61.0, Composition(), 8.4, material)
    density = simulate_pxct(cylinder, 61.0, conditions, np.random.default_rng(2))
    assert density == pytest.approx(electron_density(delta, 8.4), rel=1e-5)
    assert density.std() > 0.1 * density.mean()  # copper varies
    assert "density" not in without
    assert scan.energy_kev == Imaging().energy_kev


def test_blur_and_noise_are_what_was_asked_for():
    delta = np.zeros((4, 4, 64))
    delta[..., 32:] = 1e-5
    edge = blurred_density(delta, 50.0, 8.4, Ptychography(blur_nm=100, noise=0), np.random.default_rng(0))
    x = (np.arange(64) - 31.5) / 2
    expected = electron_density(1e-5, 8.4) * np.array([0.5 * (1 + erf(each / np.sqrt(2))) for each in x])
    assert edge[0, 0, 8:-8] == pytest.approx(expected[8:-8], abs=0.01 * expected.max())
    noise = blurred_density(np.zeros((40, 40, 40)), 50.0, 8.4, Ptychography(), np.random.default_rng(0))
    assert noise.std() == pytest.approx(Ptychography().noise, rel=0.02)
    neighbours = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]
    assert neighbours == pytest.approx(np.exp(-((50 / 37) ** 2) / 4), abs=0.05)
