"""Patches for the style transfer: basic structures and templates, unpaired, fully labelled, new ones in every epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as lightning
import torch
import torchio
from torch import Tensor
from torch.utils.data import Dataset

from batseg.augmentation import augment
from batseg.phases import NOT_LABELLED
from batseg.subvolumes import LabelledVolume, check_voxel_sizes, find_pairs
from batseg.training.data import ResumableLoader, make_loader
from batseg.volumes import InputError

BASIC, TEMPLATES = range(10, 12)
"""Streams of random numbers, beside those of batseg.training.data."""


class StyleDataset(Dataset):
    """Pairs of unrelated label patches keyed (epoch, index): {"basic": ..., "templates": ...}, int64, fully labelled.

    A thin side of 1 is dropped: slices are (y, x). `axes` are the axes along which the first side may lie.
    """

    def __init__(
        self,
        volumes: Mapping[str, Sequence[LabelledVolume]],
        count: int,
        patch: Sequence[int],
        seed: int,
        augmentation: torchio.Transform | None = None,
        axes: Sequence[int] = (0, 1, 2),
    ):
        self.volumes, self.count, self.patch, self.seed = volumes, count, tuple(patch), seed
        self.augmentation, self.axes = augmentation, tuple(axes)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        return {
            side: self._patch(side, np.random.default_rng((self.seed, stream, *key)))
            for side, stream in (("basic", BASIC), ("templates", TEMPLATES))
        }

    def _patch(self, side: str, rng: np.random.Generator) -> Tensor:
        volumes = self.volumes[side]
        voxels = np.array([volume.counts.sum() for volume in volumes], float)
        for _ in range(200):
            volume = volumes[rng.choice(len(volumes), p=voxels / voxels.sum())]
            image, labels = volume.read(volume.draw(self.patch, rng, labelled=0.99, axes=self.axes))
            if not (labels == NOT_LABELLED).any():
                break
        else:
            raise InputError(f"{side}: no fully labelled patch of {self.patch} voxels found; use a smaller data.patch")
        item = {"image": torch.from_numpy(image), "labels": torch.from_numpy(np.ascontiguousarray(labels))}
        if self.augmentation is not None:
            item = augment(self.augmentation, item, rng)
        labels = item["labels"].long()
        return labels[0] if self.patch[0] == 1 else labels


class StyleDataModule(lightning.LightningDataModule):
    """Patches of basic structures and of templates, unpaired, `count` of each in an epoch, new ones in every epoch.

    basic, templates: sources as `find_pairs` takes them, of which only the labels are read; 3D label volumes and single
    slices both serve. patch: (1, a, b) for slices, (a, b, c) for volumes.
    """

    def __init__(
        self,
        basic: object,
        templates: object,
        patch: Sequence[int],
        count: int = 1000,
        batch_size: int = 1,
        augmentation: torchio.Transform | None = None,
        axes: Sequence[int] = (0, 1, 2),
        label_map: Mapping[int, str] | None = None,
        voxel_nm: float | None = None,
        seed: int = 0,
        workers: int = 1,
    ):
        super().__init__()
        self.sources = {"basic": basic, "templates": templates}
        self.patch, self.count, self.batch_size, self.axes = tuple(patch), count, batch_size, axes
        self.augmentation, self.label_map, self.voxel_nm = augmentation, label_map, voxel_nm
        self.seed, self.workers = seed, workers
        self.train: StyleDataset | None = None

    def setup(self, stage: str | None = None) -> None:
        if self.train is not None:
            return
        volumes = {}
        for side, source in self.sources.items():
            source = {"folder": source, "labels": "labels"} if isinstance(source, (str, Path)) else source
            pairs = find_pairs(source, self.label_map)
            volumes[side] = [LabelledVolume(pair) for pair in pairs]
        self.voxel_nm = check_voxel_sizes([volume for several in volumes.values() for volume in several], self.voxel_nm)
        self.train = StyleDataset(volumes, self.count, self.patch, self.seed, self.augmentation, self.axes)
        self.train[0, 0]  # refuses patches that do not fit

    def train_dataloader(self) -> ResumableLoader:
        return make_loader(self.train, self.batch_size, self.seed, self.workers, self.trainer)
