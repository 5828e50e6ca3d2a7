"""The style transfer's wiring: each optimizer moves its own networks by its own loss, and a run can be resumed."""

from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from batseg.augmentation import Flip
from batseg.networks.cyclegan import Generator, PatchCritic, PlaneCritics
from batseg.phases import NOT_LABELLED
from batseg.training.fit import fit
from batseg.training.style import StyleModule, StylePictures, linear_decay
from batseg.training.style_data import StyleDataModule
from batseg.volumes import InputError, Volume, write_volume
from tests.training.conftest import tiny_trainer, toy_tomogram

WEIGHTS = {"cycle": 2.0, "identity": 1.0, "fraction": 5.0, "keep": 1.0, "statistics": 1.0}


def module(dimensions: int = 2, edge: int = 16, **settings) -> StyleModule:
    torch.manual_seed(0)
    generators = [Generator(dimensions, width=4, downs=1, blocks=1) for _ in range(2)]
    critic = partial(PatchCritic, width=4, layers=1) if dimensions == 2 else partial(PlaneCritics, width=4, layers=1)
    patch = (1, edge, edge) if dimensions == 2 else (edge,) * 3
    optimizer = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.999))
    return StyleModule(*generators, critic(), critic(), optimizer, patch, WEIGHTS, **{"pool": 4, **settings})


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    root = tmp_path_factory.mktemp("structures")
    for seed, name in enumerate(("basic/a", "basic/b", "templates/a")):
        write_volume(root / name / "labels.tif", Volume(toy_tomogram(seed)[1], 61.0))
    return root


def data(root, **settings) -> StyleDataModule:
    sources = {side: str(root / side) for side in ("basic", "templates")}
    fixed = {"patch": (1, 16, 16), "count": 8, "batch_size": 2, "workers": 0, "augmentation": Flip()}
    return StyleDataModule(**{**sources, **fixed, **settings})


def batch(dimensions: int = 2, edge: int = 16) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    shape = (2, *(edge,) * dimensions)
    return {side: torch.randint(0, 4, shape, generator=random) for side in ("basic", "templates")}


class GradientSpy(pl.Callback):
    """Notes the critics' gradients just before their optimizer steps."""

    def __init__(self):
        self.noted: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        critics = [*module.critic.parameters(), *module.back_critic.parameters()]
        if optimizer.param_groups[0]["params"][0] is critics[0]:
            self.noted.append(torch.cat([parameter.grad.flatten() for parameter in critics]))


def test_the_generators_loss_does_not_leak_into_the_critics(structures, tmp_path):
    """The gradient that the critics' optimizer sees is that of the critics' loss alone, in the second step too."""
    spy, expected = GradientSpy(), []

    class Watched(StyleModule):
        def critic_loss(self, given, styled, plain):
            loss = super().critic_loss(given, styled, plain)
            critics = [*self.critic.parameters(), *self.back_critic.parameters()]
            gradients = torch.autograd.grad(loss, critics, retain_graph=True)
            expected.append(torch.cat([gradient.flatten() for gradient in gradients]))
            return loss

    watched = module()
    watched.__class__ = Watched
    fit(watched, data(structures), tiny_trainer(tmp_path, 6, callbacks=[spy], limit_val_batches=0), tmp_path, "auto")
    assert len(spy.noted) == len(expected) == 3
    for seen, own in zip(spy.noted, expected):
        torch.testing.assert_close(seen, own)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_both_sides_have_losses_and_gradients(dimensions):
    style = module(dimensions)
    losses, styled, plain = style.generator_losses(batch(dimensions))
    assert set(losses) == {"adversarial", "cycle", "identity", "fraction", "keep", "statistics", "total"}
    losses["total"].backward()
    for network in (style.generator, style.back_generator):
        assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    style.zero_grad()
    style.critic_loss(batch(dimensions), styled, plain).backward()
    assert all(parameter.grad is None for parameter in style.generator.parameters())
    assert all(parameter.grad is not None for parameter in style.back_critic.parameters())


def test_the_total_is_the_weighted_sum():
    losses, _, _ = module().generator_losses(batch())
    expected = losses["adversarial"] + sum(weight * losses[name] for name, weight in WEIGHTS.items())
    torch.testing.assert_close(losses["total"], expected)


def test_the_rate_is_constant_and_then_falls_to_zero():
    rates = [linear_decay(step, 200, 0.5) for step in (0, 99, 100, 150, 200)]
    assert rates == [1, 1, 1, 0.5, 0]


class PowerCut(Exception):
    pass


class CutAt(pl.Callback):
    def __init__(self, batches: int):
        self.batches = batches

    def on_train_batch_start(self, trainer, module, given, index) -> None:
        if trainer.global_step == 2 * self.batches:
            raise PowerCut


def test_a_run_cut_off_goes_on_to_the_same_weights(structures, tmp_path):
    settings = {"limit_val_batches": 0, "checkpoint_every": 4}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = module()
    fit(first, data(structures), tiny_trainer(whole, 12, **settings), whole, "auto")
    with pytest.raises(PowerCut):
        fit(module(), data(structures), tiny_trainer(cut, 12, callbacks=[CutAt(5)], **settings), cut, "auto")
    second = module()
    torch.manual_seed(99)
    fit(second, data(structures), tiny_trainer(cut, 12, **settings), cut, "auto")
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_the_progress_of_two_optimizers_ends_at_its_total(structures, tmp_path, capsys):
    fit(module(), data(structures), tiny_trainer(tmp_path, 8, limit_val_batches=0), tmp_path, "auto")
    shown = [line.split(", ")[0] for line in capsys.readouterr().err.splitlines() if "/8, " in line]
    assert shown[0].endswith(": 2/8")
    assert shown[-1].endswith(": 8/8")


def test_pictures_are_written_while_training(structures, tmp_path):
    trainer = tiny_trainer(tmp_path, 4, callbacks=[StylePictures(2)], limit_val_batches=0)
    fit(module(), data(structures), trainer, tmp_path, "auto")
    assert [file.name for file in (tmp_path / "pictures").iterdir()] == ["step000002.png"]


def test_patches_are_fully_labelled_and_repeat_with_the_key(structures, tmp_path):
    labels = toy_tomogram(5)[1]
    labels[:, :14] = NOT_LABELLED
    write_volume(tmp_path / "templates" / "a" / "labels.tif", Volume(labels, 61.0))
    module = data(structures, templates={"labels": str(tmp_path / "templates/a/labels.tif")})
    module.setup()
    items = [module.train[0, index] for index in range(20)]
    assert all(item["templates"].max() <= 3 for item in items)
    assert torch.equal(module.train[0, 3]["basic"], items[3]["basic"])
    assert not torch.equal(module.train[1, 3]["basic"], items[3]["basic"])


def test_a_single_slice_is_a_template(structures, tmp_path):
    write_volume(tmp_path / "labels.tif", Volume(toy_tomogram(0)[1][:1], 61.0))
    module = data(structures, templates={"labels": str(tmp_path / "labels.tif")})
    module.setup()
    assert module.train[0, 0]["templates"].shape == (16, 16)


def test_templates_without_a_fully_labelled_patch_are_refused(structures, tmp_path):
    labels = np.full((32, 32, 32), NOT_LABELLED, np.uint8)
    labels[::2] = 0
    write_volume(tmp_path / "labels.tif", Volume(labels, 61.0))
    templates = {"labels": str(tmp_path / "labels.tif")}
    with pytest.raises(InputError, match="no fully labelled patch"):
        data(structures, templates=templates, patch=(16, 16, 16)).setup()
