"""Particles and connectivity of drawn bodies."""

import numpy as np
import pytest
from skimage.measure import euler_number as skimage_euler

from batseg.morphology.connectivity import euler_number, largest_component_fraction, percolating_fraction
from batseg.morphology.particles import find_instances, particles


def ellipsoid(size, centre, axes):
    grid = np.indices((size,) * 3)
    return sum(((grid[i] - centre[i]) / axes[i]) ** 2 for i in range(3)) <= 1


def test_an_ellipsoid_gives_back_its_axes_its_normal_and_its_volume():
    labels = ellipsoid(60, (30, 29, 28), (6, 11, 20)).astype(np.uint8)
    found = particles(labels, 1, 10.0)
    lengths = [found["length_nm"][0], found["width_nm"][0], found["height_nm"][0]]
    assert lengths == pytest.approx([400, 220, 120], rel=0.01)
    assert found["axis_z"][0] == pytest.approx(1.0)
    assert found["tilt_deg"][0] == pytest.approx(0.0, abs=1e-3)
    assert found["volume_nm3"][0] == pytest.approx(4 / 3 * np.pi * 60 * 110 * 200, rel=0.01)
    assert not found["touches_border"][0]
    assert found["contact_pore"][0] == 1.0
    assert found["centre_y_nm"][0] == pytest.approx(295.0)


def test_a_ball_is_spherical():
    labels = 2 * ellipsoid(40, (20, 20, 20), (15, 15, 15)).astype(np.uint8)
    assert particles(labels, 2)["sphericity"][0] == pytest.approx(1.0, abs=0.01)


def test_touching_balls_are_one_component_and_two_particles_after_splitting():
    mask = ellipsoid(50, (25, 25, 15), (8, 8, 8)) | ellipsoid(50, (25, 25, 29), (8, 8, 8))
    assert find_instances(mask).max() == 1
    split = find_instances(mask, split_voxels=1.0)
    assert split.max() == 2
    assert split[25, 25, 15] != split[25, 25, 29]
    assert (split[mask] > 0).all()
    assert find_instances(mask, split_voxels=9.0).max() == 1


def test_particles_that_touch_unlabelled_voxels_are_marked():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[:, :, 9:] = 255
    labels[4:7, 4:7, 2:4] = labels[4:7, 4:7, 7:9] = 2
    assert particles(labels, 2)["touches_border"].tolist() == [False, True]


def test_an_absent_phase_has_an_empty_table():
    assert all(len(column) == 0 for column in particles(np.zeros((5, 5, 5), np.uint8), 3).values())


@pytest.mark.parametrize("connectivity", [6, 26])
def test_euler_number_agrees_with_scikit_image(connectivity):
    mask = np.random.default_rng(0).random((12, 13, 14)) < 0.3
    assert euler_number(mask, connectivity) == skimage_euler(mask, connectivity=1 if connectivity == 6 else 3)


def test_a_torus_has_euler_number_zero_and_a_hollow_box_two():
    torus = np.ones((1, 3, 3), bool)
    torus[0, 1, 1] = False
    box = np.ones((3, 3, 3), bool)
    box[1, 1, 1] = False
    assert euler_number(torus) == 0
    assert euler_number(box) == 2


def test_only_the_column_from_end_to_end_percolates():
    mask = np.zeros((6, 5, 5), bool)
    mask[:, 0, 0] = mask[:3, 2, 2] = True
    assert percolating_fraction(mask, 0) == pytest.approx(6 / 9)
    assert percolating_fraction(mask, 1) == 0.0
    assert np.isnan(percolating_fraction(mask & False, 0))
    assert largest_component_fraction(mask) == pytest.approx(6 / 9)
