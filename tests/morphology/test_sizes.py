"""Local thickness, chords and two-point correlation against closed forms and brute force."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from batseg.morphology.chords import chord_lengths
from batseg.morphology.correlation import two_point_correlation
from batseg.morphology.thickness import local_thickness, squared_distance


def blobs(shape, sigma, seed=0):
    return gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma, mode="wrap") > 0


def cover_with_every_ball(mask, valid=None):
    """Local thickness by its definition, ball after ball."""
    squared = squared_distance(mask, valid)
    out = np.zeros(mask.shape, np.float32)
    grid = np.indices(mask.shape)
    for centre in np.argwhere(mask):
        reach = squared[tuple(centre)]
        inside = ((grid - centre.reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < reach
        out[inside] = np.maximum(out[inside], np.sqrt(reach))
    return np.where(mask, out, 0)


def test_local_thickness_is_the_largest_covering_ball_everywhere():
    mask = blobs((22, 23, 24), 1.6)
    assert np.array_equal(local_thickness(mask), cover_with_every_ball(mask))


def test_not_labelled_voxels_are_no_wall_and_get_no_thickness():
    mask = blobs((20, 24, 24), 1.6)
    valid = np.hypot(*(np.indices((24, 24)) - 11.5)) < 10
    valid = np.broadcast_to(valid, mask.shape)
    found = local_thickness(mask & valid, valid=valid)
    assert np.array_equal(found, cover_with_every_ball(mask & valid, valid))
    assert (found[~valid] == 0).all()


def test_a_cylinder_has_its_radius_and_its_unit():
    radius = np.hypot(*(np.indices((41, 41)) - 20))
    mask = np.broadcast_to(radius < 12.5, (30, 41, 41))
    found = local_thickness(mask, 61.0)
    assert np.median(found[mask]) == pytest.approx(12.5 * 61, abs=0.5 * 61)


def test_a_mask_without_background_is_infinitely_thick_and_an_empty_one_zero():
    assert np.isinf(local_thickness(np.ones((4, 4, 4), bool))).all()
    assert (local_thickness(np.zeros((4, 4, 4), bool)) == 0).all()


def test_layers_have_chords_of_their_width():
    mask = np.zeros((50, 4, 5), bool)
    mask[5:12] = mask[20:23] = mask[48:] = True  # the last is cut by the border
    assert sorted(set(chord_lengths(mask, 0, 10.0))) == [30.0, 70.0]
    assert chord_lengths(mask, 0).size == 40
    assert chord_lengths(mask, 2).size == 0


def test_chords_that_end_at_unlabelled_voxels_are_left_out():
    mask = np.zeros((1, 1, 9), bool)
    mask[0, 0, [1, 2, 5, 6, 7]] = True
    valid = np.ones_like(mask)
    valid[0, 0, 8] = False
    assert chord_lengths(mask, 2, valid=valid).tolist() == [2.0]


def test_correlation_starts_at_the_fraction_and_ends_at_its_square():
    mask = blobs((48, 48, 48), 1.5)
    found = two_point_correlation(mask, voxel_nm=61.0)
    assert found.radial[0] == pytest.approx(mask.mean())
    assert found.lag_nm[2] == 122.0
    assert found.radial[-1] == pytest.approx(mask.mean() ** 2, abs=0.01)


def test_correlation_counts_pairs_directly():
    rng = np.random.default_rng(1)
    mask, valid = rng.random((7, 8, 9)) < 0.4, rng.random((7, 8, 9)) < 0.8
    found = two_point_correlation(mask, lags=3, valid=valid)
    inside, both = mask & valid, valid[:, :-2] & valid[:, 2:]
    assert found.axes[1, 2] == pytest.approx((inside[:, :-2] & inside[:, 2:]).sum() / both.sum())


def test_cross_correlation_of_a_mask_and_its_complement_adds_up():
    mask = blobs((24, 24, 24), 1.5)
    own, cross = two_point_correlation(mask, lags=5), two_point_correlation(mask, ~mask, lags=5)
    assert cross.radial[0] == pytest.approx(0.0)
    assert cross.axes[2, 1] > 0
    assert own.axes[0, 1] + cross.axes[0, 1] == pytest.approx(mask[:-1].mean())
