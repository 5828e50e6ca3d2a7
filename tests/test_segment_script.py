import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from batseg.command import CONF
from batseg.inference.bundle import save_bundle
from batseg.inference.calibration import Calibration
from batseg.networks.unet3d import UNet3D
from batseg.volumes import Volume, read_volume, write_volume

ROOT = CONF.parent
NETWORK = {"_target_": "batseg.networks.unet3d.UNet3D", "width": 2}


def run(script, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, f"scripts/{script}.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    network = UNet3D(width=2)
    network(torch.randn(2, 1, 8, 16, 16))
    path = tmp_path_factory.mktemp("bundle") / "b.pt"
    return save_bundle(
        path, [network.state_dict()], NETWORK, {"window": [8, 16, 16], "windows": "planes"}, Calibration(1.5), 61.0
    )


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory):
    """A cylinder of noise in air."""
    rng = np.random.default_rng(0)
    row, column = np.ogrid[-1:1:40j, -1:1:40j]
    image = np.where(np.hypot(row, column) < 0.8, rng.normal(5, 1, (24, 40, 40)), rng.normal(0, 0.1, (24, 40, 40)))
    path = tmp_path_factory.mktemp("image") / "tooth.tif"
    return write_volume(path, Volume(image.astype(np.float32), 61.0))


def test_a_bundle_and_a_tomogram_give_labels_with_a_phase_everywhere_in_the_cylinder(bundle, tomogram, tmp_path):
    done = run("segment", f"bundle={bundle}", f"image={tomogram}", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == f"{tmp_path}/tooth.tif"
    labels = read_volume(tmp_path / "tooth.tif")
    assert labels.array.dtype == np.uint8
    assert labels.voxel_nm == 61.0
    assert set(np.unique(labels.array)) <= {0, 1, 2, 3, 255}
    row, column = np.ogrid[-1:1:40j, -1:1:40j]
    inside = np.broadcast_to(np.hypot(row, column) < 0.7, labels.array.shape)
    assert (labels.array[inside] < 4).all()
    assert (labels.array[:, 0, 0] == 255).all()
    probabilities = read_volume(tmp_path / "tooth" / "entropy.zarr")
    assert probabilities.array.dtype == np.uint8
    record = json.loads((tmp_path / "tooth" / "segmentation.json").read_text())
    assert record["settings"]["temperature"] == 1.5


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("image=nothing.tif", "nothing.tif"),
        ("windows=panes", "panes"),
        ("overlap=1.5", "overlap 1.5"),
        ("windos=x", "windos"),
    ],
)
def test_a_bad_argument_ends_in_one_line_and_nothing_written(bundle, tomogram, tmp_path, override, said):
    done = run("segment", f"bundle={bundle}", f"image={tomogram}", f"out={tmp_path / 'out'}", override)
    assert done.returncode == 2
    assert said in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_many_tomograms_and_an_ensemble_go_through_one_command(bundle, tomogram, tmp_path):
    for name in ("a", "b"):
        write_volume(tmp_path / "in" / name / "image.tif", read_volume(tomogram))
    arguments = [f"bundle=[{bundle},{bundle}]", f"image='{tmp_path}/in/*/image.tif'", f"out={tmp_path}", "zarr=false"]
    done = run("segment", *arguments, "+postprocess=threshold", "fusion=gaussian", "mirror=b")
    assert done.returncode == 0, done.stderr
    assert (read_volume(tmp_path / "a.tif").array == read_volume(tmp_path / "b.tif").array).all()
    assert not (tmp_path / "a" / "labels.zarr").exists()
    stamp = (tmp_path / "a.tif").stat().st_mtime_ns
    again = run("segment", *arguments, "+postprocess=threshold", "fusion=gaussian", "mirror=b")
    assert "already" in again.stderr
    assert (tmp_path / "a.tif").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_a_raw_scan_becomes_labels_in_one_command(bundle, tmp_path):
    from omegaconf import OmegaConf

    from batseg.tomography.exchange import write_scan
    from batseg.tomography.scan import draw_conditions, simulate_scan

    labels = np.random.default_rng(0).integers(0, 4, (16, 48, 48)).astype(np.uint8)
    ranges = OmegaConf.to_container(OmegaConf.load(CONF / "scan" / "sample_real.yaml"))
    rng = np.random.default_rng(1)
    write_scan(tmp_path / "raw.h5", simulate_scan(labels, 61.0, draw_conditions(ranges, rng), rng))
    done = run("segment", f"bundle={bundle}", f"projections={tmp_path}/raw.h5", f"out={tmp_path}/out")
    assert done.returncode == 0, done.stderr
    assert read_volume(tmp_path / "out" / "raw.tif").shape == (16, 48, 48)
