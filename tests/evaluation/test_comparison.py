"""Several systems against one truth: the tables, the commands and their pictures."""

import csv
import subprocess
import sys

import numpy as np
import pytest

from batseg.command import CONF
from batseg.evaluation.comparison import compare, cropped
from batseg.evaluation.table import score
from batseg.phases import PHASES
from batseg.volumes import Volume, write_volume


def volumes(shape=(16, 24, 24)):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, [length // 4 for length in shape], dtype=np.uint8)
    truth = truth.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    draw, other = rng.random(truth.shape), rng.integers(0, 4, truth.shape, dtype=np.uint8)
    return truth, {name: np.where(draw < share, other, truth) for name, share in (("good", 0.1), ("bad", 0.6))}


def test_every_table_holds_every_system_and_the_same_numbers_as_the_single_score():
    truth, predictions = volumes()
    tables = compare(truth, predictions, block=8, resamples=200)
    assert set(tables) == {
        "metrics",
        "intervals",
        "paired",
        "boundary",
        "confusion",
        "depth",
        "contact",
        "ranks",
        "table_s2",
    }
    for name in ("metrics", "intervals", "boundary", "confusion", "depth", "contact"):
        assert list(dict.fromkeys(row["system"] for row in tables[name])) == ["good", "bad"], name
    expected = score(truth, predictions["bad"]).metrics
    row = next(row for row in tables["metrics"] if (row["system"], row["phase"]) == ("bad", "cbd"))
    assert row["DICE"] == expected["cbd"]["DICE"]
    interval = next(row for row in tables["intervals"] if (row["system"], row["phase"]) == ("bad", "mean"))
    assert interval["dice"] == pytest.approx(expected["mean"]["DICE"])
    assert interval["low"] < interval["dice"] < interval["high"]
    cell = next(row for row in tables["table_s2"] if (row["phase"], row["metric"]) == ("cbd", "KAPPA"))
    assert cell["bad"] == expected["cbd"]["KAPPA"] < cell["good"]
    assert len(tables["table_s2"]) == 5 * 19
    paired = {row["phase"]: row for row in tables["paired"]}
    assert paired["mean"]["a"] == "good"
    assert paired["mean"]["low"] > 0
    assert all(row["best"] == "good" for row in tables["ranks"] if row["metric"] == "DICE")


def test_one_system_alone_needs_no_partner():
    truth, predictions = volumes()
    assert {"paired", "ranks"}.isdisjoint(compare(truth, {"good": predictions["good"]}, block=8, resamples=50))


def test_cropping_to_the_labelled_box_changes_no_score():
    truth, predictions = volumes()
    truth[:3], truth[:, :, 20:] = 255, 255
    small, cut = cropped(truth, predictions)
    assert small.shape == (13, 24, 20)
    assert score(small, cut["bad"]).metrics["cbd"] == pytest.approx(score(truth, predictions["bad"]).metrics["cbd"])
    with pytest.raises(ValueError, match="no voxel is labelled"):
        cropped(np.full_like(truth, 255), predictions)


def run(folder, script, *arguments):
    command = [sys.executable, str(CONF.parent / "scripts" / script), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_baselines_and_their_comparison_as_commands(tmp_path):
    truth, _ = volumes()
    image = truth + np.random.default_rng(1).normal(0, 0.2, truth.shape)
    write_volume(tmp_path / "image.tif", Volume(image.astype(np.float32), 61.0))
    write_volume(tmp_path / "truth.tif", Volume(truth, 61.0))
    done = run(
        *(tmp_path, "baselines.py", "image=image.tif", "truth=truth.tif", "out=b", "run=[kmeans,random_forest]"),
        *("training=[{image: image.tif, labels: truth.tif}]", "methods.random_forest.trees=5"),
    )
    assert done.returncode == 0, done.stderr
    assert {file.name for file in (tmp_path / "b").iterdir()} >= {"kmeans.tif", "random_forest.tif", "fig2.png"}
    systems = "systems={kmeans: b/kmeans.tif, forest: b/random_forest.tif}"
    done = run(tmp_path, "compare_systems.py", "truth=truth.tif", systems, "out=c", "block=8", "resamples=100")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "c" / "failures.png").stat().st_size > 5000
    with open(tmp_path / "c" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == [*PHASES, "mean"] * 2
    assert float(rows[4]["DICE"]) > 0.95


def test_systems_that_are_no_mapping_end_in_one_line(tmp_path):
    done = run(tmp_path, "compare_systems.py", "truth=t.tif", "systems=a.tif", "out=x")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "systems names the segmentations" in done.stderr
