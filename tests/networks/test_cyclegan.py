"""The CycleGAN's parts: shapes, where the generator begins, what critics see, and the losses' closed forms."""

import pytest
import torch

from batseg.networks.cyclegan import (
    Generator,
    HistoryPool,
    PatchCritic,
    PlaneCritics,
    StatisticsLoss,
    contacts,
    cycle_loss,
    fraction_loss,
    grains,
    held_particles,
    keep_loss,
    least_squares,
    neighbour_statistics,
    one_hot,
    soften,
    straight_through,
)


def labels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(0))


def small(dimensions: int, **settings) -> Generator:
    torch.manual_seed(0)
    return Generator(dimensions, width=4, downs=1, blocks=1, **settings)


@pytest.mark.parametrize(("dimensions", "shape"), [(2, (2, 16, 24)), (3, (1, 8, 12, 16))])
def test_generators_return_logits_of_the_shape_of_their_input(dimensions, shape):
    assert small(dimensions)(one_hot(labels(*shape))).shape == (shape[0], 4, *shape[1:])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_an_untrained_generator_keeps_the_labels(dimensions):
    given = labels(1, *(16,) * dimensions)
    restyled = small(dimensions)(one_hot(given)).argmax(dim=1)
    assert (restyled == given).float().mean() > 0.99


def test_noise_changes_the_outcome_and_given_noise_repeats_it():
    generator, maps = small(2), one_hot(labels(1, 16, 16))
    noise = torch.randn(1, 1, 16, 16)
    assert torch.equal(generator(maps, noise), generator(maps, noise))
    assert not torch.equal(generator(maps), generator(maps))
    without = small(2, noise=0)
    assert torch.equal(without(maps), without(maps))


def untrained(**settings) -> Generator:
    """A generator whose correction is zero."""
    generator = small(2, sharpness=1.5, **settings)
    torch.nn.init.zeros_(generator.correction[-1].weight)
    torch.nn.init.zeros_(generator.correction[-1].bias)
    return generator


def scene() -> torch.Tensor:
    """Stripes of 16 columns: pore, binder, silicon, graphite, pore; (1, 64, 80)."""
    return torch.tensor([0, 3, 2, 1, 0]).repeat_interleave(16).expand(1, 64, 80)


def test_grains_turn_pore_and_binder_near_binder_before_anything_is_learnt():
    generator, given = untrained(grain=3.0, grain_size=1.0, grain_reach=3), scene()
    restyled = generator(one_hot(given)).argmax(dim=1)
    changed = restyled != given
    assert changed[..., 13:32].float().mean() > 0.1
    assert not changed[..., :13].any()  # pore farther than that, particles and what lies behind them
    assert not changed[..., 32:].any()
    assert ((restyled == 3) | (given == 3))[changed].all()


def test_particles_come_and_go_within_the_margin_of_their_surface_alone():
    """The correction asks for graphite everywhere, then for pore everywhere."""
    given, graphite = scene(), (scene() == 1)
    for phase, reached in ((1, slice(46, 66)), (0, slice(50, 62))):
        generator = untrained(margin=2)
        generator.correction[-1].bias.data[phase] = 15.0
        restyled = generator(one_hot(given)).argmax(dim=1)
        expected = torch.zeros_like(graphite)
        expected[..., reached] = True
        assert torch.equal(restyled == 1, expected)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_particles_are_held_alike_in_slices_and_volumes(dimensions):
    given = torch.zeros(1, *(9,) * dimensions, dtype=torch.long)
    given[(0, *(slice(2, 7),) * dimensions)] = 2
    held = held_particles(one_hot(given), 1, strength=20.0)
    assert (held[0, 2] == 20).sum() == 3**dimensions
    assert (held[0, 2] == -20).sum() == 9**dimensions - 7**dimensions
    assert (held[0, 1] == -20).all()  # no graphite anywhere
    assert not held[0, (0, 3), ...].any()


@pytest.mark.parametrize("shape", [(2, 1, 128, 128), (1, 2, 32, 32, 32)])
def test_smoothed_noise_keeps_its_standard_deviation(shape):
    torch.manual_seed(0)
    smooth = grains(torch.randn(shape), 1.0)
    assert smooth.std() == pytest.approx(1.0, abs=0.1)
    assert (smooth[..., 1:] * smooth[..., :-1]).mean() > 0.5


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="multiples of 2"):
        small(2)(one_hot(labels(1, 15, 16)))


def test_the_published_critic_judges_patches_of_70_pixels():
    critic = PatchCritic(width=8)
    maps = torch.zeros(1, 4, 128, 128, requires_grad=True)
    norm_free = torch.nn.Sequential(*[m for m in critic.score if not isinstance(m, torch.nn.InstanceNorm2d)])
    scores = norm_free(maps)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = maps.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (seen.amax(dim=0) - seen.amin(dim=0) + 1).tolist() == [70, 70]


def test_the_published_generator_has_the_parameters_of_the_reference():
    """c7s1-64, d128, d256, nine blocks of 256, u128, u64; the reference counts 11.38 million from RGB to RGB."""
    generator = Generator(2, phases=4, noise=0)
    count = sum(parameter.numel() for parameter in generator.parameters())
    blocks = 9 * 2 * 9 * 256 * 256
    halving = 9 * (64 * 128 + 128 * 256)
    assert count == 49 * 4 * 64 + 2 * halving + blocks + 9 * 64 * 4 + 4


