"""Restyled label volumes: three directions, fractions as asked, no islands, particles keep their numbers."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from batseg.networks.cyclegan import Generator
from batseg.networks.restyle import carry_instances, labels_with_fractions, restyle, without_islands


class Shifted(torch.nn.Module):
    """A stand-in generator whose logits are the input shifted by one voxel along its last axis."""

    phases, noise, grain_size, divisor = 4, 0, 0.0, 1

    def __init__(self, dimensions: int):
        super().__init__()
        self.dimensions, self.scale = dimensions, torch.nn.Parameter(torch.tensor(50.0))

    def forward(self, maps, noise):
        return self.scale * maps.roll(1, dims=-1)


def blobs(shape=(13, 14, 15), seed=0):
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)


def test_slices_across_the_three_axes_are_averaged():
    given = blobs()
    probabilities = restyle(Shifted(2), given, np.random.default_rng(0))
    expected = [np.roll(given, 1, axis=2), np.roll(given, 1, axis=2), np.roll(given, 1, axis=1)]
    for phase in range(4):
        mean = sum(volume == phase for volume in expected) / 3
        np.testing.assert_allclose(probabilities[phase], mean, atol=1e-5)


def test_a_volume_generator_sees_the_volume_at_once():
    given = blobs()
    probabilities = restyle(Shifted(3), given, np.random.default_rng(0))
    np.testing.assert_array_equal(probabilities.argmax(axis=0), np.roll(given, 1, axis=2))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_volumes_of_any_size_are_restyled_and_repeat_with_the_generator(dimensions):
    torch.manual_seed(0)
    generator = Generator(dimensions, width=4, downs=2, blocks=1)
    first = restyle(generator, blobs(), np.random.default_rng(1))
    assert first.shape == (4, 13, 14, 15)
    np.testing.assert_allclose(first.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(first, restyle(generator, blobs(), np.random.default_rng(1)))


def test_fractions_are_tuned_to_those_asked_for():
    probabilities = np.random.default_rng(0).dirichlet([2, 2, 0.5, 0.4], size=30_000).T.reshape(4, 30, 100, 10)
    wanted = np.array([0.51, 0.35, 0.06, 0.08])
    before = np.bincount(probabilities.argmax(axis=0).ravel(), minlength=4) / 30_000
    labels = labels_with_fractions(probabilities, wanted)
    assert np.abs(before - wanted).max() > 0.02
    np.testing.assert_allclose(np.bincount(labels.ravel(), minlength=4) / labels.size, wanted, atol=1e-3)


def test_an_absent_phase_stays_absent():
    probabilities = np.random.default_rng(0).dirichlet([2, 2, 0.1, 0.4], size=8000).T.reshape(4, 20, 20, 20)
    labels = labels_with_fractions(probabilities, [0.6, 0.3, 0.0, 0.1])
    assert (labels == 2).mean() < 1e-3


def test_small_islands_take_the_phase_around_them_and_others_stay():
    labels = np.ones((12, 12, 12), np.uint8)
    labels[2, 2, 2:5] = 3
    labels[6:8, 6:8, 6:8] = 2
    cleaned = without_islands(labels, 8)
    assert (cleaned[2, 2, 2:5] == 1).all()
    assert (cleaned == 2).sum() == 8


def test_what_the_islands_held_is_made_up_for():
    """Coarse binder and fine grains: with its specks the binder would lose a twentieth of its volume."""
    rng = np.random.default_rng(0)
    coarse, fine = (gaussian_filter(rng.standard_normal((40,) * 3), size) for size in (3, 0.9))
    binder = 1 / (1 + np.exp(-(coarse / coarse.std() + 0.6 * fine / fine.std() - 2)))
    none = np.zeros_like(binder)
    probabilities, wanted = np.stack([1 - binder, none, none, binder]), np.array([0.92, 0, 0, 0.08])
    lossy = without_islands(labels_with_fractions(probabilities, wanted), 8)
    labels = labels_with_fractions(probabilities, wanted, min_island=8)
    assert (lossy == 3).mean() < 0.077
    np.testing.assert_allclose(np.bincount(labels.ravel(), minlength=4) / labels.size, wanted, atol=1.5e-3)
    np.testing.assert_array_equal(without_islands(labels, 8), labels)


def test_particles_keep_their_numbers_and_grow_with_their_labels():
    before = np.zeros((6, 6, 12), np.uint8)
    before[1:4, 1:4, 1:4], before[1:4, 1:4, 7:10] = 1, 2
    instances = np.zeros(before.shape, np.int32)
    instances[before == 1], instances[before == 2] = 5, 9
    after = before.copy()
    after[1:4, 1:4, 4] = 1  # graphite grew by a layer
    after[1, 1, 7] = 3  # silicon lost a voxel to the binder
    after[5, 5, 11] = 1  # an island out of nothing
    carried, labels = carry_instances(instances, before, after)
    assert set(np.unique(carried)) == {0, 5, 9}
    assert (carried == 5).sum() == 36
    assert (carried == 9).sum() == 26
    assert labels[5, 5, 11] == 0
    assert labels[1, 1, 7] == 3
    np.testing.assert_array_equal(carried > 0, np.isin(labels, (1, 2)))
