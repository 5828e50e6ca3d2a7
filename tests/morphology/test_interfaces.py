import numpy as np
import pytest

from batseg.morphology.interfaces import (
    coverage,
    instance_contact_areas,
    interface_areas,
    specific_interface_areas,
    surface_area,
)


def ball(centre, radius, size):
    grid = np.indices((size,) * 3)
    return ((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0) <= radius**2


def test_the_documented_ball_has_the_documented_area():
    mask = ball((49.12, 49.23, 49.34), 40, 100)  # (50.12, 50.23, 50.34) in indices that begin at 1
    assert surface_area(mask) == pytest.approx(20102.84, abs=0.01)


def test_an_axis_aligned_plane_is_seven_percent_low_and_exact_by_faces():
    labels = np.zeros((20, 60, 60), np.uint8)
    labels[10:] = 1
    per_voxel = specific_interface_areas(labels)[0, 1] * 20 * 19 / 20  # 19 of 20 slices begin a pair along z
    assert per_voxel == pytest.approx(0.927, abs=0.001)
    assert interface_areas(labels, 61.0, "faces")[0, 1] == pytest.approx(3600 * 61.0**2)


def test_coverage_of_a_sphere_between_two_half_spaces_is_one_half_each():
    labels = np.zeros((64, 64, 64), np.uint8)
    labels[:32] = 3
    labels[ball((31.5, 31.5, 31.5), 24, 64)] = 1
    found = coverage(labels, 1)
    assert found["pore"] == pytest.approx(0.5)
    assert found["cbd"] == pytest.approx(0.5)
    assert found["silicon"] == 0.0


def test_denominators_differ_by_the_contact_with_the_other_active_phase():
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1] = (2, 1, 3)
    assert coverage(labels, 1, "faces") == pytest.approx({"pore": 4 / 6, "silicon": 1 / 6, "cbd": 1 / 6})
    found = coverage(labels, 1, "faces", "pore+cbd")
    assert found["pore"] == pytest.approx(0.8)
    assert np.isnan(found["silicon"])


def test_an_absent_phase_has_no_coverage():
    assert all(np.isnan(value) for value in coverage(np.zeros((4, 4, 4), np.uint8), 2).values())


def test_the_border_of_the_labelled_region_is_no_interface():
    labels = np.full((8, 8, 8), 255, np.uint8)
    labels[2:6, 2:6, 2:6] = 1
    assert interface_areas(labels).sum() == 0


def test_slabs_count_every_pair_once():
    labels = np.random.default_rng(0).integers(0, 4, (70, 64, 64)).astype(np.uint8)
    areas = interface_areas(labels, method="faces")
    faces = sum(np.count_nonzero(np.diff((labels == 2).astype(int), axis=axis)) for axis in range(3))
    assert areas[2].sum() == faces


def test_instances_share_the_contact_area_of_their_phase():
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[:, :, :13] = 3
    instances = np.zeros(labels.shape, int)
    for number, centre in enumerate([(10, 10, 12), (28, 28, 25)], start=1):
        instances[ball(centre, 7, 40)] = number
    labels[instances > 0] = 2
    areas = instance_contact_areas(instances, labels, 61.0)
    assert areas.sum(axis=0)[[0, 3]] == pytest.approx(interface_areas(labels, 61.0)[2, [0, 3]])
    assert areas[1, 3] > 0
    assert areas[2, 3] == 0


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="crofton13, faces"):
        interface_areas(np.zeros((4, 4, 4), np.uint8), method="marching")
