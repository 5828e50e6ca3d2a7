"""The DataModule mixes its sources by count and is a pure function of seed, epoch and index."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torchio

from batseg.augmentation import AffineWarp, Flip, Noise
from batseg.subvolumes import find_pairs
from batseg.training.data import EpochOrder, SubvolumeDataModule, WaitingShare
from batseg.volumes import InputError, create_zarr, read_volume
from tests.training.conftest import toy_tomogram

AUGMENTATION = torchio.Compose([Flip(), AffineWarp(), Noise()], p=0.5)


def data(campaign, **settings) -> SubvolumeDataModule:
    sources = {name: str(campaign / name) for name in ("real", "synthetic")}
    fixed = {"counts": {"real": 6, "synthetic": 4}, "patch": (8, 16, 16), "batch_size": 2, "workers": 0}
    module = SubvolumeDataModule(**{"sources": sources, "augmentation": AUGMENTATION, **fixed, **settings})
    module.setup()
    return module


def epochs(module: SubvolumeDataModule, count: int = 2) -> list[torch.Tensor]:
    loader = module.train_dataloader()
    images = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        images.append(torch.cat([batch["image"] for batch in loader]))
    return images


def test_batches_have_the_promised_shapes_and_types(campaign):
    batch = next(iter(data(campaign).train_dataloader()))
    assert batch["image"].shape == (2, 1, 8, 16, 16)
    assert batch["image"].dtype == torch.float32
    assert batch["labels"].shape == (2, 8, 16, 16)
    assert batch["labels"].dtype == torch.int64


def test_sources_are_mixed_by_count(campaign):
    module = data(campaign)
    sources = [module.train.crop(0, index)[0].name for index in range(10)]
    assert ["real" in name for name in sources] == [True] * 6 + [False] * 4
    assert len({name for name in sources if "real" in name}) == 2


def test_a_source_with_count_zero_is_not_opened(campaign):
    sources = {"real": str(campaign / "real"), "synthetic": str(campaign / "missing")}
    assert len(data(campaign, sources=sources, counts={"real": 4, "synthetic": 0}).train) == 4


@pytest.mark.parametrize("settings", [{}, {"fresh": True, "class_aware": 0.5}])
def test_the_number_of_workers_changes_nothing(campaign, settings):
    alone, helped = (epochs(data(campaign, workers=workers, **settings)) for workers in (0, 2))
    for first, second in zip(alone, helped):
        assert torch.equal(first, second)


def test_a_fixed_pool_repeats_its_crops_and_a_fresh_one_does_not(campaign):
    fixed, fresh = data(campaign), data(campaign, fresh=True)
    assert fixed.train.crop(0, 3)[1] == fixed.train.crop(7, 3)[1]
    assert fresh.train.crop(0, 3)[1] != fresh.train.crop(7, 3)[1]


def test_the_augmentation_of_a_fixed_pool_varies_from_epoch_to_epoch(campaign):
    module = data(campaign, augmentation=Noise())
    assert not torch.equal(module.train[0, 3]["image"], module.train[1, 3]["image"])


def test_another_seed_gives_other_patches(campaign):
    first, second = (epochs(data(campaign, seed=seed), 1)[0] for seed in (0, 1))
    assert not torch.equal(first.sort(dim=0).values, second.sort(dim=0).values)


def test_an_epoch_visits_every_item_once_in_an_order_of_its_own():
    order = EpochOrder(10, 2, seed=0)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert sorted(first) == [(0, index) for index in range(10)]
    assert sorted(second) == [(1, index) for index in range(10)]
    assert [index for _, index in first] != [index for _, index in second]


def test_two_processes_share_each_global_batch():
    whole = list(EpochOrder(13, 4, seed=3))
    parts = [list(EpochOrder(13, 2, seed=3, process=process, processes=2)) for process in (0, 1)]
    assert len(whole) == 12
    for batch in range(3):
        assert whole[4 * batch : 4 * batch + 4] == [key for part in parts for key in part[2 * batch : 2 * batch + 2]]


def test_a_loader_goes_on_in_the_middle_of_an_epoch(campaign):
    module = data(campaign)
    loader = module.train_dataloader()
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    resumed = module.train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    rest, again = [batch["image"] for batch in batches], [batch["image"] for batch in resumed]
    assert len(rest) == 2
    assert all(torch.equal(first, second) for first, second in zip(rest, again))
    assert len(again) == 2
    assert len(list(resumed)) == 5


def test_validation_patches_come_from_slices_that_training_never_sees(campaign):
    module = data(campaign, validation_share=0.25)
    training = [volume.box for volumes, _ in module.train.sources for volume in volumes]
    judged = [volume.box for volumes, _ in module.judged.sources for volume in volumes]
    assert len(training) == len(judged) == 4
    assert all(kept[0] == slice(0, 24) and held[0] == slice(24, 32) for kept, held in zip(training, judged))


def test_validation_sources_leave_the_training_volumes_whole(campaign):
    module = data(campaign, validation={"judge": str(campaign / "evaluation")}, validation_count=3, batch_size=1)
    assert module.train.sources[0][0][0].shape == (32, 32, 32)
    assert len(list(module.val_dataloader())) == 3
    assert "evaluation" in module.judged.sources[0][0][0].name


def test_phase_fractions_are_weighted_by_count(campaign):
    fractions = data(campaign, counts={"real": 1, "synthetic": 999}, batch_size=1).phase_fractions
    labels = np.stack([toy_tomogram(seed)[1][:26] for seed in (2, 3)])
    expected = np.bincount(labels.ravel(), minlength=4) / labels.size
    np.testing.assert_allclose(fractions, expected, atol=1e-3)


def test_class_aware_crops_show_rare_phases_more_often(campaign):
    def share(class_aware):
        module = data(campaign, fresh=True, class_aware=class_aware, augmentation=None, patch=(4, 6, 6))
        patches = torch.cat([module.train[epoch, 0]["labels"] for epoch in range(100)])
        return float((patches == 3).float().mean())

    assert share(1.0) > 1.15 * share(0.0)


def test_chunked_volumes_on_disk_are_read_by_several_workers(campaign, tmp_path):
    pair = find_pairs(str(campaign / "real"))[0]
    image = read_volume(pair.images[0]).array
    store = create_zarr(tmp_path / "image.zarr", image.shape, "float32", 61.0, chunks=(8, 8, 8))
    store[:] = image
    sources = {"real": {"image": str(tmp_path / "image.zarr"), "labels": pair.labels}}
    settings = {"sources": sources, "counts": {"real": 6}, "workers": 2}
    from_disk = data(campaign, hold_gb=0.0, **settings)
    assert from_disk.train.sources[0][0][0].nbytes > 0
    assert torch.equal(epochs(from_disk, 1)[0], epochs(data(campaign, hold_gb=1.0, **settings), 1)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"counts": {"reel": 5}}, "counts must name sources"),
        ({"counts": {"real": 0}}, "at least one patch"),
        ({"patch": (16, 64, 64)}, "fits into"),
        ({"patch": (16, 64)}, "thin, a, b"),
        ({"voxel_nm": 27.5}, "resample"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(campaign, settings, message):
    with pytest.raises(InputError, match=message):
        data(campaign, **settings)


def test_more_patches_in_a_batch_than_there_are_is_refused(campaign):
    with pytest.raises(InputError, match="do not fill a batch"):
        data(campaign, batch_size=64).train_dataloader()


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 4, 1)

    def training_step(self, batch, index):
        return self.layer(batch["image"]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


def test_the_share_of_time_spent_waiting_is_logged(campaign):
    trainer = pl.Trainer(
        max_steps=3,
        accelerator="cpu",
        logger=False,
        callbacks=[WaitingShare()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(Recorder(), datamodule=data(campaign, validation_count=0))
    assert 0 < float(trainer.callback_metrics["data/waiting"]) < 1
