"""Structures go in as folders of labels and come out restyled, with fractions and particle numbers kept."""

import json

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from batseg.networks.cyclegan import Generator
from batseg.training.callbacks import FINAL
from batseg.training.fit import fit
from batseg.training.style import load_generator
from batseg.training.style_data import StyleDataModule
from batseg.training.stylizing import learn_and_apply, stylize_folders
from batseg.volumes import InputError, Volume, read_volume, write_volume
from tests.training.conftest import tiny_trainer, toy_tomogram
from tests.training.test_style import module


@pytest.fixture
def structures(tmp_path):
    labels = toy_tomogram(0)[1]
    write_volume(tmp_path / "basic/a/labels.tif", Volume(labels, 61.0))
    write_volume(tmp_path / "basic/a/instances.tif", Volume(np.where(np.isin(labels, (1, 2)), 7, 0).astype("int32")))
    write_volume(tmp_path / "templates/a/labels.tif", Volume(toy_tomogram(1)[1], 61.0))
    return tmp_path


def test_restyled_structures_keep_fractions_and_particles(structures):
    torch.manual_seed(0)
    generator = Generator(2, width=4, downs=0, blocks=1, sharpness=1.0, input_blur=1.0)
    folder = stylize_folders(generator, structures / "basic", structures / "out")[0]
    styled, instances = (read_volume(folder / f"{name}.tif") for name in ("labels", "instances"))
    assert styled.voxel_nm == 61.0
    report = json.loads((folder / "style.json").read_text())
    np.testing.assert_allclose(report["fractions"], report["fractions_before"], atol=0.005)
    assert 0 < report["share_of_voxels_changed"] < 0.3
    np.testing.assert_array_equal(instances.array > 0, np.isin(styled.array, (1, 2)))


def test_a_style_is_learnt_and_applied_in_one_call(structures):
    sources = {side: str(structures / side) for side in ("basic", "templates")}
    data = StyleDataModule(**sources, patch=(1, 16, 16), count=8, batch_size=2, workers=0)
    trainer = tiny_trainer(structures / "fit", 4, limit_val_batches=0)
    folders = learn_and_apply(module(), data, trainer, structures / "fit", structures / "basic", structures / "out")
    assert [folder.name for folder in folders] == ["a"]
    assert (structures / "fit" / FINAL).exists()


def test_a_generator_is_rebuilt_from_its_fit_folder(structures):
    sources = {side: str(structures / side) for side in ("basic", "templates")}
    data = StyleDataModule(**sources, patch=(1, 16, 16), count=8, batch_size=2, workers=0)
    style, folder = module(), structures / "fit"
    fit(style, data, tiny_trainer(folder, 4, limit_val_batches=0), folder, "auto")
    target = {"_target_": "batseg.networks.cyclegan.Generator", "dimensions": 2, "width": 4, "downs": 1, "blocks": 1}
    OmegaConf.save({"module": {"generator": target}}, folder / "config.yaml")
    for name, value in load_generator(folder).state_dict().items():
        assert torch.equal(value, style.generator.state_dict()[name])


def test_a_folder_without_a_fit_and_labels_with_gaps_are_refused(structures):
    with pytest.raises(InputError, match=r"no config\.yaml"):
        load_generator(structures)
    labels = toy_tomogram(0)[1]
    labels[0] = 255
    write_volume(structures / "basic/a/labels.tif", Volume(labels, 61.0))
    with pytest.raises(InputError, match="0 to 3 everywhere"):
        stylize_folders(Generator(2, width=4, downs=0, blocks=1), structures / "basic", structures / "out")
