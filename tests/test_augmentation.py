"""The transforms written anew do what torchio's do, image and labels together, from the given generator alone."""

import numpy as np
import pytest
import torch
import torchio
from scipy import ndimage

from batseg.augmentation import (
    AffineWarp,
    Blur,
    Contrast,
    Flip,
    Noise,
    affine_matrix,
    augment,
    blurred,
    sampling_grid,
    warp,
)

ALL = [Flip(), AffineWarp(), Blur(), Contrast(), Noise()]


def item(shape=(16, 32, 32), seed=0):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(size=shape), 1.5).astype(np.float32)
    labels = (image > 0).astype(np.uint8)
    return {"image": torch.from_numpy(image / image.std())[None], "labels": torch.from_numpy(labels)}


@pytest.mark.parametrize("degrees", [(12, 0, 0), (0, -9, 0), (0, 0, 15), (10, -7, 13)])
def test_rotation_and_scaling_equal_those_of_torchio_inside_the_patch(degrees):
    scales = (1.08, 0.95, 1.03)
    image = item((24, 40, 40))["image"]
    theirs = torchio.Affine(scales=scales, degrees=degrees, translation=(0, 0, 0))(image)
    grid = sampling_grid(image.shape[1:], affine_matrix(np.radians(degrees), scales, [0] * 6))
    inside = (slice(None), slice(8, -8), slice(12, -12), slice(12, -12))
    torch.testing.assert_close(warp(image, grid, nearest=False)[inside], theirs[inside], atol=1e-4, rtol=0)


def test_labels_move_with_the_image():
    moved = augment(AffineWarp(degrees=15, scales=0.1, shear=0.05), item(), np.random.default_rng(1))
    agreement = ((moved["image"][0] > 0) == (moved["labels"] > 0)).float().mean()
    still = ((item()["image"][0] > 0) == (moved["labels"] > 0)).float().mean()
    assert agreement > 0.93
    assert still < 0.8
    assert set(moved["labels"].unique().tolist()) == {0, 1}


def test_the_border_is_continued_by_reflection():
    ramp = torch.arange(6.0).reshape(1, 1, 1, 6).expand(1, 6, 6, 6).contiguous()
    grid = sampling_grid((6, 6, 6), np.diag((1.0, 1.0, 5 / 3)))
    assert warp(ramp, grid, nearest=True)[0, 0, 0].tolist() == [1, 0, 2, 3, 5, 4]


def test_not_labelled_voxels_stay_not_labelled_under_an_affine_map():
    patch = item()
    patch["labels"][:] = 255
    assert (augment(AffineWarp(), patch, np.random.default_rng(0))["labels"] == 255).all()


def test_blur_is_that_of_torchio():
    image, std = item()["image"], (1.1, 0.3, 0.8)
    torch.testing.assert_close(blurred(image, std), torchio.Blur(std)(image), atol=2e-2, rtol=0)


def test_noise_has_the_spread_of_that_of_torchio():
    blank = {"image": torch.zeros(1, 16, 32, 32), "labels": torch.zeros(16, 32, 32, dtype=torch.uint8)}

    def spreads(transform):
        return [float(augment(transform, blank, np.random.default_rng(i))["image"].std()) for i in range(200)]

    ours, theirs = spreads(Noise(std=0.15)), spreads(torchio.RandomNoise(std=(0, 0.15)))
    assert np.mean(ours) == pytest.approx(0.075, abs=0.01)
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=0.012)
    assert np.std(ours) == pytest.approx(np.std(theirs), abs=0.012)


def test_each_axis_is_flipped_in_half_of_the_patches():
    corner = torch.zeros(1, 4, 4, 4)
    corner[0, 0, 0, 0] = 1
    patch = {"image": corner, "labels": corner[0].to(torch.uint8)}
    flips = np.zeros(3)
    for i in range(300):
        flipped = augment(Flip(), patch, np.random.default_rng(i))
        place = np.argwhere(flipped["image"][0].numpy())[0]
        assert flipped["labels"][tuple(place)] == 1
        flips += place > 0
    assert np.all(np.abs(flips - 150) < 40)


def test_contrast_keeps_the_shape_of_the_grey_values():
    patch = item()
    changed = augment(Contrast(gain=0.25, offset=0.2), patch, np.random.default_rng(0))["image"]
    gain = changed.std() / patch["image"].std()
    offset = changed.mean() - patch["image"].mean()
    assert 0.75 <= gain <= 1.25
    assert abs(offset) <= 0.2
    expected = (patch["image"] - patch["image"].mean()) * gain + patch["image"].mean() + offset
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("transform", [*ALL, torchio.RandomNoise(), torchio.Compose(ALL, p=0.5)])
def test_a_patch_depends_on_the_generator_alone(transform):
    first = augment(transform, item(), np.random.default_rng(5))
    torch.rand(3)
    state = torch.get_rng_state()
    again = augment(transform, item(), np.random.default_rng(5))
    torch.testing.assert_close(first["image"], again["image"], atol=0, rtol=0)
    assert torch.equal(state, torch.get_rng_state())


def test_half_of_the_patches_are_augmented():
    transform, patch = torchio.Compose(ALL, p=0.5), item((4, 8, 8))
    changed = sum(
        not torch.equal(augment(transform, patch, np.random.default_rng(i))["image"], patch["image"])
        for i in range(200)
    )
    assert 75 < changed < 125


def test_the_patch_given_is_not_changed():
    patch, copy = item(), item()
    augment(torchio.Compose(ALL), patch, np.random.default_rng(0))
    assert torch.equal(patch["image"], copy["image"])
    assert torch.equal(patch["labels"], copy["labels"])
