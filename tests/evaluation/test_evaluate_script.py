"""scripts/evaluate.py as its user calls it."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from batseg.command import CONF
from batseg.evaluation.table import METRICS, score
from batseg.phases import PHASES
from batseg.volumes import Volume, write_volume


def evaluate(folder, *arguments):
    command = [
        sys.executable,
        str(CONF.parent / "scripts" / "evaluate.py"),
        "truth=t.tif",
        "prediction=p.tif",
        *arguments,
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(0)
    for name in "tp":
        write_volume(folder / f"{name}.tif", Volume(rng.integers(0, 4, (6, 7, 8), dtype=np.uint8), 61.0))
    return folder


def test_json_and_csv_hold_every_metric_and_paths_are_relative_to_the_caller(folder):
    label_map = "label_map={0: pore, 1: graphite, 2: silicon, 3: cbd}"
    done = evaluate(folder, "out=sub/m.json", label_map, "preset=paper19")
    assert done.returncode == 0, done.stderr
    written = json.loads((folder / "sub" / "m.json").read_text())
    rng = np.random.default_rng(0)
    truth, prediction = (rng.integers(0, 4, (6, 7, 8), dtype=np.uint8) for _ in range(2))
    expected = score(truth, prediction).metrics
    for name in (*PHASES, "mean"):
        assert written[name] == pytest.approx(expected[name])
    with open(folder / "sub" / "m.csv", newline="") as file:
        rows = {row["phase"]: row for row in csv.DictReader(file)}
    assert list(rows) == [*PHASES, "mean"]
    assert float(rows["cbd"]["bAVD"]) == pytest.approx(expected["cbd"]["bAVD"])
    assert set(rows["cbd"]) == {"phase", *METRICS}
    assert "VARINFO" in done.stdout  # printed: the preset's columns only
    assert "bAVD" not in done.stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [("out=p.json", "would overwrite the description of p.tif"), ("label_map={0: pore}", "outside the map")],
)
def test_bad_input_ends_in_one_line(folder, argument, message):
    done = evaluate(folder, *(["out=n.json"] if "out=" not in argument else []), argument)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("reading labels")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (folder / "n.json").exists()
    assert "axes" in json.loads((folder / "p.json").read_text())
