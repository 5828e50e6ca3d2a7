"""Rows of Table 1: labels and scores on disk, shared predictions, mean and interval over seeds."""

import json
import math

import numpy as np
import pytest
import torch

from batseg.inference.fusion import MeanSoftmax
from batseg.postprocessing import GreyThreshold, Unchanged
from batseg.subvolumes import Pair, find_pairs
from batseg.training.rows import check, judge, mean_and_interval, show_summary, summary, write_result
from batseg.volumes import InputError, Volume, read_volume, write_volume

SETTINGS = {"window": (8, 16, 16), "directions": "zyx", "window_fit": "error", "overlap": 0.5, "fusion": MeanSoftmax()}


class ByGreyValue(torch.nn.Module):
    """Knows the toy tomograms: the phase is the grey value, which normalisation has centred and scaled."""

    def __init__(self, levels):
        super().__init__()
        self.levels = torch.nn.Parameter(torch.tensor(levels)[None, :, None, None, None], requires_grad=False)

    def forward(self, image):
        return -100 * (image - self.levels) ** 2


@pytest.fixture
def network(campaign):
    image = read_volume(campaign / "evaluation/a/image.tif").array
    low, high = np.percentile(image, (1, 99))
    inner = image[(image >= low) & (image <= high)]
    return ByGreyValue([float((phase - inner.mean()) / inner.std()) for phase in range(4)])


def test_a_network_that_reads_grey_values_scores_high_and_the_row_is_on_disk(campaign, tmp_path, network):
    pairs = find_pairs(str(campaign / "evaluation"))
    result = judge(network, pairs, tmp_path / "row", tmp_path / "cache", SETTINGS, Unchanged())
    assert result["mean"] > 0.8
    assert result["mean"] == pytest.approx(np.mean(list(result["dice"].values())))
    labels = read_volume(tmp_path / "row/labels.tif")
    assert labels.voxel_nm == 61.0
    assert np.sum(result["confusion"]) == labels.array.size


def test_rows_of_one_fit_share_what_the_network_said(campaign, tmp_path, network):
    pairs = find_pairs(str(campaign / "evaluation"))
    judge(network, pairs, tmp_path / "a", tmp_path / "cache", SETTINGS, Unchanged())
    judge(None, pairs, tmp_path / "b", tmp_path / "cache", SETTINGS, GreyThreshold())
    first, second = (read_volume(tmp_path / row / "labels.tif").array for row in "ab")
    kept = np.isin(first, (1, 2))
    assert np.array_equal(first[kept], second[kept])


def test_only_the_labelled_range_of_slices_is_scored(campaign, tmp_path, network):
    folder = campaign / "evaluation/a"
    truth = read_volume(folder / "labels.tif").array
    write_volume(tmp_path / "manual.tif", Volume(truth[8:20], 61.0))
    sidecar = json.loads((tmp_path / "manual.json").read_text())
    (tmp_path / "manual.json").write_text(json.dumps({**sidecar, "slice_range": [8, 20]}))
    pair = Pair((str(folder / "image.tif"),), str(tmp_path / "manual.tif"))
    result = judge(network, [pair], tmp_path / "row", tmp_path / "cache", SETTINGS, Unchanged())
    assert np.sum(result["confusion"]) == truth[8:20].size
    assert result["mean"] > 0.8


def test_a_truth_in_other_codes_is_translated(campaign, tmp_path, network):
    folder = campaign / "evaluation/a"
    codes = np.array([0, 85, 170, 254], np.uint8)[read_volume(folder / "labels.tif").array]
    write_volume(tmp_path / "coded.tif", Volume(codes, 61.0))
    mapping = {0: "pore", 85: "graphite", 170: "silicon", 254: "cbd"}
    pair = Pair((str(folder / "image.tif"),), str(tmp_path / "coded.tif"), mapping)
    assert judge(network, [pair], tmp_path / "row", tmp_path / "cache", SETTINGS, Unchanged())["mean"] > 0.8


def test_a_window_that_exceeds_the_volume_is_refused_before_anything_is_learnt(campaign):
    with pytest.raises(InputError, match="exceeds the volume"):
        check(find_pairs(str(campaign / "evaluation")), {**SETTINGS, "window": (8, 64, 16)})


def test_the_interval_over_seeds_is_students():
    """Three values 1, 2, 3: standard error 1 / sqrt(3), t(0.975, 2) = 4.3027."""
    mean, half = mean_and_interval([1, 2, 3, None])
    assert mean == 2
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    assert math.isnan(mean_and_interval([0.5])[1])
    assert math.isnan(mean_and_interval([None])[0])


def test_the_table_has_one_line_per_row_with_its_seeds(tmp_path, capsys):
    phases = ("pore", "graphite", "silicon", "cbd")
    for name, seed, value in (("real", 0, 0.5), ("real", 1, 0.7), ("hybrid", 0, 0.8)):
        result = {"dice": dict.fromkeys(phases, value), "mean": value}
        write_result(tmp_path / name / f"seed{seed}", result)
    assert [(row["name"], row["seeds"], row["mean"][0]) for row in summary(tmp_path)] == [
        ("hybrid", 1, 0.8),
        ("real", 2, pytest.approx(0.6)),
    ]
    show_summary(tmp_path)
    printed = capsys.readouterr().out
    assert "0.600 ± 1.271" in printed
    assert (tmp_path / "table.csv").read_text().splitlines()[1].startswith("hybrid,1,0.8,")
