"""The sample campaign and the page about finished rows."""

import json
import runpy
import sys

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from batseg.command import CONF
from batseg.training.sample import make_sample
from batseg.volumes import Volume, read_image, read_labels, write_json, write_volume


def settings(folder, **changes) -> dict:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        cfg = compose("make_sample", [f"sample.folder={folder}"]).sample
    cfg = OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["real", "evaluation", "synthetic"]))
    for part in cfg.values():
        part |= {"count": 1, "shape": [16, 40, 40], "diameter_px": part["diameter_px"] and 30}
    return (
        cfg
        | {"folder": folder, "voxel_nm": 61.0, "seed": 0, "workers": 1, "style": {}, "images": {"image": {}}}
        | changes
    )


@pytest.mark.slow
def test_a_campaign_is_made_once_and_depends_on_its_seed_alone(tmp_path):
    first, again = tmp_path / "a", tmp_path / "b"
    make_sample(**settings(first, variants=["synthetic_no_style"]))
    make_sample(**settings(again, variants=["synthetic_no_style"], workers=2))
    for part in ("real", "evaluation", "synthetic_no_style"):
        images = [read_image(folder / part / "0" / "image.tif").array for folder in (first, again)]
        np.testing.assert_array_equal(*images)
        assert read_labels(first / part / "0" / "labels.tif").shape == images[0].shape
    assert (read_labels(first / "real/0/labels.tif").array == 255).any()  # a cylinder
    assert not (read_labels(first / "synthetic_no_style/0/labels.tif").array == 255).any()  # a cube
    stamp = (first / "real/0/image.tif").stat().st_mtime_ns
    make_sample(**settings(first, variants=["synthetic_no_style"]))
    assert (first / "real/0/image.tif").stat().st_mtime_ns == stamp


def test_an_unknown_variant_is_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="synthetic_blue"):
        make_sample(**settings(tmp_path / "c", variants=["synthetic_blue"]))
    assert not (tmp_path / "c").exists()


def finished_row(runs, name: str, dice: float) -> None:
    """A row as train.py leaves it, with 8x8x8 labels."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (8, 24, 24)).astype(np.uint8)
    write_volume(runs / "image.tif", Volume(rng.normal(size=truth.shape).astype(np.float32) + truth, 61.0))
    for path in (runs / "truth.tif", runs / "rows" / name / "seed0" / "labels.tif"):
        write_volume(path, Volume(truth, 61.0))
    fit = runs / "fits" / name
    fit.mkdir(parents=True)
    (fit / "metrics.csv").write_text("step,train/loss\n1,2.0\n2,1.0\n")
    scores = dict.fromkeys(("pore", "graphite", "silicon", "cbd"), dice)
    volume = {"image": str(runs / "image.tif"), "truth": str(runs / "truth.tif"), "labels": "labels.tif"}
    result = {"name": name, "seed": 0, "fit": str(fit), "dice": scores, "mean": dice, "volumes": [volume]}
    write_json(runs / "rows" / name / "seed0" / "result.json", result)


def test_the_report_shows_rows_baselines_and_the_domain_gap(tmp_path, monkeypatch, capsys):
    for name, dice in (("real", 0.75), ("synthetic", 0.5)):
        finished_row(tmp_path, name, dice)
    page = tmp_path / "report" / "index.html"
    arguments = ["rows=[real,synthetic]", f"runs={tmp_path}", f"out={page}", "note=simulated"]
    monkeypatch.setattr(sys, "argv", ["make_report.py", *arguments])
    GlobalHydra.instance().clear()
    runpy.run_path(str(CONF.parent / "scripts" / "make_report.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    text = page.read_text()
    assert "costs 0.250" in text
    assert "simulated" in text
    assert "k-means" in text
    assert "0.588" in text  # the paper's real row
    assert json.loads((tmp_path / "rows/real/seed0/result.json").read_text())["mean"] == 0.75
