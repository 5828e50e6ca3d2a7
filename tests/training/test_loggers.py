"""The CSV of a run survives a restart; wandb never costs a run."""

import pytest

from batseg.training.loggers import CsvMetrics, Wandb, has_wandb_key, read_metrics


def test_a_resumed_run_goes_on_after_its_checkpoint_and_forgets_what_came_later(tmp_path):
    first = CsvMetrics(tmp_path)
    for step in (5, 10, 15):
        first.log_metrics({"train/loss": 1 / step}, step)
    first.save()
    second = CsvMetrics(tmp_path)  # from the checkpoint at step 8
    second.log_metrics({"train/loss": 0.5, "validation/dice": 0.3}, 9)
    second.save()
    assert read_metrics(tmp_path / "metrics.csv") == {
        5: {"train/loss": 0.2},
        9: {"train/loss": 0.5, "validation/dice": 0.3},
    }


def test_numbers_of_one_step_share_a_row(tmp_path):
    logger = CsvMetrics(tmp_path)
    logger.log_metrics({"a": 1.0}, 3)
    logger.log_metrics({"b": 2.0}, 3)
    logger.save()
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["step,a,b", "3,1.0,2.0"]


def test_wandb_is_offline_without_a_key(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not has_wandb_key()
    assert Wandb(tmp_path)._offline
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password 0123\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_wandb_key()
    assert not Wandb(tmp_path)._offline


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="auto, online or offline"):
        Wandb(tmp_path, mode="on")


@pytest.mark.slow
def test_a_run_that_cannot_go_online_is_logged_offline(tmp_path, monkeypatch):
    """Nothing listens at the address: wandb's own error must not end the training."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "5")
    logger = Wandb(tmp_path, mode="online")
    logger.log_metrics({"loss": 1.0}, 1)
    assert logger._offline
    logger.finalize("success")
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
