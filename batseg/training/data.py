"""LightningDataModule of the segmentation: patches from any mix of sources, the same whatever the number of workers."""

import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import get_all_start_methods

import numpy as np
import pytorch_lightning as lightning
import torch
import torchio
from torch.utils.data import DataLoader, Dataset, Sampler

from batseg.augmentation import augment
from batseg.progress import track
from batseg.subvolumes import Crop, LabelledVolume, check_voxel_sizes, find_pairs
from batseg.volumes import InputError

POOL, AUGMENTATION, ORDER, VALIDATION = range(4)
"""Streams of random numbers: item i of a stream draws from default_rng((seed, stream, ..., i))."""


class SubvolumeDataset(Dataset):
    """Patches keyed (epoch, index): a pure function of the seed and the key, so workers and restarts change nothing.

    Items 0..counts[0]-1 come from the first source and so on. A fixed pool repeats its crops each epoch and varies
    the augmentation; `fresh` draws new crops as well. `class_aware` is the share of crops drawn around a voxel of a
    phase, all phases equally likely. An item is {"image": (channel, thin, a, b) float32, "labels": int64}.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Sequence[LabelledVolume], int]],
        patch: Sequence[int],
        seed: int,
        augmentation: torchio.Transform | None = None,
        stream: int = POOL,
        fresh: bool = False,
        class_aware: float = 0.0,
        min_labelled: float = 0.5,
    ):
        self.sources, self.patch, self.seed, self.augmentation = sources, tuple(patch), seed, augmentation
        self.stream, self.fresh, self.class_aware, self.min_labelled = stream, fresh, class_aware, min_labelled
        self.ends = np.cumsum([count for _, count in sources])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def crop(self, epoch: int, index: int) -> tuple[LabelledVolume, Crop]:
        """The volume and the crop of an item."""
        rng = np.random.default_rng((self.seed, self.stream, epoch if self.fresh else 0, index))
        volumes, _ = self.sources[int(np.searchsorted(self.ends, index, side="right"))]
        voxels = np.array([volume.counts.sum() for volume in volumes], float)
        volume = volumes[rng.choice(len(volumes), p=voxels / voxels.sum())]
        around = rng.random() < self.class_aware
        present = np.flatnonzero(volume.counts)
        phase = int(rng.choice(present)) if around else None
        return volume, volume.draw(self.patch, rng, phase, self.min_labelled)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = key
        volume, crop = self.crop(epoch, index)
        image, labels = volume.read(crop)
        item = {
            "image": torch.from_numpy(np.ascontiguousarray(image)),
            "labels": torch.from_numpy(np.ascontiguousarray(labels)),
        }
        if self.augmentation is not None:
            rng = np.random.default_rng((self.seed, AUGMENTATION, epoch, index))
            item = augment(self.augmentation, item, rng)
        return {"image": item["image"].contiguous(), "labels": item["labels"].long()}


class EpochOrder(Sampler):
    """Keys (epoch, index) of this process in the epoch's order, shuffled by (seed, epoch).

    A global batch is `batch_size * processes` consecutive items of the order; process r takes its r-th part, so that
    the same global batch is seen whatever the number of processes. Items that fill no batch are left out.
    """

    def __init__(self, length: int, batch_size: int, seed: int, process: int = 0, processes: int = 1, shuffle=True):
        self.length, self.batch_size, self.seed, self.shuffle = length, batch_size, seed, shuffle
        self.process, self.processes = process, processes
        self.epoch = self.first_batch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @property
    def batches(self) -> int:
        return self.length // (self.batch_size * self.processes)

    def __len__(self) -> int:
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self.seed, ORDER, self.epoch))
        order = rng.permutation(self.length) if self.shuffle else np.arange(self.length)
        first, self.first_batch = self.first_batch, 0
        step = self.batch_size * self.processes
        for batch in range(first, self.batches):
            start = batch * step + self.process * self.batch_size
            for index in order[start : start + self.batch_size]:
                yield self.epoch, int(index)


class ResumableLoader(DataLoader):
    """A DataLoader that measures how long it is waited for, and that Lightning can resume in the middle of an epoch.

    `waited_s` is the time spent in waiting for batches since the loader was made.
    """

    waited_s = 0.0
    delivered = 0

    def __iter__(self) -> Iterator:
        self.delivered = self.sampler.first_batch  # not zero after load_state_dict
        batches = None
        while True:
            start = time.perf_counter()
            batches = batches if batches is not None else super().__iter__()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - start
            if batch is None:
                return
            self.delivered += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"delivered": self.delivered}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Start the next pass after the batches delivered so far; after a whole epoch, at the beginning."""
        self.sampler.first_batch = state["delivered"] % max(self.sampler.batches, 1)


