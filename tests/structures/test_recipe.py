"""Recipes: volume fractions from the slurry, ranges, and one clear line for what cannot be."""

import copy

import numpy as np
import pytest

from batseg.structures.composition import slurry_fractions
from batseg.structures.electrode import generate_electrode
from batseg.structures.recipe import draw_recipe

SLURRY = {
    "weights": {"graphite": 75, "siox": 10, "pvdf": 10, "carbon_black": 5},
    "densities": {"graphite": 2.26, "siox": 2.13, "pvdf": 1.78, "carbon_black": 1.9},
    "phases": {"graphite": "graphite", "siox": "silicon", "pvdf": "cbd", "carbon_black": "cbd"},
    "porosity": 0.51,
}
RECIPE = {
    "fractions": {"graphite": 0.3, "silicon": 0.05, "cbd": 0.08},
    "particles": {
        "graphite": {"size": {"median_nm": 900, "log_spread": 0.2, "min_nm": 500, "max_nm": 1500}},
        "silicon": {"size": {"median_nm": 500, "log_spread": 0.2, "min_nm": 300, "max_nm": 800}},
    },
}


@pytest.mark.parametrize(
    ("cbd_porosity", "graphite", "silicon", "cbd"), [(0, 0.353, 0.050, 0.088), (0.27, 0.331, 0.047, 0.113)]
)
def test_the_papers_slurry_gives_its_volume_fractions(cbd_porosity, graphite, silicon, cbd):
    fractions = slurry_fractions(**SLURRY, cbd_porosity=cbd_porosity)
    assert fractions == pytest.approx({"pore": 0.51, "graphite": graphite, "silicon": silicon, "cbd": cbd}, abs=5e-4)


def test_a_recipe_may_give_the_slurry_instead_of_fractions():
    recipe = draw_recipe({**RECIPE, "fractions": None, "slurry": SLURRY}, np.random.default_rng(0))
    assert recipe.fractions["graphite"] == pytest.approx(0.353, abs=5e-4)


def test_a_range_is_drawn_anew_for_every_volume_and_within_its_ends():
    ranges = copy.deepcopy(RECIPE)
    ranges["particles"]["graphite"]["size"]["median_nm"] = [800, 1000]
    drawn = [draw_recipe(ranges, np.random.default_rng((0, i))).particles["graphite"].size.median_nm for i in range(50)]
    assert 800 <= min(drawn) < 850
    assert 950 < max(drawn) <= 1000


def changed(path: str, value: object) -> dict:
    recipe = copy.deepcopy(RECIPE)
    *groups, last = path.split(".")
    inner = recipe
    for group in groups:
        inner = inner.setdefault(group, {})
    inner[last] = value
    return recipe


@pytest.mark.parametrize(
    ("path", "value", "named", "range_"),
    [
        ("fractions.graphite", 1.2, "fractions.graphite", "0 to 1"),
        ("fractions.graphite", 0.9, "fractions", "at most 0.95"),
        ("fractions.iron", 0.1, "fractions.iron", "graphite"),
        ("particles.iron", {}, "particles.iron", "graphite"),
        ("particles.graphite.size.median_nm", 5000, "particles.graphite.size.median_nm", "500..1500"),
        ("particles.graphite.shape.flatness", 3, "particles.graphite.shape.flatness", "0.05 to 1"),
        ("particles.graphite.shape.flatnes", 1, "particles.graphite.shape.flatnes", "flatness"),
        ("particles.graphite.overlap", [0.3, 0.1], "particles.graphite.overlap", "[low, high]"),
        ("particles.graphite.orientation.axis", "w", "orientation.axis", "z, y or x"),
        ("cbd.coverage.silicon", 1.5, "cbd.coverage.silicon", "-1 to 1"),
        ("boundary", "open", "boundary", "cut or periodic"),
        ("fraction", {}, "fraction", "fractions"),
    ],
)
def test_a_bad_recipe_is_refused_in_a_line_that_names_key_and_range(path, value, named, range_):
    with pytest.raises(ValueError, match=r".") as caught:
        draw_recipe(changed(path, value), np.random.default_rng(0))
    line = str(caught.value)
    assert named in line
    assert range_ in line
    assert "\n" not in line


def test_particles_larger_than_the_box_are_refused_with_the_largest_size():
    with pytest.raises(ValueError, match=r"particles\.graphite\.size\.median_nm: 900 is larger .* 122 to 854"):
        generate_electrode(RECIPE, (12, 14, 14), 61.0, np.random.default_rng(0))


def test_an_impossible_packing_is_refused():
    recipe = changed("fractions", {"graphite": 0.93, "cbd": 0.0})
    recipe["particles"]["graphite"]["cracks"] = {"share": 1, "count": 6, "width_nm": 200}
    with pytest.raises(ValueError, match=r"impossible packing: fractions\.graphite asked 0\.930"):
        generate_electrode(recipe, (32, 32, 32), 61.0, np.random.default_rng(0))
