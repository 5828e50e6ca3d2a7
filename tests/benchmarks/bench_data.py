"""Learning data beside torchio's own transforms, and the style transfer's training loop beside bare networks."""

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchio
from scipy.ndimage import gaussian_filter

from batseg.augmentation import AffineWarp, Blur, Contrast, Flip, Noise
from batseg.networks.cyclegan import Generator, PatchCritic, one_hot
from batseg.networks.losses import CrossEntropy
from batseg.networks.unet3d import UNet3D
from batseg.training.data import SubvolumeDataModule, WaitingShare
from batseg.training.fit import fit, make_trainer
from batseg.training.segmentation import SegmentationModule
from batseg.training.style import StyleModule
from batseg.training.style_data import StyleDataModule
from batseg.volumes import Volume, write_volume
from tests.benchmarks import Row

PATCH, WIDTH, BATCH = (16, 64, 64), 8, 2  # scale=laptop
OURS = (Flip(), AffineWarp(), Blur(), Contrast(), Noise())
PEER = (
    torchio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5),
    torchio.RandomAffine(scales=0.1, degrees=15),
    torchio.RandomBlur(1.2),
    torchio.RandomGamma(0.25),
    torchio.RandomNoise(std=(0, 0.15)),
)


def core_seconds(function: Callable[[], object], repeats: int) -> float:
    """User and system seconds of one call, over all threads: what a busy machine does not distort."""
    function()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(repeats):
        function()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / repeats


def tomogram(folder: Path, edge: int = 96) -> None:
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.standard_normal((edge,) * 3), 3)
    labels = np.digitize(field, np.quantile(field, [0.5, 0.85, 0.92])).astype(np.uint8)
    write_volume(folder / "image.tif", Volume((labels + rng.standard_normal(labels.shape)).astype(np.float32), 61.0))
    write_volume(folder / "labels.tif", Volume(labels, 61.0))


def data(root: Path, transforms, patches: int = 1000, workers: int = 1) -> SubvolumeDataModule:
    augmentation = torchio.Compose(transforms, p=0.5) if transforms else None
    module = SubvolumeDataModule(
        {"real": str(root)}, {"real": patches}, PATCH, BATCH, augmentation, workers=workers, validation_count=0
    )
    module.setup()
    return module


def segmentation() -> SegmentationModule:
    return SegmentationModule(UNet3D(width=WIDTH), CrossEntropy(), partial(torch.optim.AdamW, lr=1e-3), None)


def rows() -> Iterator[Row]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tomogram(root / "real" / "a")
        yield from augmentation_rows(root / "real")
        yield waiting_row(root)
        yield from style_rows(root)


def augmentation_rows(root: Path) -> Iterator[Row]:
    costs = {}
    for kind, transforms in (("none", None), ("ours", OURS), ("torchio", PEER)):
        dataset = data(root, transforms).train
        keys = iter(range(10**6))
        costs[kind] = core_seconds(lambda dataset=dataset, keys=keys: dataset[0, next(keys) % 1000], 100)
    module = segmentation()
    batch = {"image": torch.randn(BATCH, 1, *PATCH), "labels": torch.randint(0, 4, (BATCH, *PATCH))}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        module.loss(module(batch["image"]), batch["labels"]).backward()
        optimizer.step()

    network = core_seconds(step, 5)
    ours, theirs = (BATCH * (costs[kind] - costs["none"]) for kind in ("ours", "torchio"))
    share = 100 * ours / (network + BATCH * costs["ours"])
    note = f"core-seconds; {share:.1f} % of a step of width {WIDTH} ({network:.2f} s), target 15 %"
    yield Row("augment a batch of 2 x 16 x 64 x 64", ours, "torchio's transforms", theirs, note)
    yield Row("read a patch (crop, normalise)", costs["none"], note="core-seconds")


def waiting_row(root: Path, steps: int = 12) -> Row:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    trainer = make_trainer(root / "fit", steps, accelerator="cpu", devices=1, use_distributed_sampler=False)
    assert any(isinstance(callback, WaitingShare) for callback in trainer.callbacks)
    record = fit(segmentation(), data(root / "real", OURS), trainer, root / "fit", "never")
    waiting, seconds = record["metrics"]["data/waiting"], record["metrics"]["time/step_s"]
    torch.set_num_threads(1)
    return Row("training step with one worker", seconds, note=f"waits for data {100 * waiting:.1f} %, target 5 %")


def style_rows(root: Path) -> Iterator[Row]:
    """Seconds per batch in our loop, against forward and backward passes of the same networks and nothing else."""
    for side in ("basic", "templates"):
        tomogram(root / "style" / side / "a")
    generators = [Generator(2, width=12, downs=1, blocks=3) for _ in range(2)]
    critics = [PatchCritic(width=24, layers=2) for _ in range(2)]
    weights = {"cycle": 2.0, "identity": 1.0, "fraction": 20.0, "keep": 2.0, "statistics": 0.0}
    patch, batch, steps = (1, 48, 48), 4, 30
    module = StyleModule(*generators, *critics, partial(torch.optim.Adam, lr=1e-4), patch, weights)
    sources = {side: str(root / "style" / side) for side in ("basic", "templates")}
    patches = StyleDataModule(**sources, patch=patch, count=1000, batch_size=batch, workers=0)
    settings = {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False, "limit_val_batches": 0}
    folder = root / "style" / "fit"
    maps = one_hot(torch.randint(0, 4, (batch, *patch[1:])))

    def bare() -> None:
        for generator in generators:  # generated, identity, and cycle, whose input has gradients too
            inputs = maps, maps, maps.clone().requires_grad_()
            sum(generator(each).mean() for each in inputs).backward()
        for critic in critics:  # the generators' loss (input gradients only), then real and generated
            for parameter in critic.parameters():
                parameter.requires_grad_(False)
            critic(maps.clone().requires_grad_()).mean().backward()
            for parameter in critic.parameters():
                parameter.requires_grad_(True)
            (critic(maps).mean() + critic(maps).mean()).backward()

    def trained_s(batches: int) -> float:
        before = time.process_time()
        fit(module, patches, make_trainer(folder, 2 * batches, checkpoint_every=10**6, **settings), folder, "never")
        return time.process_time() - before

    trained_s(2)  # the first fit pays for imports
    ours = (trained_s(4 * steps) - trained_s(steps)) / (3 * steps)  # without what beginning and ending take
    plain = core_seconds(bare, 20)
    note = f"core-seconds, data included; {100 * (ours / plain - 1):.0f} % over bare passes, target 10 %"
    yield Row("style: batch of 4 x 48 x 48", ours, "bare forward and backward", plain, note)