class WaitingShare(lightning.Callback):
    """Logs `data/waiting`, the share of the training time since the start or the resumption spent waiting for data.

    Validation is left out.
    """

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.start, self.excluded, self.waited = time.perf_counter(), 0.0, _waited_s(trainer)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        elapsed = time.perf_counter() - self.start - self.excluded
        module.log("data/waiting", (_waited_s(trainer) - self.waited) / elapsed)

    def on_validation_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.begin = time.perf_counter()

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.excluded += time.perf_counter() - self.begin


def _waited_s(trainer: lightning.Trainer) -> float:
    return sum(getattr(loader, "waited_s", 0.0) for loader in trainer.fit_loop._combined_loader.flattened)


class SubvolumeDataModule(lightning.LightningDataModule):
    """Learning data from any sources, mixed by count.

    Parameters
    ----------
    sources, counts: {name: source} as `find_pairs` takes them, and {name: patches in an epoch}; a source with count 0
        is not opened. `validation`: sources of validation patches; without them the last `validation_share` of each
        training volume along its longest axis is kept for validation.
    patch: (thin, a, b) voxels. batch_size: patches in a step, all processes together.
    augmentation: torchio transform (or None), applied to each training patch.
    voxel_nm: voxel size of volumes that carry none; all must agree.
    fresh, class_aware, min_labelled: see SubvolumeDataset and LabelledVolume.draw.
    hold_gb: chunked volumes are held in memory as long as this budget lasts; the others are read from disk.

    After `setup`: `voxel_nm`, `channels` and `phase_fractions` (of the training patches' sources, weighted by count).
    Use it with `Trainer(use_distributed_sampler=False)`.
    """

    def __init__(
        self,
        sources: Mapping[str, object],
        counts: Mapping[str, int],
        patch: Sequence[int],
        batch_size: int = 1,
        augmentation: torchio.Transform | None = None,
        validation: Mapping[str, object] | None = None,
        validation_share: float = 0.2,
        validation_count: int = 32,
        label_map: Mapping[int, str] | None = None,
        voxel_nm: float | None = None,
        seed: int = 0,
        workers: int = 1,
        fresh: bool = False,
        class_aware: float = 0.0,
        min_labelled: float = 0.5,
        hold_gb: float = 1.0,
    ):
        super().__init__()
        unknown = [name for name in counts if name not in sources]
        if unknown or not any(counts.values()) or min(counts.values()) < 0:
            raise InputError(f"counts must name sources ({', '.join(sources)}) with at least one patch, got {counts}")
        if len(patch) != 3 or min(patch) < 1:
            raise InputError(f"patch must be (thin, a, b) in voxels, got {tuple(patch)}")
        self.sources = {name: sources[name] for name, count in counts.items() if count}
        self.counts = {name: count for name, count in counts.items() if count}
        self.patch, self.batch_size, self.augmentation = tuple(patch), batch_size, augmentation
        self.validation, self.validation_share, self.validation_count = validation, validation_share, validation_count
        self.label_map, self.voxel_nm, self.seed, self.workers = label_map, voxel_nm, seed, workers
        self.crops = {"fresh": fresh, "class_aware": class_aware, "min_labelled": min_labelled}
        self.hold_gb = hold_gb
        self.train: SubvolumeDataset | None = None
        self.judged: SubvolumeDataset | None = None

    def setup(self, stage: str | None = None) -> None:
        """Find, check and survey all volumes; runs once."""
        if self.train is not None:
            return
        budget = self.hold_gb * 2**30
        volumes = {name: self._open(source) for name, source in self.sources.items()}
        judged = [volume for source in (self.validation or {}).values() for volume in self._open(source)]
        everything = [volume for several in volumes.values() for volume in several] + judged
        self.voxel_nm = check_voxel_sizes(everything, self.voxel_nm)
        self.channels = len(everything[0].scales)
        for volume in everything:
            if len(volume.scales) != self.channels:
                raise InputError(f"{volume.name}: {len(volume.scales)} image channels, expected {self.channels}")
            if volume.nbytes <= budget:
                budget -= volume.nbytes
                volume.hold()
        if not judged and self.validation_share > 0:
            halves = {name: [volume.parts(self.validation_share) for volume in vs] for name, vs in volumes.items()}
            volumes = {name: [first for first, _ in several] for name, several in halves.items()}
            judged = [second for several in halves.values() for _, second in several]
            judged = [volume for volume in judged if volume.thin_axes(self.patch)]
        for several in volumes.values():
            for volume in several:
                volume.draw(self.patch, np.random.default_rng(0))  # refuses a patch that does not fit
        mix = [(several, self.counts[name]) for name, several in volumes.items()]
        self.train = SubvolumeDataset(mix, self.patch, self.seed, self.augmentation, **self.crops)
        if judged and self.validation_count:
            self.judged = SubvolumeDataset([(judged, self.validation_count)], self.patch, self.seed, stream=VALIDATION)

    @property
    def phase_fractions(self) -> np.ndarray:
        """Expected fraction of each phase among the labelled voxels of the training patches; sums to 1."""
        total = np.zeros(4)
        for volumes, count in self.train.sources:
            counts = np.sum([volume.counts for volume in volumes], axis=0)
            total += count * counts / counts.sum()
        return total / total.sum()

    def train_dataloader(self) -> ResumableLoader:
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> ResumableLoader | list:
        return [] if self.judged is None else self._loader(self.judged, shuffle=False)

    def _open(self, source: object) -> list[LabelledVolume]:
        pairs = find_pairs(source, self.label_map)
        return [LabelledVolume(pair) for pair in (track(pairs, "surveying learning data") if len(pairs) > 4 else pairs)]

    def _loader(self, dataset: SubvolumeDataset, shuffle: bool) -> ResumableLoader:
        return make_loader(dataset, self.batch_size, self.seed, self.workers if shuffle else 0, self.trainer, shuffle)


def make_loader(
    dataset: Dataset, batch_size: int, seed: int, workers: int, trainer: lightning.Trainer | None, shuffle: bool = True
) -> ResumableLoader:
    """A loader of keyed items; `batch_size` counts all processes of the trainer together."""
    processes, process = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
    if batch_size % processes:
        raise InputError(f"batch_size {batch_size} must be a multiple of the {processes} processes")
    if len(dataset) < batch_size:
        raise InputError(f"{len(dataset)} patches do not fill a batch of {batch_size}; lower data.batch_size")
    own = batch_size // processes
    fork = (
        "fork" if workers and "fork" in get_all_start_methods() else None
    )  # within a job of joblib, which has its own
    order = EpochOrder(len(dataset), own, seed, process, processes, shuffle)
    return ResumableLoader(
        dataset,
        own,
        sampler=order,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
        multiprocessing_context=fork,
        generator=torch.Generator(),  # without one each pass draws from the state that a network's dropout uses
    )
