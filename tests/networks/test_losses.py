"""Losses against numbers worked out by hand, and against MONAI and torch."""

import math

import pytest
import torch
from monai.losses import DiceLoss

from batseg.networks.losses import (
    BoundaryCrossEntropy,
    CrossEntropy,
    DiceCrossEntropy,
    at_boundary,
    class_weights,
    cross_entropy,
    deeply_supervised,
    soft_dice_loss,
)


def example(seed: int = 0, grid=(4, 6, 5)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, *grid, generator=generator)
    return logits, torch.randint(0, 4, (2, *grid), generator=generator)


def test_inverse_square_root_weights_of_a_quarter_and_a_hundredth_differ_by_five_and_average_one():
    weights = class_weights([0.25, 0.25, 0.49, 0.01])
    assert weights[3] / weights[0] == pytest.approx(5)
    assert weights.mean() == pytest.approx(1)


def test_a_phase_without_voxels_weighs_nothing_and_the_others_average_one():
    weights = class_weights([90, 10, 0, 0], "inverse")
    assert weights.tolist() == pytest.approx([0.2, 1.8, 0, 0])


def test_given_weights_are_taken_as_they_are():
    assert class_weights([1, 1, 1, 1], [0.1, 0.3, 0.3, 0.3]).tolist() == pytest.approx([0.1, 0.3, 0.3, 0.3])


@pytest.mark.parametrize(
    ("counts", "rule", "message"),
    [([1, 1], "sqrt", "inverse_sqrt"), ([1, 1], [1.0], "2 phases"), ([0, 0], "none", "no labelled voxel")],
)
def test_weights_that_make_no_sense_are_refused(counts, rule, message):
    with pytest.raises(ValueError, match=message):
        class_weights(counts, rule)


def test_equal_logits_cost_the_logarithm_of_the_number_of_phases():
    labels = example()[1]
    assert cross_entropy(torch.zeros(2, 4, 4, 6, 5), labels) == pytest.approx(math.log(4))
    assert cross_entropy(torch.zeros(2, 4, 4, 6, 5), labels, torch.tensor([0.1, 0.3, 0.3, 3.0])) == pytest.approx(
        math.log(4)
    )


def test_weighted_cross_entropy_is_that_of_torch():
    logits, labels = example()
    weights = torch.tensor([0.1, 0.5, 1.0, 2.4])
    expected = torch.nn.functional.cross_entropy(logits, labels, weights)
    assert torch.isclose(cross_entropy(logits, labels, weights), expected)


@pytest.mark.parametrize("loss", [CrossEntropy(), DiceCrossEntropy(), BoundaryCrossEntropy()])
def test_what_is_not_labelled_changes_neither_loss_nor_gradient(loss):
    logits, labels = example()
    labels[:, :, :3] = 255
    other = logits.clone()
    other[:, :, :, :3] = 100 * torch.randn_like(other[:, :, :, :3])
    logits.requires_grad_()
    value = loss(logits, labels)
    value.backward()
    assert torch.isclose(value, loss(other, labels))
    assert logits.grad[:, :, :, :3].abs().sum() == 0
    assert logits.grad[:, :, :, 3:].abs().sum() > 0


@pytest.mark.parametrize("loss", [CrossEntropy(), DiceCrossEntropy(), BoundaryCrossEntropy()])
def test_a_batch_without_labels_costs_nothing_and_leaves_finite_gradients(loss):
    logits = example()[0].requires_grad_()
    value = loss(logits, torch.full((2, 4, 6, 5), 255))
    value.backward()
    assert value == 0
    assert torch.isfinite(logits.grad).all()


def test_the_dice_loss_is_that_of_monai():
    logits, labels = example()
    expected = DiceLoss(to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(
        logits, labels[:, None]
    )
    assert torch.isclose(soft_dice_loss(logits, labels), expected, atol=1e-5)


def test_the_dice_loss_of_a_perfect_segmentation_is_zero_also_when_phases_are_missing():
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    labels[:, 2:] = 2
    logits = 50.0 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)
    assert soft_dice_loss(logits, labels) == pytest.approx(0, abs=1e-4)


def test_the_boundary_is_where_a_neighbour_has_another_phase():
    labels = torch.zeros(1, 5, 5, 6, dtype=torch.long)
    labels[..., 3:] = 1
    found = at_boundary(labels)[0]
    assert found[..., 2:4].all()
    assert not found[..., :2].any()
    assert not found[..., 4:].any()


def test_what_is_not_labelled_makes_no_boundary():
    labels = torch.zeros(1, 5, 5, 6, dtype=torch.long)
    labels[..., 3:] = 255
    assert not at_boundary(labels).any()


def test_the_boundary_loss_counts_boundary_voxels_twice():
    labels = torch.zeros(1, 4, 4, 6, dtype=torch.long)
    labels[..., 3:] = 1
    logits = torch.zeros(1, 4, 4, 4, 6)
    logits[:, 2, ..., 2:4] = 5.0  # wrong at the boundary alone
    value = BoundaryCrossEntropy(weighting="none", boundary=2.0)(logits, labels)
    wrong, right = math.log(3 + math.exp(5)), math.log(4)
    assert value == pytest.approx((2 * 2 * wrong + 4 * right) / (2 * 2 + 4), rel=1e-5)


def test_deep_supervision_weighs_levels_by_halves_and_thins_the_labels_out():
    logits, labels = example(grid=(4, 8, 8))
    coarse = torch.randn(2, 4, 4, 4, 4)
    loss = CrossEntropy(weighting="none")
    expected = 2 / 3 * loss(logits, labels) + 1 / 3 * loss(coarse, labels[:, :, ::2, ::2])
    assert torch.isclose(deeply_supervised(loss, (logits, coarse), labels), expected)
    stacked = torch.stack([logits, logits], dim=1)
    assert torch.isclose(deeply_supervised(loss, stacked, labels), loss(logits, labels))


def test_weights_follow_the_learning_data_and_travel_with_the_checkpoint():
    loss = CrossEntropy()
    loss.fit_to([0.7, 0.1, 0.1, 0.1])
    copy = CrossEntropy()
    copy.load_state_dict(loss.state_dict())
    assert torch.equal(copy.weights, class_weights([0.7, 0.1, 0.1, 0.1]))
