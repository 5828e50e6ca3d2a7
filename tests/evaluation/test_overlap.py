"""Overlap metrics against hand-counted cases, definitions on the voxels, and independent libraries."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import variation_of_information

from batseg.evaluation import confusion_matrix, dice, mean_dice
from batseg.evaluation.overlap import Counts, one_against_rest, overlap_metrics

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


def straightforward(truth, prediction, compat):
    """Every overlap metric from its definition on the voxels of two boolean masks, without closed forms of counts."""
    r, s = truth.ravel().astype(float), prediction.ravel().astype(float)
    n = len(r)
    scale = 255 if compat == "visceral" else 1
    mean = (r + s) / 2 * scale
    within = ((r * scale - mean) ** 2 + (s * scale - mean) ** 2).sum() / n
    between = 2 * ((mean - (r.mean() + s.mean()) / 2) ** 2).sum() / (n - 1)

    def refinement_error(first, second):
        """Per voxel: the share of its region in the first mask that lies outside its region in the second; where the
        masks differ at the voxel itself, the 2015 article counts the whole region."""
        region = {i: (first == i).sum() for i in (0, 1)}
        shared = {i: ((first == i) & (second == i)).sum() for i in (0, 1)}
        differ = first != second
        return sum(1.0 if d else (region[i] - shared[i]) / region[i] for i, d in zip(first, differ))

    both, either = (r * s).sum(), np.maximum(r, s).sum()
    return {
        "DICE": 2 * both / (r.sum() + s.sum()),
        "JACRD": both / either,
        "AUC": (both / r.sum() + ((1 - r) * (1 - s)).sum() / (1 - r).sum()) / 2,
        "KAPPA": sklearn.metrics.cohen_kappa_score(r, s),
        "RNDIND": sklearn.metrics.rand_score(r, s),
        "ADJRIND": sklearn.metrics.adjusted_rand_score(r, s),
        "ICCORR": (between - within) / (between + within),
        "VOLSMTY": 1 - abs(r.sum() - s.sum()) / (r.sum() + s.sum()),
        "MUTINF": sklearn.metrics.mutual_info_score(r, s) / np.log(2),
        "VARINFO": sum(variation_of_information(r.astype(int), s.astype(int))),
        "GCOERR": min(refinement_error(r, s), refinement_error(s, r)) / n,
        "PROBDST": abs(r - s).sum() / (2 * both) / scale,
        "SNSVTY": sklearn.metrics.recall_score(r, s),
        "SPCFTY": sklearn.metrics.recall_score(1 - r, 1 - s),
        "PRCISON": sklearn.metrics.precision_score(r, s),
        "FMEASR": sklearn.metrics.f1_score(r, s),
        "ACURCY": (r == s).mean(),
        "FALLOUT": ((1 - r) * s).sum() / (1 - r).sum(),
        "FNR": 1 - sklearn.metrics.recall_score(r, s),
    }


@pytest.mark.parametrize("compat", [None, "visceral"])
def test_every_metric_equals_its_definition_on_the_voxels(compat):
    rng = np.random.default_rng(3)
    truth = rng.choice(4, (6, 9, 8), p=[0.5, 0.35, 0.05, 0.1]).astype(np.uint8)
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 4, truth.shape)).astype(np.uint8)
    confusion = confusion_matrix(truth, prediction)
    for phase in range(4):
        found = overlap_metrics(one_against_rest(confusion, phase), compat)
        expected = straightforward(truth == phase, prediction == phase, compat)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, abs=1e-12), key


def test_the_golden_counts_give_the_hand_checked_numbers():
    """TP 400, FP 100, FN 100, TN 400: values that a pocket calculator confirms."""
    found = overlap_metrics(Counts(400, 100, 100, 400))
    expected = {"DICE": 0.8, "JACRD": 2 / 3, "KAPPA": 0.6, "AUC": 0.8, "VOLSMTY": 1, "PROBDST": 0.25, "GCOERR": 0.36}
    expected |= {"MUTINF": 0.2780719, "VARINFO": 1.4438562, "ACURCY": 0.8, "FALLOUT": 0.2, "FNR": 0.2}
    # pairs of 1000 voxels: 499500; together in both 2 C(400,2) + 2 C(100,2) = 169500, apart in both 170000
    expected["RNDIND"] = (169500 + 170000) / 499500
    expected["ADJRIND"] = (169500 - 249500**2 / 499500) / (249500 - 249500**2 / 499500)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-7), key
    # the tool's own ICC and probabilistic distance (Taha & Hanbury's program prints 0.799 where 0.600 is right)
    assert found["ICCORR"] == pytest.approx(0.6, abs=1e-3)
    tool = overlap_metrics(Counts(400, 100, 100, 400), compat="visceral")
    assert tool["ICCORR"] == pytest.approx(0.799, abs=1e-3)
    assert tool["PROBDST"] == pytest.approx(0.25 / 255)


def test_pair_counts_stay_exact_beyond_the_integers_of_a_float():
    """10^9 voxels: the pair counts exceed 2^53, so the closed form is compared with exact fractions."""
    counts = Counts(333_333_331, 12_345_677, 23_456_789, 630_864_203)
    total = sum(counts)
    pairs = Fraction(total * (total - 1), 2)
    both = sum(Fraction(c * (c - 1), 2) for c in counts)
    tp, fp, fn, tn = counts
    in_truth = sum(Fraction(c * (c - 1), 2) for c in (tp + fn, fp + tn))
    in_prediction = sum(Fraction(c * (c - 1), 2) for c in (tp + fp, fn + tn))
    found = overlap_metrics(counts)
    assert found["RNDIND"] == float((pairs + 2 * both - in_truth - in_prediction) / pairs)
    chance = in_truth * in_prediction / pairs
    assert found["ADJRIND"] == float((both - chance) / ((in_truth + in_prediction) / 2 - chance))


def test_dice_and_jaccard_agree_with_torchmetrics():
    rng = np.random.default_rng(5)
    truth, prediction = torch.from_numpy(rng.integers(0, 4, (2, 10, 11, 12)))
    oracle = torchmetrics.functional.f1_score(prediction, truth, task="multiclass", num_classes=4, average=None)
    assert dice(confusion_matrix(truth, prediction)).tolist() == pytest.approx(oracle.tolist(), abs=1e-6)
    oracle = torchmetrics.functional.jaccard_index(prediction, truth, task="multiclass", num_classes=4, average=None)
    confusion = confusion_matrix(truth.numpy(), prediction.numpy())
    ours = [overlap_metrics(one_against_rest(confusion, phase))["JACRD"] for phase in range(4)]
    assert ours == pytest.approx(oracle.tolist(), abs=1e-6)


count = st.integers(0, 10**9)
SYMMETRIC = (
    "DICE",
    "JACRD",
    "KAPPA",
    "RNDIND",
    "ADJRIND",
    "ICCORR",
    "VOLSMTY",
    "MUTINF",
    "VARINFO",
    "GCOERR",
    "PROBDST",
)


@given(count, count, count, count)
def test_metrics_are_symmetric_where_they_should_be_and_bounded(tp, fp, fn, tn):
    found, swapped = overlap_metrics(Counts(tp, fp, fn, tn)), overlap_metrics(Counts(tp, fn, fp, tn))
    for key in SYMMETRIC:
        assert found[key] == pytest.approx(swapped[key], rel=1e-9, abs=1e-9, nan_ok=True), key
    for key in ("DICE", "JACRD", "AUC", "RNDIND", "VOLSMTY", "SNSVTY", "SPCFTY", "PRCISON", "ACURCY", "FALLOUT", "FNR"):
        assert math.isnan(found[key]) or 0 <= found[key] <= 1, key
    for key in ("KAPPA", "ADJRIND", "ICCORR"):
        assert math.isnan(found[key]) or -1 - 1e-9 <= found[key] <= 1 + 1e-9, key
    assert math.isnan(found["PRCISON"]) == math.isnan(swapped["SNSVTY"])
    assert math.isnan(found["PRCISON"]) or found["PRCISON"] == swapped["SNSVTY"]


@given(st.integers(0, 10**6), st.permutations(range(4)))
def test_relabelling_both_volumes_moves_the_scores_with_the_labels(seed, order):
    truth, prediction = np.random.default_rng(seed).integers(0, 4, (2, 60))
    order = np.array(order)
    before, after = confusion_matrix(truth, prediction), confusion_matrix(order[truth], order[prediction])
    np.testing.assert_array_equal(dice(after)[order], dice(before))
    for phase in range(4):
        found = overlap_metrics(one_against_rest(after, order[phase]))
        assert found == pytest.approx(overlap_metrics(one_against_rest(before, phase)), nan_ok=True)


def test_a_phase_without_overlap_is_infinitely_far_and_the_tool_says_minus_one():
    assert overlap_metrics(Counts(0, 3, 4, 5))["PROBDST"] == math.inf
    assert overlap_metrics(Counts(0, 3, 4, 5), "visceral")["PROBDST"] == -1
    absent = overlap_metrics(Counts(0, 0, 0, 9))
    undefined = {key for key, value in absent.items() if math.isnan(value)}
    assert undefined >= {"DICE", "JACRD", "AUC", "ICCORR", "VOLSMTY", "PROBDST", "SNSVTY", "PRCISON", "FMEASR", "FNR"}
    assert absent["ACURCY"] == absent["SPCFTY"] == 1
