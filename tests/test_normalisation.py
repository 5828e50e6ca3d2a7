"""The cylinder is found where there is one, and grey values are scaled inside it, robustly."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from batseg.normalisation import normalise, robust_scale, sample_mask, scaled


def cylinder(radius=30.0, centre=(44.0, 50.0), shape=(24, 96, 96), ring=0.0, seed=0):
    """A noisy tomogram of grains inside a cylinder, air around it; and the true slice mask."""
    rng = np.random.default_rng(seed)
    row, column = np.ogrid[: shape[1], : shape[2]]
    inside = np.hypot(row - centre[0], column - centre[1]) <= radius
    grains = gaussian_filter(rng.standard_normal(shape), 3) > 0
    distance = np.hypot(row - 47.5, column - 47.5)
    rings = ring * np.isin(np.floor(distance), (9, 20, 33))
    return (inside * grains + rings + 0.5 * rng.standard_normal(shape)).astype(np.float32), inside


@pytest.mark.parametrize(("radius", "centre"), [(30.0, (44.0, 50.0)), (40.0, (47.5, 47.5)), (22.0, (52.0, 45.0))])
def test_the_cylinder_is_found_wherever_it_stands(radius, centre):
    image, inside = cylinder(radius, centre)
    found = sample_mask(image)
    assert found.shape == image.shape
    assert (found[0] & inside).sum() / (found[0] | inside).sum() > 0.85


def test_rings_do_not_mislead_the_search():
    image, inside = cylinder(ring=2.0)
    found = sample_mask(image)[5]
    assert (found & inside).sum() / (found | inside).sum() > 0.9


@pytest.mark.parametrize("shape", [(24, 48, 48), (12, 40, 64), (64, 32, 32)])
def test_a_block_cut_out_of_the_sample_is_all_sample(shape):
    rng = np.random.default_rng(0)
    grains = gaussian_filter(rng.standard_normal(shape), 3) > 0
    assert sample_mask((grains + 0.3 * rng.standard_normal(shape)).astype(np.float32)).all()


def test_the_mask_takes_the_memory_of_one_slice():
    assert sample_mask(cylinder()[0]).strides[0] == 0


def test_normalised_values_have_centre_zero_and_spread_one_inside_the_mask():
    image, inside = cylinder()
    mask = np.broadcast_to(inside, image.shape)
    values = normalise(1e-4 * image + 7, mask)[mask]
    assert values.dtype == np.float32
    assert abs(values.mean()) < 0.05
    assert 0.95 < values.std() < 1.1


def test_outliers_do_not_change_the_scale_and_are_cut():
    image, inside = cylinder()
    mask = np.broadcast_to(inside, image.shape)
    centre, spread = robust_scale(image, mask)
    spoilt = image.copy()
    spoilt[:, 44, 45:50] = 1e6
    assert robust_scale(spoilt, mask) == pytest.approx((centre, spread), rel=0.05)
    assert normalise(spoilt, mask).max() == 8


def test_air_around_the_sample_does_not_count():
    image, inside = cylinder(22.0)
    mask = np.broadcast_to(inside, image.shape)
    assert robust_scale(image, mask)[0] > 2 * robust_scale(image)[0]


def test_degenerate_images():
    assert robust_scale(np.full((4, 4, 4), 3.0, np.float32)) == (3.0, 1.0)
    assert (scaled(np.full(3, 3.0), 3.0, 1.0) == 0).all()
    with pytest.raises(ValueError, match="mask is empty"):
        robust_scale(np.zeros((4, 4, 4)), np.zeros((4, 4, 4), bool))
    for function in (sample_mask, robust_scale):
        with pytest.raises(ValueError, match="NaN"):
            function(np.full((4, 4, 4), np.nan, np.float32))
