"""Statistics of a series and label realisations."""

import numpy as np
import pytest

from batseg.analysis.files import Source, load_analysed, save_analysed, stamp
from batseg.analysis.realisations import agreeing, correlated_field, draw_labels, realised, uncertainty_rows
from batseg.analysis.series import Analysed, shells_by_state, variance_rows
from batseg.analysis.statistics import bootstrap_mean, contrast, pooled_sd, samples_needed, state_rows, trend

CYCLES = np.repeat([0, 2, 5, 8], 3)


def test_a_planted_trend_is_found_and_none_is_not():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 12)
    planted = trend(CYCLES, 1 + 0.1 * CYCLES + noise, np.random.default_rng(1))
    assert planted["slope_per_cycle"] == pytest.approx(0.1, abs=0.03)
    assert planted["p_value"] < 0.001
    assert trend(CYCLES, noise, np.random.default_rng(1))["p_value"] > 0.05


def test_false_alarms_are_as_rare_as_promised():
    rng = np.random.default_rng(2)
    values = [trend(CYCLES, rng.normal(size=12), rng, 500)["p_value"] for _ in range(300)]
    assert np.mean(np.array(values) < 0.05) < 0.09


def test_four_samples_are_permuted_exactly():
    assert trend([0, 1, 2, 3], [1.0, 2.0, 3.0, 4.0], np.random.default_rng(0))["p_value"] == pytest.approx(2 / 24)
    assert np.isnan(trend([0, 1, 2], [1.0, 2.0, 3.0], np.random.default_rng(0))["p_value"])


def test_the_bootstrap_interval_covers_the_mean_as_often_as_promised():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        low, high = bootstrap_mean(rng.normal(5.0, 1.0, (6, 1)), rng, 300)
        inside += low < 5.0 < high
    assert inside / 200 > 0.88


def test_samples_needed_follow_the_textbook():
    assert samples_needed(1.0, 1.0) == 17  # Cohen: d = 1, power 0.8, two-sided 5 %
    assert samples_needed(1.0, 0.5) == pytest.approx(64, abs=1)
    assert np.isnan(samples_needed(np.nan, 1.0))


