"""Verdicts on the paper's statements are computed: planted truths are confirmed, planted lies contradicted."""

import numpy as np
import pytest

from batseg.analysis.claims import (
    change_over_cycling,
    check_claims,
    cycled_less_pristine,
    less,
    mean_interval,
    verdict,
)
from batseg.analysis.paper_claims import CLAIMS
from batseg.analysis.sample import descriptors_by_sample

CYCLES = np.repeat([0.0, 2.0, 5.0, 8.0], 3)
NOISE = np.tile([-0.004, 0.0, 0.004], 4)


def of(statement, values):
    rows = {row["statement"]: row for row in check_claims(CLAIMS, CYCLES, values)}
    return rows[statement]["verdict"]


def test_an_interval_inside_confirms_outside_contradicts_and_across_decides_nothing():
    assert verdict(0.1, 0.2, 0.0, 0.3) == "confirmed"
    assert verdict(0.4, 0.5, 0.0, 0.3) == "contradicted"
    assert verdict(0.2, 0.5, 0.0, 0.3) == "undecided"
    assert verdict(0.0, 0.0, 0.0, np.inf) == "undecided"
    assert verdict(np.nan, np.nan, 0.0, 1.0) == "undecided"


def test_the_mean_has_the_interval_of_student():
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - 2.484, 2 + 2.484), abs=1e-3)


def test_binder_that_leaves_silicon_is_seen_and_one_that_returns_is_contradicted():
    statement = "CBD leaves the silicon surface with cycling"
    name = "coverage silicon by cbd"
    assert of(statement, {name: np.where(CYCLES > 0, 0.34, 0.46) + NOISE}) == "confirmed"
    assert of(statement, {name: np.where(CYCLES > 0, 0.46, 0.34) + NOISE}) == "contradicted"
    assert of(statement, {}) == "undecided"


def test_constant_transport_is_confirmed_and_a_drift_contradicted():
    statement = "Transport stays constant as a function of cycling"
    assert of(statement, {"D_rel pore": 0.14 + 0.1 * NOISE}) == "confirmed"
    assert of(statement, {"D_rel pore": 0.14 + 0.01 * CYCLES + 0.1 * NOISE}) == "contradicted"
    assert of(statement, {"D_rel pore": 0.14 + 20 * NOISE}) == "undecided"


def test_differences_are_taken_within_samples_and_trends_over_eight_cycles():
    values = {"a": 1.0 + 100 * NOISE, "b": 0.5 + 100 * NOISE}
    assert less("a", "b")(CYCLES, values)[0] == pytest.approx(0.5)
    assert change_over_cycling("c")(CYCLES, {"c": 0.01 * CYCLES})[0] == pytest.approx(0.08)
    only_two = cycled_less_pristine("c", 2.0)(CYCLES, {"c": 0.01 * CYCLES + NOISE})
    assert only_two[0] == pytest.approx(0.02)
    assert only_two[1] < 0.02 < only_two[2]


def test_every_claim_has_a_range_and_a_place():
    for claim in CLAIMS:
        assert claim.low < claim.high
        assert np.isfinite(claim.low) or np.isfinite(claim.high)
        assert claim.place
    assert len({claim.statement for claim in CLAIMS}) == len(CLAIMS)


def test_descriptors_are_gathered_by_sample():
    rows = [
        {"sample": "a", "cycles": 0.0, "quantity": "x", "value": 1.0},
        {"sample": "b", "cycles": 8.0, "quantity": "x", "value": 3.0},
    ]
    similar = [{"sample": "b", "cycles": 8.0, "subvolume": i, "D_rel": value} for i, value in enumerate([0.1, 0.3])]
    cycles, values = descriptors_by_sample(rows, similar)
    assert cycles.tolist() == [0.0, 8.0]
    assert values["x"].tolist() == [1.0, 3.0]
    assert values["similar D_rel"][1] == pytest.approx(0.2)
    assert np.isnan(values["similar D_rel"][0])
