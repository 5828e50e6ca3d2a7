"""Overlap metrics against hand-counted cases."""

import numpy as np
import pytest
import torch

from batseg.evaluation import confusion_matrix, dice, mean_dice

TRUTH = np.array([[[0, 0, 1, 1], [2, 3, 255, 255]]], np.uint8)
PREDICTION = np.array([[[0, 1, 1, 255], [2, 2, 0, 255]]], np.uint8)


def test_confusion_matrix_ignores_unlabelled_truth_and_counts_an_open_prediction_as_wrong():
    expected = [[1, 1, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]]
    assert confusion_matrix(TRUTH, PREDICTION).tolist() == expected


def test_torch_and_numpy_count_alike():
    tensors = torch.from_numpy(TRUTH).long(), torch.from_numpy(PREDICTION)
    counted = confusion_matrix(*tensors)
    assert counted.dtype == torch.int64
    assert counted.tolist() == confusion_matrix(TRUTH, PREDICTION).tolist()
    assert dice(counted).tolist() == dice(confusion_matrix(TRUTH, PREDICTION)).tolist()


def test_dice_of_a_hand_counted_case():
    np.testing.assert_allclose(dice(confusion_matrix(TRUTH, PREDICTION)), [2 / 3, 2 / 4, 2 / 3, 0])
    assert mean_dice(confusion_matrix(TRUTH, PREDICTION)) == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 4)


def test_a_phase_absent_from_both_is_nan_and_left_out_of_the_mean():
    confusion = confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert np.isnan(dice(confusion)[2:]).all()
    assert torch.isnan(dice(torch.from_numpy(confusion))[2:]).all()
    assert mean_dice(confusion) == pytest.approx(2 / 3)


def test_slabs_add_up_to_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 4, (2, 9, 8, 7), dtype=np.uint8)
    whole = confusion_matrix(truth, prediction)
    monkeypatch.setattr("batseg.evaluation.overlap.SLAB_VOXELS", 100)
    assert (confusion_matrix(truth, prediction) == whole).all()


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), "differ in shape"),
        (np.zeros(4, np.float32), np.zeros(4, np.uint8), "truth: labels must be integers"),
        (np.zeros(4, np.uint8), np.zeros(4), "prediction: labels must be integers"),
        (np.full(4, 7, np.uint8), np.zeros(4, np.uint8), "truth holds 7..7"),
    ],
)
def test_bad_input_is_named(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(truth, prediction)
