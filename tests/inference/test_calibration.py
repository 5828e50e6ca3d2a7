import numpy as np
import pytest

from batseg.inference.calibration import Calibration, fit_calibration, reliability


def drawn(sharpness, count=200_000, seed=0):
    """Labels drawn from known probabilities, and those probabilities to the power `sharpness`."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet([0.6] * 4, count).T
    labels = (true.cumsum(0) < rng.random(count)).sum(0).clip(0, 3).astype(np.uint8)
    return labels, Calibration(1 / sharpness)(true)


def test_true_probabilities_have_no_calibration_error():
    truth, probabilities = drawn(1.0)
    assert reliability(truth, probabilities).error < 0.005


def test_overconfident_probabilities_are_found_and_cured_by_their_temperature():
    truth, probabilities = drawn(2.0)
    before = reliability(truth, probabilities)
    filled = before.counts > 1000
    assert (before.confidence > before.accuracy)[filled].mean() > 0.9
    calibration = fit_calibration(truth, probabilities)
    assert calibration.temperature == pytest.approx(2.0, rel=0.05)
    assert calibration.offsets == pytest.approx((0, 0, 0, 0), abs=0.03)
    assert reliability(truth, calibration(probabilities)).error < 0.2 * before.error


def test_a_phase_that_is_named_too_often_is_found_and_its_fraction_mended():
    truth, right = drawn(1.0)
    often = Calibration(offsets=(0.0, 0.0, 0.5, 1.0))(right)
    calibration = fit_calibration(truth, often)
    assert calibration.offsets == pytest.approx((0, 0, -0.5, -1.0), abs=0.03)
    assert np.allclose(calibration(often), right, atol=0.02)


def test_a_temperature_changes_no_label():
    _, probabilities = drawn(1.0, 1000)
    softer = Calibration(3.0)(probabilities)
    assert (softer.argmax(0) == probabilities.argmax(0)).all()
    assert np.allclose(softer.sum(0), 1)


def test_the_error_of_a_small_example_is_the_one_worked_out_by_hand():
    truth = np.array([0, 0, 1, 1, 255])
    probabilities = np.array([[0.9, 0.9, 0.9, 0.4, 0.4], [0.1, 0.1, 0.1, 0.6, 0.6]])
    found = reliability(truth, probabilities, bins=5)  # 0.9: two of three right; 0.6: right
    assert found.error == pytest.approx(0.75 * abs(0.9 - 2 / 3) + 0.25 * abs(0.6 - 1))
    assert found.counts.sum() == 4


def test_without_labels_there_is_no_error_and_nothing_to_scale():
    truth, probabilities = np.full(5, 255), np.full((4, 5), 0.25)
    assert np.isnan(reliability(truth, probabilities).error)
    assert fit_calibration(truth, probabilities) == Calibration()
