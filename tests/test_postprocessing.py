import numpy as np
import pytest
from scipy import ndimage

from batseg.postprocessing import GreyThreshold, SmoothedImage, threshold_cbd_pore


def test_only_cbd_and_pore_are_told_apart_by_the_threshold():
    labels = np.array([[[0, 0, 1, 1, 2, 2, 3, 3, 255]]], np.uint8)
    image = np.array([[[9, 1, 9, 1, 9, 1, 9, 1, 9]]], np.float32)
    assert threshold_cbd_pore(labels, image, 5).tolist() == [[[3, 0, 1, 1, 2, 2, 3, 0, 255]]]


def test_the_threshold_is_the_boundary_between_graphite_and_silicon():
    rng = np.random.default_rng(0)
    image = rng.choice([0, 10, 20, 30], (20, 20, 20)) + rng.normal(0, 0.5, (20, 20, 20))
    assert GreyThreshold().threshold(image) == pytest.approx(15, abs=0.3)


def test_labels_and_image_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        threshold_cbd_pore(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3)), 1)


def test_a_part_of_a_smoothed_image_is_that_part_of_the_whole_smoothed_image():
    image = np.random.default_rng(0).normal(size=(20, 22, 24)).astype(np.float32)
    smooth = ndimage.gaussian_filter(image, 1.3, mode="nearest")
    seen = SmoothedImage(image, 1.3)
    assert np.allclose(seen[2:5, 0:7, 20:24], smooth[2:5, 0:7, 20:24], atol=1e-6)
    assert np.allclose(seen[13], smooth[13], atol=1e-6)
    assert np.array_equal(SmoothedImage(image, 0)[3:5], image[3:5])


def test_smoothing_finds_cbd_in_noise_that_hides_it_from_a_threshold_voxel_by_voxel():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4, dtype=np.uint8), 8)[:, None, None] * np.ones((1, 24, 24), np.uint8)
    image = (10.0 * truth + rng.normal(0, 12, truth.shape)).astype(np.float32)
    wrong = truth.copy()
    wrong[truth == 3], wrong[truth == 0] = 0, 3
    errors = [np.mean(GreyThreshold(smoothing=sigma)(wrong, image) != truth) for sigma in (0, 1.5)]
    assert errors[1] < 0.03 < errors[0]