def test_plane_critics_see_planes_across_all_three_axes():
    critics = PlaneCritics(width=4, layers=1, slices=2)
    maps = torch.rand(1, 4, 16, 16, 16, requires_grad=True)
    scores = critics(maps)
    assert scores.ndim == 1
    assert len(scores) % 3 == 0
    scores.sum().backward()
    assert all(parameter.grad is not None for critic in critics.critics for parameter in critic.parameters())


def test_straight_through_is_one_hot_forward_and_soft_backward():
    logits = torch.tensor([[[[1.0]], [[2.0]], [[0.0]], [[0.5]]]], requires_grad=True)
    maps = straight_through(logits)
    assert maps.flatten().tolist() == pytest.approx([0, 1, 0, 0], abs=1e-6)
    (maps * torch.tensor([0.0, 1, 0, 0]).reshape(1, 4, 1, 1)).sum().backward()
    soft = logits.detach().softmax(dim=1).flatten()
    expected = soft[1] * (torch.tensor([0.0, 1, 0, 0]) - soft)
    torch.testing.assert_close(logits.grad.flatten(), expected)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_softened_maps_keep_their_sum_and_spread_as_a_gaussian(dimensions):
    maps = torch.zeros(1, 4, *(15,) * dimensions)
    centre = (0, 1, *(7,) * dimensions)
    maps[centre] = 1
    soft = soften(maps, 1.0)
    torch.testing.assert_close(soft.sum(), torch.tensor(1.0))
    beside = (0, 1, *(7,) * (dimensions - 1), 8)
    torch.testing.assert_close(soft[beside] / soft[centre], torch.exp(torch.tensor(-0.5)))
    assert soft[:, 0].abs().max() == 0


def test_softening_makes_generated_and_template_maps_equally_soft():
    logits = 3 * torch.randn(1, 4, 16, 16)
    shown = soften(straight_through(logits), 0.7)
    template = soften(one_hot(logits.argmax(dim=1)), 0.7)
    torch.testing.assert_close(shown, template)


def test_losses_of_perfect_and_of_hopeless_maps():
    given = labels(2, 8, 8)
    perfect = 100 * one_hot(given)
    assert cycle_loss(perfect, given) < 1e-6
    assert keep_loss(perfect, given) < 1e-6
    assert fraction_loss(one_hot(given), one_hot(given)) < 1e-6
    assert cycle_loss(torch.zeros(2, 4, 8, 8), given) == pytest.approx(torch.log(torch.tensor(4.0)).item())
    assert least_squares(torch.tensor([1.0, 0.0]), 1.0) == 0.5


def test_pore_and_binder_may_turn_into_one_another_but_not_into_particles():
    pore = torch.zeros(1, 8, 8, dtype=torch.long)
    assert keep_loss(100 * one_hot(pore + 3), pore) < 1e-6
    assert keep_loss(100 * one_hot(pore + 1), pore) > 10


def test_the_history_hands_out_older_maps_half_of_the_time():
    torch.manual_seed(0)
    pool = HistoryPool(10, (1,))
    older = 0
    for step in range(1, 411):
        out = pool.exchange(torch.full((1, 1), float(step)))
        older += float(out) != step
        assert step > 10 or float(out) == step
    assert 150 < older < 250


def test_the_history_is_part_of_a_checkpoint():
    pool, other = HistoryPool(3, (1,)), HistoryPool(3, (1,))
    pool.exchange(torch.arange(2.0)[:, None])
    other.load_state_dict(pool.state_dict())
    assert int(other.filled) == 2
    assert other.maps.flatten().tolist() == [0, 1, 0]


def test_neighbour_statistics_of_stripes_are_known():
    stripes = torch.zeros(1, 8, 8, dtype=torch.long)
    stripes[:, ::2] = 3
    across, _, along, _ = neighbour_statistics(one_hot(stripes), lags=(1, 2))
    assert across[0, 3] == pytest.approx(0.5)
    assert across[3, 3] == 0
    assert along[3, 3] == pytest.approx(0.5)
    assert along[0, 3] == 0


def test_contacts_at_lag_one_are_coverage_and_chord_length():
    """Stripes of two voxels of binder, one of silicon, one of pore: half of silicon's ends lie on binder."""
    stripes = torch.tensor([3, 3, 2, 0]).repeat(8)[None, None].expand(1, 32, 32)
    across = contacts(neighbour_statistics(one_hot(stripes), lags=(1,)))[1]
    assert across[2, 3] == pytest.approx(0.5, abs=0.05)
    assert across[2, 1] == 0
    assert 1 / (1 - across[3, 3]) == pytest.approx(2.0, abs=0.1)  # mean chord in voxels


def test_the_statistics_loss_is_zero_for_the_same_texture_and_moves_towards_it():
    given = one_hot(labels(2, 32, 32))
    assert StatisticsLoss(2)(given, given) < 1e-6
    coarse = one_hot(labels(2, 8, 8)).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    logits = (4 * coarse).requires_grad_()
    loss = StatisticsLoss(2)
    before = loss(logits.softmax(dim=1), given)
    before.backward()
    moved = (logits - 1e4 * logits.grad).detach().softmax(dim=1)
    assert before > 0.1
    assert StatisticsLoss(2)(moved, given) < before
