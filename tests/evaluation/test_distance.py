"""Distance metrics against brute force, independent libraries and hand-computed cases."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import distance_transform_edt, gaussian_filter

from batseg.evaluation.distance import (
    distance_metrics,
    distance_pair,
    mahalanobis,
    moments,
    scored_labels,
    surface_metrics,
    surfaces,
)


def random_labels(shape, seed, correlation=2.0):
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), correlation)
    return np.searchsorted(np.quantile(field, [0.5, 0.85, 0.9]), field).astype(np.uint8)


def brute_force(labels, others, phase):
    """Distances of the phase's voxels in `labels` to the nearest in `others`, by SciPy's transform."""
    return distance_transform_edt(others != phase)[labels == phase]


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(1, 12)] * 3), st.integers(0, 10**6), st.floats(0.0, 1.5))
def test_distances_equal_an_independent_transform(shape, seed, correlation):
    truth, prediction = (random_labels(shape, seed + i, correlation) for i in range(2))
    for phase in range(4):
        pair = distance_pair(truth, prediction, phase)
        for side, labels, others in ((pair.truth, truth, prediction), (pair.prediction, prediction, truth)):
            assert side.size == np.count_nonzero(labels == phase)
            assert side.reachable == (others == phase).any()
            if side.reachable:
                expected = brute_force(labels, others, phase)
                np.testing.assert_array_equal(np.sort(side.squared), np.sort(np.rint(expected[expected > 0] ** 2)))
                assert side.quantile(0.7) == pytest.approx(
                    np.percentile(expected, 70) if side.size else math.nan, nan_ok=True
                )


def test_distances_found_by_threads_on_slabs_equal_an_independent_transform():
    truth, prediction = random_labels((50, 90, 70), 1, 4), random_labels((50, 90, 70), 2, 4)
    squared = distance_pair(truth, prediction, 2).truth.squared
    expected = brute_force(truth, prediction, 2)
    np.testing.assert_array_equal(squared, np.rint(expected[expected > 0] ** 2))


def test_a_shifted_cube_has_the_distances_counted_by_hand():
    truth, prediction = np.zeros((2, 12, 12, 12), np.uint8)
    truth[2:6, 2:6, 2:6] = 1
    prediction[2:6, 2:6, 4:8] = 1
    found = distance_metrics(distance_pair(truth, prediction, 1))
    # half of either cube overlaps; one layer of 16 voxels is 1 off, one is 2 off
    assert found["HDRFDST"] == 2
    assert found["AVGDIST"] == pytest.approx(16 * 3 / 64)
    assert found["bAVD"] == pytest.approx(16 * 3 / 64)
    assert mahalanobis(moments(truth)[1], moments(prediction)[1]) == pytest.approx(2 / math.sqrt(15 / 12))


def test_balanced_average_distance_divides_both_sums_by_the_truth():
    truth, prediction = np.zeros((2, 1, 1, 9), np.uint8)
    truth[..., :1] = 1
    prediction[..., :4] = 1
    found = distance_metrics(distance_pair(truth, prediction, 1))
    assert found["AVGDIST"] == pytest.approx((0 + 6 / 4) / 2)
    assert found["bAVD"] == pytest.approx((0 + 6) / 2)


def test_hausdorff_and_average_distance_agree_with_simpleitk():
    truth, prediction = random_labels((12, 20, 24), 3), random_labels((12, 20, 24), 4)
    for phase in range(4):
        masks = [sitk.GetImageFromArray((labels == phase).astype(np.uint8)) for labels in (truth, prediction)]
        oracle = sitk.HausdorffDistanceImageFilter()
        oracle.Execute(*masks)
        found = distance_metrics(distance_pair(truth, prediction, phase))
        assert found["HDRFDST"] == pytest.approx(oracle.GetHausdorffDistance(), rel=1e-6)
        assert found["AVGDIST"] == pytest.approx(oracle.GetAverageHausdorffDistance(), rel=1e-6)


def two_balls(shift):
    z, y, x = np.indices((30, 32, 34)) - 15
    truth = (z**2 + y**2 + x**2 <= 81).astype(np.uint8)
    prediction = ((z - shift) ** 2 + (1.2 * y) ** 2 + x**2 <= 90).astype(np.uint8)
    return truth, prediction


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_surface_metrics_agree_with_monai(shift):
    truth, prediction = two_balls(shift)
    found = surface_metrics(distance_pair(surfaces(truth), surfaces(prediction), 1))
    batches = [
        torch.nn.functional.one_hot(torch.from_numpy(v).long()).movedim(-1, 0)[None] for v in (prediction, truth)
    ]
    assert found["HD95"] == pytest.approx(float(compute_hausdorff_distance(*batches, percentile=95)), rel=1e-5)
    for tolerance in (1, 2):
        oracle = float(compute_surface_dice(*batches, class_thresholds=[tolerance]))
        assert found[f"SURFDICE{tolerance}"] == pytest.approx(oracle, abs=1e-6)


def test_mahalanobis_equals_the_pooled_formula_on_the_coordinates():
    truth, prediction = random_labels((9, 14, 11), 5), random_labels((9, 14, 11), 6)
    for phase in range(4):
        points = [np.argwhere(labels == phase).astype(float) for labels in (truth, prediction)]
        pooled = sum(len(p) * np.cov(p.T, bias=True) for p in points) / sum(map(len, points))
        shift = points[0].mean(0) - points[1].mean(0)
        expected = math.sqrt(shift @ np.linalg.inv(pooled) @ shift)
        assert mahalanobis(moments(truth)[phase], moments(prediction)[phase]) == pytest.approx(expected, rel=1e-9)


def test_mahalanobis_of_one_slice_uses_the_axes_that_have_extent():
    truth, prediction = np.zeros((2, 1, 8, 8), np.uint8)
    truth[0, 2:4, 2:4], prediction[0, 2:4, 3:5] = 1, 1
    assert mahalanobis(moments(truth)[1], moments(prediction)[1]) == pytest.approx(1 / 0.5)


def test_the_edge_of_the_volume_and_of_the_labelled_region_is_no_surface():
    labels = np.ones((4, 4, 4), np.uint8)
    labels[:, :, 3] = 255
    assert (surfaces(labels) == 255).all()
    labels[0, 0, 0] = 2
    assert np.count_nonzero(surfaces(labels) == 1) == 3
    assert np.count_nonzero(surfaces(labels) == 2) == 1


def test_an_absent_phase_gives_nan_and_no_exception():
    truth, prediction = np.zeros((2, 3, 4, 5), np.uint8)
    prediction[1, 1, 1] = 3
    assert all(math.isnan(value) for value in distance_metrics(distance_pair(truth, prediction, 3)).values())
    assert all(math.isnan(value) for value in distance_metrics(distance_pair(truth, prediction, 2)).values())
    assert math.isnan(mahalanobis(moments(truth)[3], moments(prediction)[3]))
    found = surface_metrics(distance_pair(surfaces(truth), surfaces(prediction), 3))
    assert math.isnan(found["HD95"])
    assert found["SURFDICE1"] == 0
    assert math.isnan(surface_metrics(distance_pair(surfaces(truth), surfaces(prediction), 2))["SURFDICE1"])


def test_unlabelled_truth_takes_no_part_and_an_open_prediction_is_no_phase():
    truth = np.array([[[255, 0, 1, 3]]], np.uint8)
    prediction = np.array([[[0, 255, 1, 9]]], np.uint8)
    assert scored_labels(truth, prediction).tolist() == [[[255, 4, 1, 4]]]
