"""Intervals, paired tests, boundary tolerance."""

import numpy as np
import pytest

from batseg.evaluation import confusion_matrix, dice, mean_dice
from batseg.evaluation.uncertainty import (
    block_confusions,
    bootstrap_dice,
    boundary_tolerance,
    dice_statistics,
    paired_test,
)


def noisy(truth, share, rng, block=4):
    """The truth with whole cubes of labels replaced: errors that are correlated over `block` voxels."""
    coarse = rng.random([length // block for length in truth.shape]) < share
    wrong = coarse.repeat(block, 0).repeat(block, 1).repeat(block, 2)
    return np.where(wrong, (truth + 1) % 4, truth).astype(np.uint8)


def truth_volume(seed=0, shape=(32, 32, 32)):
    return np.random.default_rng(seed).integers(0, 4, shape, dtype=np.uint8)


def test_blocks_add_up_to_the_volume_and_empty_blocks_are_left_out():
    truth = truth_volume(shape=(20, 33, 17))
    prediction = truth_volume(1, (20, 33, 17))
    truth[:, :8] = 255
    blocks = block_confusions(truth, prediction, block=8)
    assert (blocks.sum(0) == confusion_matrix(truth, prediction)).all()
    assert len(blocks) == 2 * 3 * 2  # 2 x 4 x 2 cubes, the first row of cubes unlabelled
    assert blocks.any(axis=(1, 2)).all()


def test_dice_of_many_matrices_is_the_dice_of_each():
    blocks = block_confusions(truth_volume(), truth_volume(1), block=16)
    blocks[0, 2] = 0
    blocks[0, :, 2] = 0
    for row, confusion in zip(dice_statistics(blocks), blocks):
        np.testing.assert_allclose(row, [*dice(confusion), mean_dice(confusion)])


def test_the_interval_covers_the_dice_of_repeated_experiments():
    """95 % intervals from single volumes cover the long-run Dice in most of 40 independent repeats."""
    rng = np.random.default_rng(3)
    truth = truth_volume()
    scores, covered = [], 0
    intervals = []
    for _ in range(40):
        blocks = block_confusions(truth, noisy(truth, 0.3, rng), block=8)
        intervals.append(bootstrap_dice(blocks, rng, resamples=300)["mean"])
        scores.append(intervals[-1].value)
    covered = sum(low <= np.mean(scores) <= high for _, low, high in intervals)
    assert 34 <= covered <= 40
    assert np.mean([high - low for _, low, high in intervals]) == pytest.approx(4 * np.std(scores), rel=0.35)


def test_more_voxels_in_one_block_do_not_make_the_interval_narrower():
    """Fully correlated errors: doubling every voxel leaves the number of independent blocks as it was."""
    truth = truth_volume()
    prediction = noisy(truth, 0.3, np.random.default_rng(1))
    fine = bootstrap_dice(block_confusions(truth, prediction, 8), np.random.default_rng(0))["mean"]
    doubled = [volume.repeat(2, 0).repeat(2, 1).repeat(2, 2) for volume in (truth, prediction)]
    coarse = bootstrap_dice(block_confusions(*doubled, 16), np.random.default_rng(0))["mean"]
    assert fine == pytest.approx(coarse)


def test_the_paired_test_sees_a_real_difference_and_none_between_equals():
    rng = np.random.default_rng(5)
    truth = truth_volume()
    good, bad, other = (block_confusions(truth, noisy(truth, share, rng), 8) for share in (0.2, 0.4, 0.2))
    different = paired_test(good, bad, rng)["mean"]
    assert different.p < 0.01
    assert 0.1 < different.low < different.difference < different.high < 0.3
    alike = paired_test(good, other, rng)["mean"]
    assert alike.low < 0 < alike.high
    assert alike.p > 0.05
    same = paired_test(good, good, rng)["cbd"]
    assert same.difference == 0
    assert same.p == 1


def test_the_p_value_is_uniform_under_no_difference():
    rng = np.random.default_rng(6)
    truth = truth_volume()
    p = []
    for _ in range(40):
        pair = [block_confusions(truth, noisy(truth, 0.3, rng), 8) for _ in range(2)]
        p.append(paired_test(*pair, rng, resamples=200)["mean"].p)
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.25)
    assert np.mean(np.array(p) < 0.05) < 0.2


def test_methods_on_different_blocks_are_refused():
    blocks = block_confusions(truth_volume(), truth_volume(1), 16)
    with pytest.raises(ValueError, match="same blocks"):
        paired_test(blocks, blocks[1:], np.random.default_rng(0))
    with pytest.raises(ValueError, match="differ in shape"):
        block_confusions(truth_volume(), truth_volume(1)[1:])


def test_boundary_tolerance_of_a_cube_predicted_one_voxel_too_large():
    truth, prediction = np.zeros((2, 12, 12, 12), np.uint8)
    truth[3:9, 3:9, 3:9] = 1
    grown = truth.copy()
    for axis in range(3):
        grown |= np.roll(truth, 1, axis) | np.roll(truth, -1, axis)
    prediction[:] = grown
    found = boundary_tolerance(truth, prediction)["graphite"]
    assert found["dice"] == pytest.approx(2 * 216 / (216 + 216 + 6 * 36))
    assert found["against_dilated"] == 1
    assert found["against_eroded"] == pytest.approx(2 * 64 / (64 + 432))
    assert found["off_boundary"] == 1
    assert found["dilated_truth"] == found["dice"]
    assert found["eroded_truth"] == pytest.approx(2 * 64 / (64 + 216))


def test_the_edge_of_the_labelled_region_is_no_boundary():
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[:3] = 1
    truth[:, :, 4:] = 255
    found = boundary_tolerance(truth, truth)["graphite"]
    assert found["eroded_truth"] == pytest.approx(2 * 48 / (48 + 72))  # one of three layers of 24 is lost, no more
    assert found["dilated_truth"] == pytest.approx(2 * 72 / (72 + 96))
