"""A training run that was cut off anywhere goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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


FAST = (2, 3, 5, 8, 11)
CUTS = [cut if cut in FAST else pytest.param(cut, marks=pytest.mark.slow) for cut in range(1, 12)]


@pytest.mark.parametrize("cut", CUTS)
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


ROOT = Path(__file__).resolve().parents[2]


def start(campaign, runs, *overrides, **environment) -> subprocess.Popen:
    """train.py on the toy campaign, in a process of its own."""
    folder = f"{campaign}/real/*"
    arguments = ["data=folder", f"images={folder}/image.tif", f"labels={folder}/labels.tif", f"runs={runs}"]
    arguments += ["data.patch=[8,16,16]", "data.validation_share=0", "width=1", "logger=csv", "name=toy", *overrides]
    arguments += ["trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "data.workers=0"]
    command = [sys.executable, "train.py", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, stderr=subprocess.PIPE, text=True
    )


def folder_of(runs: Path) -> Path:
    return next((runs / "fits").glob("toy-*"))


def wait_for(path: Path, run: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.time() + seconds
    while not list(path.parent.parent.glob(f"*/{path.name}")):
        assert run.poll() is None, run.stderr.read()
        assert time.time() < deadline, f"{path} never came"
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_any_moment_train_py_goes_on_to_the_same_weights(campaign, tmp_path):
    """SIGKILL three times at moments nobody chose, also in the middle of writing a checkpoint after every step."""
    steps = ("trainer.max_steps=150", "trainer.checkpoint_every=1")
    whole = start(campaign, tmp_path / "whole", *steps)
    assert whole.wait() == 0, whole.stderr.read()
    for delay in (0.3, 0.77, 1.1):
        cut = start(campaign, tmp_path / "cut", *steps)
        wait_for(tmp_path / "cut/fits/toy/last.ckpt", cut)
        time.sleep(delay)
        cut.send_signal(signal.SIGKILL)
        cut.wait()
        assert not (folder_of(tmp_path / "cut") / "fit.json").exists(), "the run ended before it was killed"
        time.sleep(0.2)
    last = start(campaign, tmp_path / "cut", *steps)
    assert last.wait() == 0, last.stderr.read()
    assert same(weights(folder_of(tmp_path / "cut")), weights(folder_of(tmp_path / "whole")))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_saves_the_running_step_and_stops(campaign, tmp_path, number):
    run = start(campaign, tmp_path, "trainer.max_steps=100000", "trainer.checkpoint_every=400")
    wait_for(tmp_path / "fits/toy/last.ckpt", run)
    before = torch.load(folder_of(tmp_path) / LAST, weights_only=True)["global_step"]
    run.send_signal(number)
    assert run.wait(60) == 128 + number
    after = torch.load(folder_of(tmp_path) / LAST, weights_only=True)["global_step"]
    assert f"{signal.Signals(number).name}: saved step {after}; resume=auto goes on from there" in run.stderr.read()
    assert after > before
