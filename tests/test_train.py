"""train.py from the command line: the rows of Table 1 on a tiny campaign."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.conftest import write_campaign

ROOT = Path(__file__).resolve().parent.parent
TINY = ["width=1", "data.patch=[8,16,16]", "segment.window=[8,16,16]", "trainer.max_steps=2", "logger=csv"]
ONE_PLACE = ["data.workers=0", "trainer.accelerator=cpu", "data.validation_share=0"]


def train(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "train.py", *arguments, *TINY, *ONE_PLACE],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The multirun of Table 1's rows: folder of the runs, what was printed."""
    root = tmp_path_factory.mktemp("table")
    write_campaign(root / "campaign")
    places = [f"campaign={root}/campaign", f"runs={root}/runs"]
    result = train("-m", "+experiment=real,hybrid,hybrid_threshold", *places)
    assert result.returncode == 0, result.stderr
    return root, places, result.stdout


def test_three_rows_come_from_two_fits(table):
    runs, printed = table[0] / "runs", table[2]
    assert sorted(folder.name.split("-")[0] for folder in (runs / "fits").glob("*-*")) == ["hybrid", "real"]
    rows = {path.parts[-3]: json.loads(path.read_text()) for path in runs.glob("rows/*/seed0/result.json")}
    assert set(rows) == {"real", "hybrid", "hybrid_threshold"}
    assert rows["hybrid"]["fit"] == rows["hybrid_threshold"]["fit"]
    assert rows["hybrid"]["dice"]["graphite"] == rows["hybrid_threshold"]["dice"]["graphite"]
    assert all((runs / "rows" / name / "seed0/labels.tif").exists() for name in rows)
    assert [line.split()[0] for line in printed.splitlines()[-3:]] == ["hybrid", "hybrid_threshold", "real"]


def test_what_is_there_is_reused_and_an_ablation_composes(table):
    root, places, _ = table
    before = {path: path.stat().st_mtime_ns for path in (root / "runs/fits").glob("*/final.ckpt")}
    result = train("-m", "+experiment=hybrid,[hybrid,ablation/no_augmentation]", *places)
    assert result.returncode == 0, result.stderr
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list((root / "runs/fits").glob("*/final.ckpt"))) == 3
    assert (root / "runs/rows/hybrid-no_augmentation/seed0/result.json").exists()
