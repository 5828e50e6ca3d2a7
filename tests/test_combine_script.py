import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from batseg.command import CONF
from batseg.inference import predict
from batseg.inference.bundle import load_bundle, save_bundle
from batseg.networks.unet3d import UNet3D
from batseg.normalisation import normalise
from batseg.volumes import Volume, read_image, read_labels, write_volume

SHAPE = (24, 48, 48)


def combine(*overrides: str) -> subprocess.CompletedProcess:
    script = str(CONF.parent / "scripts" / "combine.py")
    return subprocess.run([sys.executable, script, *overrides], capture_output=True, text=True, check=False)


def bundle(path: Path, channels: int) -> Path:
    network = {"_target_": "batseg.networks.unet3d.UNet3D", "in_channels": channels, "width": 2, "pooling": "isotropic"}
    torch.manual_seed(channels)
    weights = UNet3D(in_channels=channels, width=2, pooling="isotropic").state_dict()
    return save_bundle(path, [weights], network, {"window": [16, 16, 16], "windows": "planes"})


@pytest.fixture
def contrasts(tmp_path):
    """Arguments that name an absorption and a density tomogram of one sample, PXCT ending before the rim."""
    field = gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 2.5)
    labels = np.digitize(field / field.std(), (0, 0.8, 1.4)).astype(np.uint8)
    noise = np.random.default_rng(1).standard_normal((2, *SHAPE))
    density = gaussian_filter(np.array([0, 0.61, 0.65, 0.8])[labels], 0.6) + 0.02 * noise[0]
    density[:, :6], density[:, -6:] = 0, 0
    absorption = gaussian_filter(np.array([0, 20.0, 85.0, 120.0])[labels], 0.7) + 10 * noise[1]
    write_volume(tmp_path / "xtm.tif", Volume(absorption.astype(np.float32), 61.0))
    write_volume(tmp_path / "pxct.tif", Volume(density.astype(np.float32), 61.0))
    write_volume(tmp_path / "truth.tif", Volume(labels, 61.0))
    return [f"{name}={tmp_path}/{name}.tif" for name in ("xtm", "pxct", "truth")]


@pytest.mark.slow
def test_a_network_of_both_contrasts_takes_the_place_of_the_thresholds(tmp_path, contrasts):
    plain = combine(*contrasts, f"out={tmp_path}/plain")
    assert plain.returncode == 0, plain.stderr
    path = bundle(tmp_path / "two.pt", 2)
    done = combine(*contrasts, f"out={tmp_path}/network", f"bundle={path}")
    assert done.returncode == 0, done.stderr
    thresholds, labels = (read_labels(tmp_path / name / "labels.tif").array for name in ("plain", "network"))
    inside = thresholds != 255
    assert 0.5 < inside.mean() < 0.8
    assert np.array_equal(inside, labels != 255)
    images = [read_image(path).array for path in (tmp_path / "xtm.tif", tmp_path / "network" / "density.tif")]
    image = np.stack([normalise(np.where(inside, each, 0), inside) for each in images])
    expected = predict(load_bundle(path).networks, image, (16, 16, 16), windows="planes", mask=inside).labels
    assert (labels == expected).mean() > 0.999
    record = json.loads((tmp_path / "network" / "combine.json").read_text())
    assert record["bundle"] == load_bundle(path).digest
    assert set(record["dice"]) == {"pore", "graphite", "silicon", "cbd"}


def test_a_network_of_one_channel_is_refused_in_one_line(tmp_path, contrasts):
    done = combine(*contrasts, f"out={tmp_path}/out", f"bundle={bundle(tmp_path / 'one.pt', 1)}")
    assert done.returncode == 2
    assert "1 channel" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
