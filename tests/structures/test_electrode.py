"""Generated electrodes: targets are met, particles have the asked sizes and directions, seeds decide."""

import cc3d
import numpy as np
import pytest
from omegaconf import OmegaConf

from batseg.command import CONF
from batseg.morphology.interfaces import coverage
from batseg.phases import CBD, GRAPHITE, PORE, SILICON
from batseg.structures.binder import add_binder
from batseg.structures.campaign import parse_shape, write_campaign
from batseg.structures.electrode import generate_electrode
from batseg.structures.fields import gaussian_lattice
from batseg.structures.packing import pack
from batseg.structures.particles import draw_axes, draw_diameters
from batseg.structures.raster import rasterise
from batseg.structures.recipe import Binder, Coverage, Orientation, Particles, Shape, Size
from tests.structures.test_recipe import RECIPE

ROUND = Particles(Size(900, 0.0, 899, 901), Shape(angularity=0.0))


def conf(name: str) -> dict:
    return OmegaConf.to_container(OmegaConf.load(CONF / "structure" / f"{name}.yaml"))


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "structure").glob("*.yaml")))
def test_every_recipe_meets_its_fractions_and_coverages(name):
    shape = (56, 64, 72) if name != "graphite_silicon" else (72, 72, 72)
    electrode = generate_electrode(conf(name), shape, 61.0, np.random.default_rng((3, 0)))
    assert electrode.labels.shape == electrode.instances.shape == shape
    for phase, (asked, reached) in ((p, v.values()) for p, v in electrode.report["fractions"].items()):
        assert reached == pytest.approx(asked, abs=0.005), phase
        assert reached == pytest.approx(
            (electrode.labels == ("pore", "graphite", "silicon", "cbd").index(phase)).mean()
        )
    wanted = conf(name)["cbd"].get("coverage", {})
    for phase, (asked, reached) in ((p, v.values()) for p, v in electrode.report["coverage"].items()):
        assert (asked is not None) == (phase in wanted), phase
        if phase in wanted:
            assert reached == pytest.approx(asked, abs=0.02), phase


def test_instances_name_one_particle_each_and_cover_exactly_the_particles():
    electrode = generate_electrode(RECIPE, (48, 48, 48), 61.0, np.random.default_rng(0))
    particles = (electrode.labels == GRAPHITE) | (electrode.labels == SILICON)
    np.testing.assert_array_equal(electrode.instances > 0, particles)
    for code in (GRAPHITE, SILICON):
        own = np.unique(electrode.instances[electrode.labels == code])
        assert not np.isin(electrode.instances[electrode.labels != code], own).any()


def test_a_seed_and_index_decide_everything():
    first, again, other = (
        generate_electrode(conf("sample_real"), (40, 40, 40), 61.0, np.random.default_rng((1, index)))
        for index in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.instances, again.instances)
    assert (first.labels != other.labels).any()


def test_a_single_ball_has_the_volume_of_its_diameter():
    packing = pack({1: ROUND}, {1: 0.0063}, (64, 64, 64), 61.0, True, 2000.0, np.random.default_rng(0))
    assert len(packing.shapes) == 1
    ball = np.pi / 6 * (900 / 61) ** 3
    labels, _, growth = rasterise(packing, (64, 64, 64), {1: ball / 64**3}, {})
    assert growth[1] == pytest.approx(1.0, abs=0.03)
    assert labels.sum() == pytest.approx(ball, rel=0.01)


def test_a_periodic_electrode_continues_across_its_border():
    recipe = {"fractions": {"graphite": 0.4, "cbd": 0.0}, "particles": {"graphite": RECIPE["particles"]["graphite"]}}
    for boundary, same in (("periodic", True), ("cut", False)):
        electrode = generate_electrode({**recipe, "boundary": boundary}, (48,) * 3, 61.0, np.random.default_rng(0))
        first, last = electrode.instances[0], electrode.instances[-1]
        solid = (first > 0) & (last > 0)
        assert ((first == last)[solid].mean() > 0.7) == same


def test_sixty_percent_of_balls_can_be_packed_without_much_growth():
    recipe = conf("nmc_cathode")
    electrode = generate_electrode(recipe, (64, 64, 64), 61.0, np.random.default_rng(0))
    assert electrode.report["fractions"]["graphite"]["reached"] > 0.6
    assert electrode.report["growth"]["graphite"] == pytest.approx(1, abs=0.05)


def test_directions_follow_the_watson_distribution():
    t = np.linspace(0, 1, 100_001)
    weight = np.exp(4 * t**2)
    for axis, column in (("z", 0), ("y", 1), ("x", 2)):
        axes = draw_axes(Orientation(axis, 4.0), 4000, np.random.default_rng(0))
        np.testing.assert_allclose(axes @ np.swapaxes(axes, 1, 2), np.broadcast_to(np.eye(3), axes.shape), atol=1e-6)
        assert (axes[:, 2, column] ** 2).mean() == pytest.approx((weight * t**2).sum() / weight.sum(), abs=0.02)


