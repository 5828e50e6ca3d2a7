"""scripts/compare_style.py as its user calls it."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from batseg.command import CONF
from batseg.volumes import Volume, write_volume


def compare(folder, *arguments):
    command = [sys.executable, str(CONF.parent / "scripts" / "compare_style.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Grains of four voxels as templates, of eight as basic structures; stylised once well, once not at all."""
    folder = tmp_path_factory.mktemp("styles")
    for seed, (name, edge) in enumerate((("basic", 8), ("templates", 4), ("good", 4), ("bad", 8))):
        coarse = np.random.default_rng(seed).integers(0, 4, (32 // edge,) * 3)
        labels = np.kron(coarse, np.ones((edge,) * 3)).astype(np.uint8)
        write_volume(folder / name / "0" / "labels.tif", Volume(labels, 61.0))
    return folder


def test_distances_values_and_a_picture_are_written(folder):
    done = compare(folder, "basic=basic", "stylized=[good,bad]", "templates=templates", "out=out", "threads=1")
    assert done.returncode == 0, done.stderr
    with open(folder / "out" / "distances.csv", newline="") as file:
        chords = {row["measure"]: row for row in csv.DictReader(file)}["chords_cbd"]
    written = json.loads((folder / "out" / "style.json").read_text())
    good, bad = (written["distances"][f"stylized {run}"]["chords_cbd"] for run in (0, 1))
    assert good < 0.3 * bad
    assert float(chords["stylised"]) == pytest.approx((good + bad) / 2, abs=1e-4)
    assert float(chords["spread"]) == pytest.approx(np.std([good, bad], ddof=1), abs=1e-4)
    assert (folder / "out" / "values.csv").exists()
    assert (folder / "out" / "style.png").stat().st_size > 5000


def test_a_folder_without_labels_ends_in_one_line(folder):
    done = compare(folder, "basic=basic", "stylized=missing", "templates=templates", "out=out")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "missing" in done.stderr
