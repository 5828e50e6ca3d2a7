"""The table of all metrics, and pairs of label volumes on disk."""

import json
import math

import numpy as np
import pytest

from batseg.evaluation.pairs import open_pair
from batseg.evaluation.table import (
    DISTANCES,
    METRICS,
    PRESETS,
    as_csv,
    mean_over_phases,
    preset_columns,
    score,
    score_slabs,
)
from batseg.phases import PHASES
from batseg.volumes import InputError, Volume, write_volume


def labels(seed, shape=(8, 9, 10)):
    return np.random.default_rng(seed).integers(0, 4, shape, dtype=np.uint8)


def test_a_perfect_prediction_has_perfect_scores():
    found = score(labels(1), labels(1)).metrics
    for name in (*PHASES, "mean"):
        for key in ("DICE", "JACRD", "AUC", "KAPPA", "RNDIND", "ADJRIND", "ICCORR", "VOLSMTY", "SURFDICE1"):
            assert found[name][key] == pytest.approx(1), key
        for key in (*DISTANCES, "MAHLNBS", "VARINFO", "GCOERR", "PROBDST", "FALLOUT", "FNR"):
            assert found[name][key] == pytest.approx(0, abs=1e-12), key


def test_every_metric_stands_for_every_phase_and_the_mean_leaves_out_what_is_undefined():
    truth, prediction = labels(1), labels(2)
    truth[truth == 3], prediction[prediction == 3] = 0, 0
    found = score(truth, prediction).metrics
    assert list(found) == [*PHASES, "mean"]
    assert all(tuple(values) == METRICS for values in found.values())
    assert math.isnan(found["cbd"]["DICE"])
    assert found["mean"]["DICE"] == pytest.approx(sum(found[name]["DICE"] for name in PHASES[:3]) / 3)
    assert math.isnan(mean_over_phases({"cbd": found["cbd"]})["DICE"])


def test_slabs_give_the_scores_of_the_whole():
    truth, prediction = labels(1), labels(2)
    truth[2], prediction[5] = 255, 255
    slabs = ((truth[i : i + 3], prediction[i : i + 3]) for i in range(0, 8, 3))
    assert as_csv(score_slabs(slabs, truth.shape).metrics) == as_csv(score(truth, prediction).metrics)


def test_unlabelled_truth_is_not_scored_and_coverage_counts_what_the_prediction_leaves_open():
    truth, prediction = labels(1), labels(1)
    truth[:4] = 255
    prediction[:4] = labels(7)[:4]  # would be wrong
    prediction[4] = 255
    found = score(truth, prediction)
    assert found.confusion.sum() == 4 * 90
    assert found.coverage == pytest.approx(0.75)
    assert found.metrics["pore"]["PRCISON"] == 1
    assert found.metrics["pore"]["SNSVTY"] == pytest.approx(np.mean(truth[5:] == 0) / np.mean(truth[4:] == 0) * 0.75)
    assert found.metrics["pore"]["HDRFDST"] <= np.sqrt(9**2 + 8**2 + 1)


def test_distances_scale_with_the_voxel_and_nothing_else_does():
    ours, in_nm = score(labels(1), labels(2)).metrics, score(labels(1), labels(2), unit_per_voxel=61.0).metrics
    for key in METRICS:
        factor = 61 if key in DISTANCES else 1
        assert in_nm["cbd"][key] == pytest.approx(factor * ours["cbd"][key]), key


def test_without_distances_the_overlap_metrics_are_the_same():
    whole, light = score(labels(1), labels(2)).metrics, score(labels(1), labels(2), distances=False).metrics
    assert light["cbd"]["DICE"] == whole["cbd"]["DICE"]
    assert math.isnan(light["cbd"]["HDRFDST"])
    assert math.isnan(score(labels(1), labels(2), surface=False).metrics["cbd"]["HD95"])


