"""Distances of style are zero for the same structure and tell coarse from fine."""

import numpy as np
import pytest

from batseg.evaluation.style import CBD_MEASURES, describe_style, pooled, style_distance
from batseg.phases import NOT_LABELLED


def grains(edge: int, seed: int = 0) -> np.ndarray:
    """Random phases in cubes of `edge` voxels."""
    coarse = np.random.default_rng(seed).integers(0, 4, (48 // edge,) * 3)
    return np.kron(coarse, np.ones((edge,) * 3)).astype(np.uint8)


def test_a_structure_has_no_distance_to_itself():
    described = describe_style(grains(4), 61.0, lags=8)
    assert all(value == pytest.approx(0, abs=1e-9) for value in style_distance(described, described).values())


def test_coarser_grains_are_further_away_than_another_sample_of_the_same():
    reference, same, coarse = (
        describe_style(labels, 61.0, lags=8) for labels in (grains(4), grains(4, 1), grains(8, 2))
    )
    near, far = style_distance(same, reference), style_distance(coarse, reference)
    for measure in ("correlation_cbd", "chords_cbd", "thickness_cbd", "specific_surface_cbd"):
        assert far[measure] > 3 * near[measure], measure
    assert set(CBD_MEASURES) <= set(near)


def test_not_labelled_voxels_do_not_count():
    labels = grains(4)
    labels[:24] = NOT_LABELLED
    half, alone = describe_style(labels, 61.0, lags=8), describe_style(labels[24:], 61.0, lags=8)
    np.testing.assert_allclose(half["fractions"], alone["fractions"])
    assert sorted(half["chords_cbd"]) == sorted(alone["chords_cbd"])


def test_descriptions_are_pooled():
    one, two = describe_style(grains(4), 61.0, lags=8), describe_style(grains(4, 1), 61.0, lags=8)
    both = pooled([one, two])
    assert len(both["chords_cbd"]) == len(one["chords_cbd"]) + len(two["chords_cbd"])
    np.testing.assert_allclose(both["fractions"], (one["fractions"] + two["fractions"]) / 2)
