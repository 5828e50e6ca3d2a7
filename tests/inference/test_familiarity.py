import numpy as np
import pytest
from scipy import ndimage

from batseg.inference.familiarity import describe, warnings


def electrode(seed=0, blur=1.0, grain=4.0, noise=0.3, shape=(64, 64, 64)):
    """Blobs of four grey values, blurred, with noise; normalised."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), grain)
    labels = np.digitize(field, np.quantile(field, [0.5, 0.85, 0.92]))
    image = ndimage.gaussian_filter(labels.astype(np.float32), blur) + rng.normal(0, noise, shape)
    return ((image - image.mean()) / image.std()).astype(np.float32)


FAMILIAR = [describe(electrode(seed), voxel_nm=61.0) for seed in range(3)]


def test_another_tomogram_of_the_same_kind_draws_no_warning():
    assert warnings(describe(electrode(7), voxel_nm=61.0), FAMILIAR) == []


@pytest.mark.parametrize(
    ("image", "measure"),
    [
        (electrode(7) ** 3 / 3, "grey histogram"),
        (electrode(7, noise=2.0), "power spectrum"),
        (electrode(7, blur=3.0, noise=0.02), "resolution"),
    ],
)
def test_a_tomogram_unlike_the_training_data_is_named_with_the_measure(image, measure):
    assert any(line.startswith(measure) for line in warnings(describe(image), FAMILIAR))


def test_another_voxel_size_is_named():
    assert any("voxel size" in line for line in warnings(describe(electrode(7), voxel_nm=27.5), FAMILIAR))


def test_what_lies_outside_the_mask_plays_no_part():
    image = electrode(7, shape=(64, 96, 96))
    mask = np.zeros(image.shape, bool)
    mask[:, :64, :64] = True
    image[~mask] = 50
    assert warnings(describe(image, mask, 61.0), FAMILIAR) == []


def test_without_training_descriptors_nothing_is_said():
    assert warnings(describe(electrode(7)), []) == []
