import numpy as np
import pytest

from batseg.tomography.fields import smooth_field
from batseg.tomography.materials import (
    Composition,
    attenuation_per_cm,
    index_volumes,
    mixture_index,
    refractive_index,
    wavelength_nm,
)

# delta, beta at 8.4 keV from an independent table (xraydb, photoabsorption), densities in g/cm3.
TABLE = {
    ("C", 2.26): (6.659e-6, 9.11e-9),
    ("C", 1.9): (5.599e-6, 7.66e-9),
    ("SiO", 2.13): (6.334e-6, 9.473e-8),
    ("Si", 2.33): (6.949e-6, 1.483e-7),
    ("SiO2", 2.20): (6.533e-6, 7.81e-8),
    ("C2H2F2", 1.78): (5.259e-6, 1.858e-8),
    ("Cu", 8.96): (2.206e-5, 4.500e-7),
}


@pytest.mark.parametrize("material", TABLE)
def test_refractive_indices_at_8_4_kev_agree_with_an_independent_table(material):
    delta, beta = refractive_index(*material, 8.4)
    assert delta == pytest.approx(TABLE[material][0], rel=0.002)
    assert beta == pytest.approx(TABLE[material][1], rel=0.07)  # the tables differ by up to 6 % for light elements


def test_total_cross_section_attenuates_more_than_photoabsorption():
    photo, total = (refractive_index("C", 2.26, 8.4, kind)[1] for kind in ("photoabsorption", "total"))
    assert 1.05 < total / photo < 1.3


def test_binder_with_literal_recipe_matches_the_hand_calculation():
    delta, beta = Composition(cbd_porosity=0.0, copper_fraction=0.1595).phase_indices(8.4)
    assert delta[3] == pytest.approx(7.99e-6, rel=0.01)
    assert beta[3] == pytest.approx(8.57e-8, rel=0.05)
    assert attenuation_per_cm(beta[2], 8.4) == pytest.approx(80.6, rel=0.05)


def test_a_mixture_of_equals_is_the_material_and_empty_space_thins_it():
    whole = refractive_index("C", 2.26, 8.4)
    assert mixture_index([("C", 2.26, 0.5), ("C", 2.26, 0.5)], 8.4) == pytest.approx(whole)
    assert mixture_index([("C", 2.26, 0.73)], 8.4) == pytest.approx([0.73 * value for value in whole])
    with pytest.raises(ValueError, match="volume fractions"):
        mixture_index([("C", 2.26, 0.7), ("Cu", 8.96, 0.7)], 8.4)


def test_copper_varies_only_inside_the_binder_and_keeps_its_mean():
    labels = np.full((24, 40, 40), 3, np.uint8)
    labels[:6] = 1
    labels[:, :5] = 255
    composition = Composition(copper_fraction=0.16, copper_spread=0.4, copper_correlation_nm=60, copper_grain=0)
    delta, beta = index_volumes(labels, 61.0, composition, 8.4, np.random.default_rng(0))
    expected = composition.phase_indices(8.4)
    assert np.ptp(delta[:6, 5:]) == 0
    assert delta[0, 10, 10] == pytest.approx(expected[0][1])
    assert not beta[labels == 255].any()
    binder = beta[labels == 3]
    assert binder.mean() == pytest.approx(expected[1][3], rel=0.05)
    assert 0.2 < binder.std() / binder.mean() < 0.4


def test_smooth_field_has_unit_variance_and_the_asked_correlation():
    field = smooth_field((64, 96, 96), (0, 5, 5), np.random.default_rng(1))
    assert field.std() == pytest.approx(1, abs=0.05)
    assert abs(np.mean(field[:-1] * field[1:])) < 0.03  # independent along the first axis
    # autocorrelation of smoothed noise: exp(-d^2 / (4 sigma^2))
    assert np.mean(field[:, 5:] * field[:, :-5]) == pytest.approx(np.exp(-0.25), abs=0.05)


def test_unknown_cross_section_and_label_are_refused():
    with pytest.raises(ValueError, match="cross_section"):
        refractive_index("C", 2.26, 8.4, "all")
    with pytest.raises(ValueError, match=r"0\.\.3 or 255"):
        index_volumes(np.full((2, 2, 2), 7, np.uint8), 61, Composition(), 8.4, np.random.default_rng(0))
    assert wavelength_nm(8.4) == pytest.approx(0.1476, rel=1e-3)
