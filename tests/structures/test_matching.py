"""Matching finds back the parameters of generated volumes."""

import copy

import numpy as np
import pytest

from batseg.structures.descriptors import describe_structure
from batseg.structures.matching import MOVES, compare, get_number, imitate, match_recipe, with_ranges
from batseg.structures.recipe import draw_recipe
from tests.structures.test_recipe import RECIPE

FOUND = [
    move
    for move in MOVES
    if move.parameter in ("particles.graphite.size.median_nm", "cbd.grain_nm", "particles.silicon.size.median_nm")
]


def test_a_slab_has_the_descriptors_of_a_slab():
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[8:16] = 1
    found = describe_structure(labels, 10.0)
    assert found["fraction graphite"] == pytest.approx(1 / 3)
    assert found["chord z graphite"] == pytest.approx(80)
    assert found["coverage graphite"] == 0
    assert np.isnan(found["coverage silicon"])


def test_matching_moves_wrong_parameters_towards_the_truth():
    truth = copy.deepcopy(RECIPE) | {"cbd": {"grain_nm": 260.0}}
    window = np.zeros((48, 48, 48), np.uint8)
    window[:, :4] = 255
    labels = imitate(truth, [window], 61.0, 2, (7,))
    start = copy.deepcopy(truth)
    start["cbd"]["grain_nm"] = 120.0
    start["particles"]["graphite"]["size"] |= {"median_nm": 600}
    matched = match_recipe(start, labels, 61.0, 4, 1, 0, moves=FOUND)
    for path, wrong in (("cbd.grain_nm", 120.0), ("particles.graphite.size.median_nm", 600.0)):
        right = get_number(truth, path)
        assert abs(get_number(matched, path) - right) < 0.5 * abs(wrong - right), path
    assert matched["fractions"]["graphite"] == pytest.approx(0.3, abs=0.04)
    assert {row["descriptor"] for row in compare(labels, labels[:1], 61.0)} == set(describe_structure(window, 61.0))


def test_ranges_surround_the_matched_numbers_and_make_a_valid_recipe():
    recipe = copy.deepcopy(RECIPE) | {"cbd": {"coverage": {"silicon": 0.4}, "grain_nm": 150.0}}
    ranged = with_ranges(recipe, 0.1)
    assert ranged["cbd"]["grain_nm"] == [135.0, 165.0]
    assert ranged["fractions"]["graphite"] == [0.27, 0.33]
    draw_recipe(ranged, np.random.default_rng(0))