def test_scatter_within_states_is_pooled_and_contrasts_have_a_width():
    assert pooled_sd([[1.0, 3.0], [10.0, 12.0]]) == pytest.approx(np.sqrt(2))
    found = contrast([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert found["difference"] == pytest.approx(3.0)
    assert found["low"] == pytest.approx(3.0 - 2.776 * np.sqrt(2 / 3), abs=0.01)


def test_states_have_mean_scatter_and_interval():
    rows = state_rows([0, 0, 0, 5], {"x": [1.0, 2.0, 3.0, 7.0]}, np.random.default_rng(0))
    assert (rows[0]["mean"], rows[0]["standard_deviation"], rows[0]["samples"]) == (2.0, 1.0, 3)
    assert rows[0]["interval_low"] < 2.0 < rows[0]["interval_high"]
    assert np.isnan(rows[1]["interval_low"])


def test_shells_are_averaged_over_the_samples_of_a_state():
    base = {"phase": "silicon", "rule": "excluded", "shell": 1, "distance_from_nm": 0.0, "distance_to_nm": 61.0}
    rows = [base | {"cycles": 2.0, "cbd_content": value} for value in (0.4, 0.5, 0.6)]
    averaged = shells_by_state(rows)
    assert len(averaged) == 1
    assert averaged[0]["cbd_content_mean"] == pytest.approx(0.5)
    assert averaged[0]["cbd_content_sd"] == pytest.approx(0.1)


def test_the_correlated_field_is_standard_normal_and_correlated():
    field = correlated_field((48, 48, 48), 4.0, np.random.default_rng(0))
    assert field.std() == pytest.approx(1.0, abs=0.08)
    along = [np.mean(field[:-lag] * field[lag:]) / field.var() for lag in (1, 4)]
    assert along[0] == pytest.approx(np.exp(-1 / 32), abs=0.03)
    assert along[1] == pytest.approx(np.exp(-0.5), abs=0.1)


def test_realisations_keep_the_probabilities_and_err_in_blobs():
    probabilities = np.zeros((4, 24, 24, 24), np.float32)
    probabilities[0], probabilities[3] = 0.7, 0.3
    drawn = [draw_labels(probabilities, 3.0, np.random.default_rng(i)) for i in range(30)]
    assert np.mean([labels == 3 for labels in drawn]) == pytest.approx(0.3, abs=0.02)
    same = np.mean([labels[1:] == labels[:-1] for labels in drawn])
    assert same > 0.85  # independent voxels would agree in 0.58
    blank = draw_labels(np.zeros((4, 2, 2, 2), np.float32), 0.0, np.random.default_rng(0))
    assert (blank == 255).all()


def test_realisations_do_not_depend_on_how_many_are_drawn():
    probabilities = np.full((4, 6, 6, 6), 0.25, np.float32)

    def describe(labels):
        return {"pore": float((labels == 0).mean())}

    few, many = (realised(probabilities, describe, count, 2.0, 0)["pore"] for count in (2, 4))
    assert few.tolist() == many[:2].tolist()


def test_uncertainty_separates_segmentation_from_sampling():
    row = uncertainty_rows({"x": 1.0}, {"x": np.array([0.9, 1.1])}, {"x": np.array([0.8, 1.0, 1.2, 1.0])})[0]
    assert row["segmentation_sd"] == pytest.approx(np.sqrt(0.02))
    assert row["sampling_sd"] == pytest.approx(np.std([0.8, 1.0, 1.2, 1.0], ddof=1) / 2)
    assert row["interval_high"] == pytest.approx(1 + 1.96 * np.hypot(row["segmentation_sd"], row["sampling_sd"]))


def test_variance_between_samples_loses_the_part_of_the_segmentation():
    series = [Analysed(f"s{i}", 0.0, {}, realisations={"x": np.array([0.0, 2.0])}) for i in range(3)]
    row = variance_rows(series, {"x": [1.0, 4.0, 7.0]})[0]
    assert (row["variance_within_states"], row["segmentation_variance"]) == (9.0, 2.0)
    assert row["sampling_variance"] == pytest.approx(7.0)


def test_probabilities_follow_a_rule_that_moved_a_label():
    probabilities = np.zeros((4, 1, 1, 3), np.float32)
    probabilities[:, 0, 0, 0] = [0.6, 0.1, 0.0, 0.3]
    probabilities[:, 0, 0, 1] = probabilities[:, 0, 0, 2] = [0.2, 0.7, 0.1, 0.0]
    moved = agreeing(probabilities, np.array([[[3, 1, 255]]], np.uint8))
    assert moved[:, 0, 0, 0] == pytest.approx([0.3, 0.1, 0.0, 0.6])
    assert moved[:, 0, 0, 1] == pytest.approx([0.2, 0.7, 0.1, 0.0])
    assert (moved[:, 0, 0, 2] == 0).all()


def test_a_kept_sample_is_taken_up_again_unless_files_or_settings_changed(tmp_path):
    labels = tmp_path / "a.tif"
    labels.write_bytes(b"labels")
    source = Source("a", float("nan"), labels)
    analysed = Analysed(
        "a", float("nan"), {"t": [{"x": np.float64(1.5), "y": np.nan}]}, [], {"x": np.array([1.0, 2.0])}
    )
    identity = stamp(source, {"downscale": 2}, 61.0)
    save_analysed(tmp_path / "a.json", analysed, identity)
    kept = load_analysed(tmp_path / "a.json", stamp(source, {"downscale": 2}, 61.0))
    assert kept.tables["t"][0]["x"] == 1.5
    assert np.isnan(kept.tables["t"][0]["y"])
    assert kept.realisations["x"].tolist() == [1.0, 2.0]
    assert load_analysed(tmp_path / "a.json", stamp(source, {"downscale": 1}, 61.0)) is None
    labels.write_bytes(b"other labels")
    assert load_analysed(tmp_path / "a.json", stamp(source, {"downscale": 2}, 61.0)) is None
