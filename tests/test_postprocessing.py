import numpy as np
import pytest

from batseg.postprocessing import GreyThreshold, threshold_cbd_pore


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