def test_presets_name_nineteen_known_metrics():
    assert all(set(columns) <= set(METRICS) for columns in PRESETS.values())
    assert len(set(PRESETS["paper19"])) == len(set(PRESETS["tool19"])) == 19
    with pytest.raises(ValueError, match="preset is one of"):
        preset_columns("paper20")
    with pytest.raises(ValueError, match="compat"):
        score(labels(1), labels(2), compat="viseral")


def write(path, array, **described):
    write_volume(path, Volume(array, 61.0))
    if described:
        path.with_suffix(".json").write_text(json.dumps(described))
    return path


def gathered(pair):
    truth, prediction = zip(*pair.slabs())
    return np.concatenate(truth), np.concatenate(prediction)


@pytest.mark.parametrize("slices", [None, [2, 6]])
def test_a_deeper_prediction_is_cut_to_the_slices_of_the_truth(tmp_path, slices):
    prediction = labels(2)
    described = {} if slices else {"slice_range": [2, 6]}
    truth_path = write(tmp_path / "t.tif", labels(1, (4, 9, 10)), **described)
    pair = open_pair(truth_path, write(tmp_path / "p.tif", prediction), slices=slices)
    assert pair.shape == (4, 9, 10)
    np.testing.assert_array_equal(gathered(pair)[1], prediction[2:6])
    np.testing.assert_array_equal(gathered(pair)[0], labels(1, (4, 9, 10)))


def test_volumes_of_one_depth_are_taken_as_they_are_whatever_the_sidecar_says(tmp_path):
    truth_path = write(tmp_path / "t.tif", labels(1), slice_range=[20, 28])
    assert open_pair(truth_path, write(tmp_path / "p.tif", labels(2))).first == (0, 0, 0)


def test_a_prediction_in_memory_is_taken_as_one_on_disk(tmp_path):
    pair = open_pair(write(tmp_path / "t.tif", labels(1, (4, 9, 10)), slice_range=[2, 6]), labels(2))
    np.testing.assert_array_equal(gathered(pair)[1], labels(2)[2:6])
    with pytest.raises(InputError, match="prediction: label values outside"):
        gathered(open_pair(labels(1), labels(2) + 7))


def test_codes_are_mapped_and_the_mask_takes_voxels_out(tmp_path):
    mask = np.zeros((8, 9, 10), np.uint8)
    mask[3:] = 1
    paths = [write(tmp_path / f"{i}.tif", array) for i, array in enumerate((labels(1) * 80, labels(2) * 80, mask))]
    truth, prediction = gathered(open_pair(*paths, mapping={0: "pore", 80: "graphite", 160: "silicon", 240: "cbd"}))
    assert (truth[:3] == 255).all()
    np.testing.assert_array_equal(truth[3:], labels(1)[3:])
    np.testing.assert_array_equal(prediction, labels(2))


@pytest.mark.parametrize(
    ("prediction", "mask", "slices", "message"),
    [
        (labels(2, (8, 9, 11)), None, None, "differ in shape"),
        (labels(2, (9, 9, 10)), None, None, "give slices="),
        (labels(2, (9, 9, 10)), None, [4, 12], "do not fit"),
        (labels(2, (9, 9, 10)), None, [4, 2], "first < last"),
        (labels(2) + 1, None, None, "outside the map"),
        (labels(2).astype(np.float32), None, None, "must be integers"),
        (labels(2), np.zeros((8, 9, 10), np.uint8), None, "selects no voxel"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, prediction, mask, slices, message):
    paths = [write(tmp_path / "t.tif", labels(1)), write(tmp_path / "p.tif", prediction)]
    paths += [] if mask is None else [write(tmp_path / "m.tif", mask)]
    with pytest.raises(InputError, match=message):
        gathered(open_pair(*paths, slices=slices))


def test_a_truth_without_labels_is_refused():
    with pytest.raises(ValueError, match="no voxel is labelled"):
        score(np.full((2, 3, 4), 255, np.uint8), np.zeros((2, 3, 4), np.uint8))
