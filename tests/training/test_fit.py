"""Fitting: it learns, keeps what it should, and fails in a line."""

import pytest
import torch

from batseg.inference.bundle import save_bundle
from batseg.networks.unet3d import UNet3D
from batseg.training.callbacks import BEST, FINAL, LAST, AtomicCheckpoints
from batseg.training.fit import fit, is_out_of_memory, load_weights, make_trainer, start_from, use_cores
from batseg.training.loggers import CsvMetrics, read_metrics
from batseg.volumes import InputError
from tests.training.conftest import tiny_data, tiny_module, tiny_trainer


def test_a_fit_learns_and_leaves_weights_metrics_and_a_record(campaign, tmp_path):
    trainer = tiny_trainer(tmp_path, steps=30, loggers=[CsvMetrics(tmp_path)], monitor="validation/dice")
    module = tiny_module(steps=30, lr=2e-2)
    record = fit(module, tiny_data(campaign, patches=60), trainer, tmp_path, "auto")
    losses = [row["train/loss"] for row in read_metrics(tmp_path / "metrics.csv").values() if "train/loss" in row]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert record["steps"] == 30
    assert {"data/waiting", "time/step_s", "validation/dice", "validation/dice_cbd"} <= record["metrics"].keys()
    assert all((tmp_path / name).exists() for name in (LAST, FINAL, BEST, "fit.json"))
    network = load_weights(UNet3D(width=2), tmp_path)
    image = torch.randn(1, 1, 8, 16, 16)
    assert torch.allclose(network(image), module.network.eval()(image), atol=1e-6)


def test_the_class_weights_come_from_the_learning_data(campaign, tmp_path):
    module = tiny_module(steps=1)
    data = tiny_data(campaign)
    fit(module, data, tiny_trainer(tmp_path, steps=1), tmp_path, "auto")
    expected = data.phase_fractions**-0.5
    assert module.loss.weights.tolist() == pytest.approx((expected / expected.mean()).tolist(), rel=1e-4)


def test_averaged_weights_lag_behind_and_are_the_result(campaign, tmp_path):
    results = {}
    for ema in (None, 0.5):
        folder = tmp_path / str(ema)
        module = tiny_module(steps=3)
        fit(module, tiny_data(campaign), tiny_trainer(folder, steps=3, ema=ema), folder, "auto")
        results[ema] = torch.load(folder / FINAL, weights_only=True)["state_dict"]
        assert torch.equal(results[ema]["network.head.0.weight"], module.network.head[0].weight)
    assert not torch.equal(results[None]["network.head.0.weight"], results[0.5]["network.head.0.weight"])


def test_a_training_starts_from_a_bundle_or_a_fit_of_the_same_network(campaign, tmp_path):
    module = tiny_module(steps=2)
    fit(module, tiny_data(campaign), tiny_trainer(tmp_path, steps=2), tmp_path, "auto")
    settings = {"_target_": "batseg.networks.unet3d.UNet3D", "width": 2}
    bundle = save_bundle(tmp_path / "b.pt", [module.network.state_dict()], settings, {"window": [8, 16, 16]})
    image = torch.randn(1, 1, 8, 16, 16)
    for source in (tmp_path, bundle):
        network = start_from(UNet3D(width=2), source).eval()
        assert torch.allclose(network(image), module.network.eval()(image), atol=0.02)
        with pytest.raises(InputError, match="another network"):
            start_from(UNet3D(width=4), source)
    with pytest.raises(InputError, match="not a finished fit"):
        start_from(UNet3D(width=2), campaign)


def test_never_resuming_begins_anew(campaign, tmp_path):
    for _ in range(2):
        record = fit(tiny_module(steps=2), tiny_data(campaign), tiny_trainer(tmp_path, steps=2), tmp_path, "never")
    assert record["steps"] == 2


def test_a_checkpoint_cut_off_in_the_middle_leaves_the_one_before(tmp_path, monkeypatch):
    saver, path = AtomicCheckpoints(), tmp_path / LAST
    saver.save_checkpoint({"step": 1}, path)

    def fail(_content, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        saver.save_checkpoint({"step": 2}, path)
    assert saver.load_checkpoint(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == [LAST]


class Hungry(UNet3D):
    def forward(self, image):
        return torch.empty(1 << 60)


def test_out_of_memory_ends_in_a_line_that_names_the_knobs(campaign, tmp_path):
    with pytest.raises(ValueError, match=r"lower data.batch_size, data.patch or width .*plan.py") as caught:
        fit(tiny_module(Hungry), tiny_data(campaign), tiny_trainer(tmp_path), tmp_path, "auto")
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_missing_memory():
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_a_cpu_trains_in_single_precision(tmp_path):
    assert make_trainer(tmp_path, max_steps=1, accelerator="cpu").precision == "32-true"


def test_threads_follow_the_environment(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert use_cores() == 1 == torch.get_num_threads()
    torch.set_num_threads(before)
