"""The baselines on images whose labels are known."""

from functools import partial

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_multiotsu

from batseg.baselines import RandomForest, constant_fractions, kmeans, local_features, multi_otsu, random_walker, seeds
from batseg.evaluation import confusion_matrix, mean_dice

GREY = np.array([0.0, 1.0, 2.0, 3.0])


def phantom(seed=0, shape=(20, 24, 28), noise=0.0, piece=6):
    """Blocky labels and their grey values, ascending with the label, inside a disc (mask) around z."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, [-(-length // piece) for length in shape])
    labels = coarse.repeat(piece, 0).repeat(piece, 1).repeat(piece, 2)
    labels = labels[: shape[0], : shape[1], : shape[2]].astype(np.uint8)
    image = (GREY[labels] + noise * rng.normal(size=shape)).astype(np.float32)
    y, x = np.indices(shape[1:]) - np.array(shape[1:])[:, None, None] / 2
    return image, labels, np.broadcast_to(y**2 + x**2 < 130, shape)


@pytest.mark.parametrize("method", [kmeans, partial(multi_otsu, sigma=0), partial(random_walker, sigma=0)])
def test_distinct_grey_values_are_labelled_in_ascending_order_and_nothing_outside_the_mask(method):
    image, labels, mask = phantom(noise=0.05, piece=10)
    image[~mask] = 9
    found = method(image, mask)
    assert found.dtype == np.uint8
    assert (found[~mask] == 255).all()
    assert np.mean(found[mask] == labels[mask]) > 0.99
    assert (method(phantom(noise=0.05)[0]) < 4).all()


def test_multi_otsu_without_smoothing_is_the_library_threshold():
    image, _, _ = phantom(noise=0.1)
    clipped = np.clip(image, *np.quantile(image, [0.001, 0.999]))
    expected = np.digitize(image, threshold_multiotsu(clipped, 4))
    assert np.mean(multi_otsu(image, sigma=0) == expected) > 0.995


def test_thresholds_at_known_fractions_give_these_fractions_in_the_mask():
    image, _, mask = phantom(noise=0.2)
    found = constant_fractions(image, mask, {"pore": 5, "graphite": 3, "silicon": 1, "cbd": 1})
    assert np.bincount(found[mask]) / mask.sum() == pytest.approx([0.5, 0.3, 0.1, 0.1], abs=1e-3)
    assert (found[~mask] == 255).all()
    assert image[found == 0].max() <= image[found == 1].min()


def test_smoothing_helps_thresholds_against_noise():
    image, labels, _ = phantom(noise=0.6)
    plain, smooth = (mean_dice(confusion_matrix(labels, kmeans(image, sigma=sigma))) for sigma in (0, 1))
    assert smooth > plain + 0.05


def test_seeds_lie_inside_their_class_and_in_every_class():
    image, labels, mask = phantom(noise=0.1)
    found = seeds(image, mask)
    chosen = found != 255
    assert set(found[chosen]) == {0, 1, 2, 3}
    assert mask[chosen].all()
    assert np.mean(found[chosen] == labels[chosen]) > 0.9
    assert np.count_nonzero(chosen) < 0.1 * np.count_nonzero(mask)


def test_the_random_walker_beats_thresholds_under_noise_and_blocks_hardly_change_it():
    image, labels, _ = phantom(noise=0.3, piece=10)
    whole, blocks = random_walker(image), random_walker(image, block=12, halo=6)
    assert mean_dice(confusion_matrix(labels, whole)) > mean_dice(confusion_matrix(labels, kmeans(image))) + 0.03
    assert np.mean(whole == blocks) > 0.95


def test_the_unit_of_the_grey_values_does_not_matter():
    image, _, mask = phantom(noise=0.3, piece=10)
    for method in (kmeans, multi_otsu, random_walker):
        small = method(image * np.float32(1e-4), mask)
        assert np.mean(method(image, mask) == small) > 0.999, method.__name__


def test_local_features_of_a_quadratic_are_its_derivatives():
    z, y, x = np.indices((24, 24, 24)) - 12.0
    image = (1.5 * x**2 - 0.5 * y**2 + 2 * z).astype(np.float32)
    grey, smooth, slope, *bent = (feature[12, 12, 12] for feature in local_features(image, [1.0]))
    assert grey == 0
    assert smooth == pytest.approx(1.5 - 0.5, abs=0.02)  # the Gaussian adds sigma² per unit of half the curvature
    assert slope == pytest.approx(2, abs=0.02)
    assert bent == pytest.approx([-1, 0, 3], abs=0.02)


def textured(seed):
    """Two phases that differ in texture alone, on either side of a plane; thresholds cannot tell them."""
    rng = np.random.default_rng(seed)
    noise = [gaussian_filter(rng.normal(size=(24, 24, 24)), sigma) for sigma in (0.5, 2.0)]
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[:, 12:] = 1
    image = np.where(labels == 0, noise[0] / noise[0].std(), noise[1] / noise[1].std())
    return image.astype(np.float32), labels


def test_the_random_forest_learns_texture_from_labelled_scans():
    forest = RandomForest(sigmas=(0.7, 1.6), trees=20, voxels_per_phase=1000, slab=9)
    image, labels = textured(0)
    labels[:2] = 255
    unseen, truth = textured(1)
    found = forest.fit([(image, labels)])(unseen)
    assert np.mean(found == truth) > 0.9
    assert abs(np.mean(kmeans(unseen) == truth) - 0.5) < 0.35
    mask = np.zeros(truth.shape, bool)
    mask[3:20, 4:, :] = True
    inside = forest(unseen, mask)
    assert (inside[~mask] == 255).all()
    assert np.mean(inside[mask] == truth[mask]) > 0.85


def test_slabs_do_not_change_the_random_forest():
    image, labels = textured(0)
    one, many = (RandomForest((0.7, 1.6), 10, 500, slab=slab).fit([(image, labels)]) for slab in (24, 5))
    np.testing.assert_array_equal(one(image), many(image))


def test_a_forest_without_training_or_labels_says_so():
    image, labels = textured(0)
    with pytest.raises(ValueError, match="not trained"):
        RandomForest()(image)
    with pytest.raises(ValueError, match="no voxel is labelled"):
        RandomForest().fit([(image, np.full_like(labels, 255))])
    with pytest.raises(ValueError, match="differ in shape"):
        RandomForest().fit([(image, labels[1:])])
