"""Bad input ends in one clear line and exit code 2, and nothing is left half-written."""

import runpy
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

from batseg.command import CONF
from batseg.volumes import Volume, write_volume

ROOT = CONF.parent
SHAPE = (24, 72, 72)


@pytest.fixture
def refuse(monkeypatch, capsys, tmp_path):
    """Run an entry point that must refuse; returns its one line."""

    def run(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        monkeypatch.chdir(tmp_path)
        GlobalHydra.instance().clear()
        before = set(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        lines = [line for line in capsys.readouterr().err.splitlines() if line and not line.endswith(" ...")]
        assert stop.value.code == 2
        assert len(lines) == 1, lines
        left = {path.relative_to(tmp_path) for path in set(tmp_path.rglob("*")) - before if path.is_file()}
        assert not {path for path in left if path.suffix != ".lock"}, left
        return lines[0]

    return run


def volumes(
    folder: Path, image: np.ndarray | None = None, labels: np.ndarray | None = None, voxel_nm=61.0
) -> list[str]:
    """A pair on disk, and the overrides that make train.py learn from it."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=SHAPE).astype(np.float32) if image is None else image
    labels = rng.integers(0, 4, SHAPE).astype(np.uint8) if labels is None else labels
    write_volume(folder / "image.tif", Volume(image, voxel_nm))
    write_volume(folder / "labels.tif", Volume(labels, voxel_nm))
    places = [f"images={folder}/image.tif", f"labels={folder}/labels.tif", f"runs={folder}/runs"]
    return ["+experiment=real", "data=folder", "data.validation_share=0", "data.workers=0", *places]


def test_a_missing_file_is_named(refuse, tmp_path):
    line = refuse("train.py", *volumes(tmp_path), f"images={tmp_path}/nowhere.tif")
    assert "nowhere.tif" in line


def test_a_label_outside_the_map_is_named(refuse, tmp_path):
    labels = np.full(SHAPE, 85, np.uint8)
    line = refuse("train.py", *volumes(tmp_path, labels=labels))
    assert "85" in line
    assert "label_map" in line


def test_a_label_map_that_is_not_code_to_phase_is_refused(refuse, tmp_path):
    assert "steel" in refuse("train.py", *volumes(tmp_path), "data.label_map={0: steel}")


def test_image_and_labels_of_different_shape_are_refused(refuse, tmp_path):
    line = refuse("train.py", *volumes(tmp_path, labels=np.zeros((24, 72, 70), np.uint8)))
    assert "(24, 72, 72)" in line
    assert "(24, 72, 70)" in line


def test_a_missing_voxel_size_is_asked_for(refuse, tmp_path):
    assert "voxel_nm" in refuse("train.py", *volumes(tmp_path, voxel_nm=None))


def test_a_patch_larger_than_the_volume_is_refused(refuse, tmp_path):
    line = refuse("train.py", *volumes(tmp_path), "data.patch=[48,256,256]")
    assert "256" in line
    assert "patch" in line


def test_nan_in_an_image_is_refused(refuse, tmp_path):
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    image[3, 4, 5] = np.nan
    assert "NaN" in refuse("train.py", *volumes(tmp_path, image=image))


def test_an_empty_label_volume_is_refused(refuse, tmp_path):
    line = refuse("train.py", *volumes(tmp_path, labels=np.full(SHAPE, 255, np.uint8)))
    assert "label" in line


def test_an_unknown_experiment_is_named(refuse):
    assert "hybird" in refuse("train.py", "+experiment=hybird")


def test_a_mistyped_key_is_named(refuse, tmp_path):
    assert "widht" in refuse("train.py", *volumes(tmp_path), "model.widht=3")


def test_a_truncated_hdf5_is_refused(refuse, tmp_path):
    whole = tmp_path / "whole.h5"
    with h5py.File(whole, "w") as file:
        file["/exchange/data"] = np.zeros((10, 8, 16), np.uint16)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole.read_bytes()[:1500])
    line = refuse("scripts/reconstruct.py", f"projections={cut}", f"out={tmp_path}/out/tomogram.tif")
    assert "cut.h5" in line
