"""A tiny campaign and the parts of a tiny fit, for the tests of the wiring."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from scipy.ndimage import gaussian_filter

from batseg.networks.losses import CrossEntropy
from batseg.networks.unet3d import UNet3D
from batseg.training.data import SubvolumeDataModule
from batseg.training.fit import make_trainer
from batseg.training.segmentation import SegmentationModule
from batseg.volumes import Volume, write_volume


def toy_tomogram(seed: int, edge: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Image (float32) and labels (uint8) of smooth blobs of all four phases."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal((edge,) * 3), 3, mode="wrap")
    labels = np.digitize(field, np.quantile(field, [0.5, 0.8, 0.9])).astype(np.uint8)
    return (labels + 0.3 * rng.standard_normal(labels.shape)).astype(np.float32), labels


def write_campaign(root: Path) -> Path:
    """Two real, two synthetic tomograms and one evaluation tomogram of 32^3, in the campaign's folder layout."""
    names = ["real/a", "real/b", "synthetic/a", "synthetic/b", "evaluation/a"]
    for seed, name in enumerate(names):
        image, labels = toy_tomogram(seed)
        write_volume(root / name / "image.tif", Volume(image, 61.0))
        write_volume(root / name / "labels.tif", Volume(labels, 61.0))
    return root


@pytest.fixture(scope="session")
def campaign(tmp_path_factory) -> Path:
    return write_campaign(tmp_path_factory.mktemp("campaign"))


def tiny_module(kind=UNet3D, steps: int = 12, lr: float = 1e-3) -> SegmentationModule:
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=lr)
    schedule = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=lr, total_steps=steps)
    return SegmentationModule(kind(width=2, norm="batch_fast"), CrossEntropy(), optimizer, schedule)


def tiny_data(campaign: Path, patches: int = 8, batch_size: int = 2, **settings) -> SubvolumeDataModule:
    return SubvolumeDataModule(
        {"real": str(campaign / "real")},
        {"real": patches},
        patch=(8, 16, 16),
        batch_size=batch_size,
        validation_share=0.25,
        validation_count=2,
        **{"workers": 0, **settings},
    )


def tiny_trainer(folder: Path, steps: int = 12, **settings) -> pl.Trainer:
    defaults = {"val_check_interval": 5, "check_val_every_n_epoch": None, "log_every_n_steps": 1}
    fixed = {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False}
    return make_trainer(folder, max_steps=steps, **{**fixed, **defaults, **settings})
