import json
import subprocess
import sys

import numpy as np
import pytest
from omegaconf import OmegaConf

from batseg.command import CONF
from batseg.tomography.exchange import write_scan
from batseg.tomography.matching import plain_tomogram, with_values
from batseg.tomography.scan import draw_conditions, middle_conditions, simulate_scan
from batseg.volumes import Volume, write_volume
from tests.tomography.test_imitation import blocky_cylinder

SCRIPT = CONF.parent / "scripts" / "match_scan.py"


def match(*overrides: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPT), *overrides], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["raw", "image"])
def test_a_scan_or_its_tomogram_alone_becomes_conditions_that_can_be_scanned_with(tmp_path, source):
    ranges = OmegaConf.to_container(OmegaConf.load(CONF / "scan" / "txm_8kev_61nm.yaml"))
    truth = with_values(middle_conditions(ranges), {"imaging.blur_nm": 90.0, "motion.angles": 120})
    if source == "image":  # a finished reconstruction has these undone
        truth = with_values(truth, {"beam.cloud_spread": 0.0, "motion.jitter_px": 0.0})
    scan = simulate_scan(blocky_cylinder(rows=32, seed=1), 61.0, truth, np.random.default_rng(1))
    path = tmp_path / "mine.h5"
    write_scan(path, scan)
    if source == "image":
        path = tmp_path / "mine.tif"
        tomogram = plain_tomogram(scan, (scan.shape[2] - 1) / 2, filter="hann")
        write_volume(path, Volume(7 + 300 * tomogram, 61.0))  # units are anybody's
    write_volume(tmp_path / "structure.tif", Volume(blocky_cylinder(rows=32, seed=2), 61.0))
    done = match(
        f"{source}={path}", f"labels={tmp_path}/structure.tif",
        f"out={tmp_path}/mine.yaml", f"report={tmp_path}/report",
        "fitted=[imaging.blur_nm,detector.photons]", "rounds=3", "rows=24", "scan.motion.angles=120",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "report" / "mine.json").read_text())
    assert numbers["values"]["imaging.blur_nm"] == pytest.approx(90, rel=0.2), numbers["values"]
    assert 0.4 < numbers["auc"] < 0.9
    assert (tmp_path / "report" / "mine.png").exists()
    assert (tmp_path / "report" / "side_by_side.png").exists()
    found = draw_conditions(OmegaConf.to_container(OmegaConf.load(tmp_path / "mine.yaml")), np.random.default_rng(0))
    assert found.motion.angles == 120


def test_mistakes_end_in_one_line_and_exit_code_2(tmp_path):
    common = (f"labels={tmp_path}/a.tif", f"out={tmp_path}/mine.yaml")
    for overrides, words in (
        (common, "either raw"),
        ((*common, "raw=a.h5", "image=a.tif"), "either raw"),
        ((*common, "image=nothing.tif"), "a.tif"),
    ):
        done = match(*overrides)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "mine.yaml").exists()