def test_diameters_follow_the_log_normal_distribution_by_volume():
    d = draw_diameters(Size(1000, 0.3, 100, 10000), 4e6, 50.0, np.random.default_rng(0)) * 50.0
    order = np.sort(d)
    volume = np.cumsum(order**3) / (order**3).sum()
    assert order[np.searchsorted(volume, 0.5)] == pytest.approx(1000, rel=0.05)
    assert np.log(order[np.searchsorted(volume, 0.8413)] / 1000) == pytest.approx(0.3, rel=0.15)
    assert np.pi / 6 * (d**3).sum() / 50.0**3 == pytest.approx(4e6, rel=0.01)


def test_a_field_has_unit_variance_and_the_asked_correlation():
    lattice = gaussian_lattice((256, 256, 256), 8.0, np.random.default_rng(0))
    values, lag = lattice.values, round(8.0 / lattice.step[0])
    assert values.std() == pytest.approx(1, abs=1e-3)
    assert (values * np.roll(values, lag, 0)).mean() == pytest.approx(np.exp(-0.5), abs=0.05)


@pytest.fixture(scope="module")
def ball_and_plate() -> np.ndarray:
    labels = np.zeros((64, 64, 64), np.uint8)
    z, y, x = np.indices(labels.shape)
    labels[(z - 24) ** 2 + (y - 32) ** 2 + (x - 32) ** 2 < 13**2] = SILICON
    labels[52:] = GRAPHITE
    return labels


@pytest.mark.parametrize(("silicon", "graphite"), [(0.46, 0.03), (0.1, 0.4), (0.0, 0.0)])
def test_coverages_are_met_beside_the_fraction(ball_and_plate, silicon, graphite):
    labels = ball_and_plate.copy()
    rule = Binder(Coverage(graphite, silicon))
    add_binder(labels, rule, 0.08, 61.0, np.random.default_rng(0))
    assert (labels == CBD).mean() == pytest.approx(0.08, abs=1e-4)
    assert coverage(labels, SILICON)["cbd"] == pytest.approx(silicon, abs=0.01)
    assert coverage(labels, GRAPHITE)["cbd"] == pytest.approx(graphite, abs=0.01)


def test_cycling_opens_a_gap_between_silicon_and_binder(ball_and_plate):
    shares = []
    for gap in (0.0, 3.0):
        labels = ball_and_plate.copy()
        rule = Binder(Coverage(-1, 0.3), gap=gap, gap_nm=250.0)
        add_binder(labels, rule, 0.08, 61.0, np.random.default_rng(0))
        z, y, x = np.indices(labels.shape)
        distance = np.sqrt((z - 24) ** 2 + (y - 32) ** 2 + (x - 32) ** 2) - 13
        shares.append((labels[(distance > 3) & (distance < 5)] == CBD).mean())
    assert shares[1] < 0.3 * shares[0]


def test_small_islands_of_binder_can_be_forbidden(ball_and_plate):
    sizes = []
    for smallest in (0, 20):
        labels = ball_and_plate.copy()
        add_binder(labels, Binder(smallest_voxels=smallest, grain_nm=100.0), 0.05, 61.0, np.random.default_rng(0))
        assert (labels == CBD).mean() == pytest.approx(0.05, abs=3e-3)
        components = np.bincount(cc3d.connected_components(labels == CBD, connectivity=26).ravel())[1:]
        sizes.append(components.min())
    assert sizes[0] < 20 <= sizes[1]


def test_too_much_binder_is_refused():
    labels = np.full((16, 16, 16), GRAPHITE, np.uint8)
    labels[0] = PORE
    with pytest.raises(ValueError, match=r"fractions\.cbd: 0\.2 asked, but only 0\.062"):
        add_binder(labels, Binder(), 0.2, 61.0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("given", "edges"), [("96x224x224", (96, 224, 224)), (64, (64, 64, 64)), ([8, 9, 10], (8, 9, 10))]
)
def test_shapes_may_be_written_in_several_ways(given, edges):
    assert parse_shape(given) == edges


@pytest.mark.parametrize("bad", ["96x", "4x64x64", [1, 2], "cube"])
def test_a_bad_shape_is_refused(bad):
    with pytest.raises(ValueError, match="three edges"):
        parse_shape(bad)


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_a_file(tmp_path):
    for workers in (1, 2):
        write_campaign(tmp_path / str(workers), RECIPE, 3, (24, 24, 24), 61.0, seed=4, workers=workers)
    for name in ("electrode_0000", "electrode_0002"):
        for file in ("labels.tif", "instances.tif", "report.json"):
            assert (tmp_path / "1" / name / file).read_bytes() == (tmp_path / "2" / name / file).read_bytes()
