import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batseg.command import CONF
from batseg.volumes import Volume, read_image, read_labels, write_volume

SCRIPT = CONF.parent / "scripts" / "simulate_scans.py"


def simulate(*overrides: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPT), *overrides], capture_output=True, text=True, check=False)


def structures(folder: Path, count: int = 2) -> None:
    for index in range(count):
        labels = np.random.default_rng(index).integers(0, 4, (16, 24, 24)).astype(np.uint8)
        write_volume(folder / f"block_{index}.tif", Volume(labels, 61.0))


@pytest.mark.slow
def test_a_folder_of_structures_becomes_a_campaign_that_does_not_depend_on_the_workers(tmp_path):
    structures(tmp_path / "structures")
    common = (f"labels={tmp_path}/structures/*.tif", "scan.motion.angles=24", "raw=true")
    for workers in (1, 2):
        done = simulate(*common, f"out={tmp_path}/campaign{workers}", f"workers={workers}")
        assert done.returncode == 0, done.stderr
    images = []
    for workers in (1, 2):
        folder = tmp_path / f"campaign{workers}" / "block_1"
        image, labels = read_image(folder / "image.tif"), read_labels(folder / "labels.tif")
        assert image.shape == labels.shape == (16, 24, 24)
        assert image.voxel_nm == 61.0
        assert image.provenance["provenance"]["simulated"]["motion"]["angles"] == 24
        assert (folder / "scan.h5").exists()
        images.append(image.array)
    assert np.abs(images[0] - images[1]).max() < 0.02 * images[0].std()
    first = read_image(tmp_path / "campaign1" / "block_0" / "image.tif").array
    assert np.abs(first - images[0]).max() > images[0].std()


def test_mistakes_end_in_one_line_and_exit_code_2(tmp_path):
    structures(tmp_path, 1)
    for overrides, words in (
        (("labels=nothing/*.tif",), "no label volume"),
        ((f"labels={tmp_path}/block_0.tif", "scan.imaging.blur_nm=[3,1]"), "imaging.blur_nm"),
    ):
        done = simulate(*overrides, f"out={tmp_path}/out")
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
