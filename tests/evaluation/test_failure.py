"""Failure analysis on volumes whose errors were put there by hand."""

import numpy as np
import pytest

from batseg.evaluation import confusion_matrix
from batseg.evaluation.failure import confusion_shares, rank_agreement, share_at_contact, share_by_depth
from batseg.evaluation.table import METRICS, score
from batseg.phases import PHASES


def test_confusion_shares_are_rows_that_sum_to_one():
    truth, prediction = np.random.default_rng(0).integers(0, 4, (2, 500))
    prediction[:50] = 255
    truth[truth == 2] = 0
    shares = confusion_shares(confusion_matrix(truth, prediction))
    np.testing.assert_allclose(shares[[0, 1, 3]].sum(1), 1)
    assert np.isnan(shares[2]).all()
    assert shares[1, 4] == pytest.approx(np.mean(prediction[truth == 1] == 255))


def test_an_error_in_the_core_is_found_at_its_depth():
    truth = np.zeros((21, 21, 21), np.uint8)
    truth[3:18, 3:18, 3:18] = 1  # depth 1..8
    prediction = truth.copy()
    prediction[8:13, 8:13, 8:13] = 0  # the inner 5^3: depths 6, 7, 8
    shares, counts = share_by_depth(truth, prediction, deepest=10)
    assert counts.tolist() == [15**3 - 13**3, 13**3 - 11**3, 11**3 - 9**3, 9**3 - 7**3, 7**3 - 5**3, 98, 26, 1, 0, 0]
    np.testing.assert_array_equal(shares[:8], [0, 0, 0, 0, 0, 1, 1, 1])
    assert np.isnan(shares[8:]).all()


def test_the_edge_of_the_labelled_region_is_no_surface():
    truth = np.ones((1, 1, 8), np.uint8)
    truth[..., 0], truth[..., 7] = 0, 255
    _, counts = share_by_depth(truth, truth, deepest=8)
    assert counts.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]


def test_binder_errors_at_silicon_are_told_from_those_elsewhere():
    truth = np.zeros((4, 4, 6), np.uint8)
    truth[..., 0] = 2
    truth[..., 1:4] = 3
    prediction = truth.copy()
    prediction[:2, :, 1] = 2  # half of the touching layer
    prediction[0, :, 2] = 2  # 4 of the 32 others
    assert share_at_contact(truth, prediction) == {"at_contact": 0.5, "elsewhere": 0.125, "voxels": 16}
    assert np.isnan(share_at_contact(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)))["at_contact"])


def test_metrics_rank_a_graded_series_as_dice_does():
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.integers(0, 4, (6, 6, 6), dtype=np.uint8), 4, 0).repeat(4, 1).repeat(4, 2)
    draw, other = rng.random(truth.shape), rng.integers(0, 4, truth.shape)
    systems = {
        f"{share}": score(truth, np.where(draw < share, other, truth).astype(np.uint8)).metrics
        for share in (0.4, 0.1, 0.7)
    }
    rows = rank_agreement(systems, ("JACRD", "KAPPA", "VARINFO", "PROBDST", "AVGDIST", "FNR"))
    assert all(row["tau"] == pytest.approx(1) and row["best"] == "0.1" and row["same"] for row in rows)
    assert len(rows) == 6 * 5


def test_a_metric_that_ranks_the_other_way_is_reported():
    values = {"a": {"DICE": 0.9, "HD95": 9.0}, "b": {"DICE": 0.5, "HD95": 1.0}}
    systems = {
        name: {phase: dict.fromkeys(METRICS, 0.0) | row for phase in (*PHASES, "mean")} for name, row in values.items()
    }
    systems["b"]["cbd"]["HD95"] = float("nan")
    rows = {row["phase"]: row for row in rank_agreement(systems, ["HD95"])}
    assert rows["pore"]["tau"] == -1
    assert not rows["pore"]["same"]
    assert np.isnan(rows["cbd"]["tau"])
    assert rows["cbd"]["best"] is None
