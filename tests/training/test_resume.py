"""A training run that was cut off anywhere goes on as if nothing had happened."""

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from batseg.networks.unet3d import UNet3D
from batseg.training.callbacks import FINAL, LAST
from batseg.training.fit import fit
from tests.training.conftest import tiny_data, tiny_module, tiny_trainer


class PowerCut(Exception):
    pass


class CutAfter(Callback):
    """Ends the run after a step, as SIGKILL would: nothing is saved on the way out."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_index) -> None:
        if trainer.global_step == self.step:
            raise PowerCut


class Dropout(UNet3D):
    def forward(self, image):
        return torch.nn.functional.dropout(super().forward(image), 0.2, self.training)


def weights(folder):
    return torch.load(folder / FINAL, weights_only=True)["state_dict"]


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def uninterrupted(campaign, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    fit(tiny_module(Dropout), tiny_data(campaign), tiny_trainer(folder, ema=0.9), folder, "auto")
    return weights(folder)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_run_cut_off_after_any_step_ends_with_the_same_weights(campaign, tmp_path, uninterrupted, cut):
    """Epochs of 4 steps, validation every 5, a checkpoint every 3: the cut falls between, on and beside all of them."""
    settings = {"ema": 0.9, "checkpoint_every": 3}
    cutting = tiny_trainer(tmp_path, callbacks=[CutAfter(cut)], **settings)
    with pytest.raises(PowerCut):
        fit(tiny_module(Dropout), tiny_data(campaign), cutting, tmp_path, "auto")
    assert (tmp_path / LAST).exists() == (cut >= 3)
    module = tiny_module(Dropout)
    if cut >= 3:
        torch.manual_seed(77)  # what the checkpoint carries must count, not the state of this process
    record = fit(module, tiny_data(campaign), tiny_trainer(tmp_path, **settings), tmp_path, "auto")
    assert record["steps"] == 12
    assert same(weights(tmp_path), uninterrupted)
