"""A fresh discriminator tells what differs and cannot tell what does not."""

import numpy as np
import pytest

from batseg.training.realness import fresh_discriminator_accuracy
from batseg.volumes import InputError
from tests.training.conftest import toy_tomogram

COARSE = [toy_tomogram(seed)[1] for seed in range(6)]
FINE = [np.random.default_rng(seed).integers(0, 4, (32, 32, 32)).astype(np.uint8) for seed in range(2)]


def test_different_structures_are_told_apart():
    assert fresh_discriminator_accuracy(FINE, COARSE[:2], steps=15, edge=16, judged=50) > 0.9


def test_structures_of_one_kind_are_not_told_apart():
    accuracy = fresh_discriminator_accuracy(COARSE[:3], COARSE[3:], steps=15, edge=16, judged=50)
    assert 0.25 < accuracy < 0.75


def test_one_volume_a_side_is_refused():
    with pytest.raises(InputError, match="two volumes"):
        fresh_discriminator_accuracy(FINE[:1], COARSE)
