"""scripts/analyse.py from the command line: one volume, a table, and what it says about bad input."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

SCRIPT = Path(__file__).parent.parent / "scripts" / "analyse.py"


def analyse(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300)


def test_a_table_of_samples_becomes_tables_summary_and_figures(tmp_path):
    rng = np.random.default_rng(0)
    blocks = [rng.choice([0, 85, 170], (6, 8, 8), p=[0.6, 0.3, 0.1]).astype(np.uint8) for _ in range(2)]
    for name, block in zip("ab", blocks):
        tifffile.imwrite(tmp_path / f"{name}.tif", block.repeat(3, 0).repeat(3, 1).repeat(3, 2))
    probabilities = np.full((4, 18, 24, 24), 0.1, np.float32)
    probabilities[0] = 0.7
    np.save(tmp_path / "p.npy", probabilities)
    table = "sample,cycles,labels,probabilities\na,pristine,a.tif,p.npy\nb,8,b.tif,\n"
    (tmp_path / "samples.csv").write_text(table)
    done = analyse(
        f"table={tmp_path}/samples.csv",
        f"out={tmp_path}/out",
        "voxel_nm=61",
        "label_map={0: pore, 85: graphite, 170: cbd}",
        "subvolume_edge=9",
        "realisations=2",
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    with open(tmp_path / "out" / "composition.csv") as file:
        row = next(row for row in csv.DictReader(file) if row["sample"] == "b" and row["phase"] == "pore")
    expected = (blocks[1] == 0).mean()
    assert float(row["volume_fraction"]) == pytest.approx(expected)
    assert summary["samples"]["b"]["composition"]["pore"]["volume_fraction"] == pytest.approx(expected)
    assert summary["samples"]["b"]["composition"]["silicon"]["volume_fraction"] is None
    assert summary["samples"]["a"]["descriptors"]["D_rel pore"]["segmentation_sd"] > 0
    assert summary["statistics"]["D_rel pore"]["samples"] == 2
    assert {path.stem for path in (tmp_path / "out" / "samples").iterdir()} == {"a", "b"}
    assert len(list((tmp_path / "out" / "figures").glob("*.svg"))) == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["labels={folder}/nowhere.tif"], "no such file"),
        (["labels={folder}/flat.tif", "through_plane=w"], "axes are z, y and x"),
        (["labels={folder}/flat.tif"], "too thin"),
        (["labels={folder}/flat.tif", "label_map={{0: pore, 1: coal}}"], "coal"),
        (["table={folder}/samples.csv"], "missing cycles"),
        ([], "give either labels"),
        (["labels={folder}/flat.tif", "downscales=2"], "downscales"),
    ],
)
@pytest.mark.slow
def test_bad_input_is_one_line_and_exit_code_two(arguments, said, tmp_path):
    tifffile.imwrite(tmp_path / "flat.tif", np.zeros((1, 8, 8), np.uint8))
    (tmp_path / "samples.csv").write_text("sample,labels\na,flat.tif\n")
    given = [argument.format(folder=tmp_path) for argument in arguments]
    done = analyse(*given, f"out={tmp_path}/out", "voxel_nm=61")
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
