"""Composition, coverage, shells, sizes and regions from small drawn volumes."""

import numpy as np
import pytest

from batseg.analysis.composition import composition_rows, expected_fractions, integral_range, volume_fractions
from batseg.analysis.networks import connectivity_rows, particle_rows, particle_summary_rows
from batseg.analysis.region import cubes, downscaled, inscribed_box
from batseg.analysis.sample import analyse_sample, nested, scalars
from batseg.analysis.sizes import size_tables
from batseg.analysis.surfaces import coverage_rows, shell_rows
from batseg.analysis.trends import similar, subvolume_rows


def random_labels(shape=(32, 32, 32), seed=0):
    return np.random.default_rng(seed).choice(4, shape, p=[0.51, 0.35, 0.06, 0.08]).astype(np.uint8)


def cylinder(shape=(20, 41, 41), radius=20.2):
    inside = np.hypot(*(np.indices(shape[1:]) - (shape[1] - 1) / 2)) < radius
    return np.where(inside, random_labels(shape), 255).astype(np.uint8)


def chosen(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_fractions_leave_out_what_is_not_labelled():
    labels = np.array([[[0, 0, 1, 255, 255, 3]]], np.uint8)
    assert volume_fractions(labels) == pytest.approx([0.5, 0.25, 0, 0.25])


def test_recipe_gives_the_fractions_of_the_paper():
    dense = expected_fractions()
    assert sum(dense.values()) == pytest.approx(1.0)
    assert dense["graphite"] == pytest.approx(0.353, abs=0.001)
    assert dense["cbd"] == pytest.approx(0.088, abs=0.001)
    assert expected_fractions(binder_porosity=0.27)["cbd"] == pytest.approx(0.113, abs=0.001)


def test_cbd_share_of_the_pore_space_has_both_denominators():
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[:2], labels[2:5] = 3, 1
    rows = {row["phase"]: row for row in composition_rows(labels, 61.0)}
    assert rows["cbd"]["share_of_pore"] == pytest.approx(0.4)
    assert rows["cbd"]["share_of_pore_and_cbd"] == pytest.approx(2 / 7)
    assert np.isnan(rows["silicon"]["volume_fraction"])
    assert rows["pore"]["expected_volume_fraction"] == 0.51


def test_integral_range_of_independent_blocks_is_a_block():
    blocks = random_labels((16, 16, 16))
    labels = blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    assert integral_range(labels, 0) == pytest.approx(64, rel=0.5)
    assert integral_range(random_labels((64, 64, 64)), 0) == pytest.approx(1, rel=0.5)


def test_the_inscribed_box_of_a_cylinder_is_a_square_prism_without_unlabelled_voxels():
    labels = cylinder()
    box = inscribed_box(labels)
    assert labels[box].shape == (20, 29, 29)  # 2 * 20.2 / sqrt(2) = 28.6
    assert (labels[box] < 4).all()


def test_slices_without_labels_are_left_out_of_the_box():
    labels = np.full((10, 6, 7), 255, np.uint8)
    labels[3:8, :, 1:] = 0
    assert inscribed_box(labels) == (slice(3, 8), slice(0, 6), slice(1, 7))


def test_cubes_are_full_and_adjacent():
    parts = cubes(cylinder(), 10)
    assert len(parts) == 2 * 2 * 2
    assert cubes(cylinder(), 30) == []


def test_downscaling_takes_the_majority_and_a_tie_goes_to_pore():
    labels = np.zeros((2, 2, 6), np.uint8)
    labels[:, :, :2] = [[3, 3], [3, 1]]
    labels[0, :, 2:4] = 2  # four of eight: a tie with pore
    assert downscaled(labels, 2).tolist() == [[[3, 0, 0]]]


def test_first_shell_at_a_plane_is_the_coverage_by_faces():
    labels = np.zeros((24, 20, 20), np.uint8)
    labels[:8] = 1
    labels[8:, :5] = 3
    first = chosen(shell_rows(labels, 61.0), phase="graphite", rule="excluded", shell=1)[0]
    covered = chosen(
        coverage_rows(labels, 61.0), phase="graphite", neighbour="cbd", method="faces", denominator="pore+cbd"
    )[0]
    assert first["cbd_content"] == covered["coverage"] == 0.25


def test_shells_end_at_the_limit_and_leave_out_the_overlap():
    labels = np.zeros((40, 6, 6), np.uint8)
    labels[:2], labels[-2:] = 1, 2
    rows = shell_rows(labels, 61.0)
    graphite = chosen(rows, phase="graphite", rule="excluded")
    assert len(graphite) == 10
    assert [row["voxels"] for row in graphite] == [36] * 9 + [0]  # 600 nm = 9.8 voxels
    labels = labels[:14]
    labels[-2:] = 2  # ten voxels between the phases, all within 600 nm of silicon but the first
    overlap = chosen(shell_rows(labels, 61.0), phase="graphite", rule="excluded")
    assert [row["voxels"] for row in overlap] == [36] + [0] * 9
    nearest = chosen(shell_rows(labels, 61.0), phase="graphite", rule="nearest")
    assert [row["voxels"] for row in nearest] == [36] * 5 + [0] * 5


def test_sizes_of_a_layer_are_half_its_width_and_its_width():
    labels = np.ones((40, 12, 12), np.uint8)
    labels[10:21] = 0
    rows, bins = size_tables(labels, 10.0)
    radius = chosen(rows, phase="pore", method="local thickness")[0]
    assert radius["median_nm"] == pytest.approx(60.0)  # centre to the next layer's voxel centres: half of 11 + 1
    assert chosen(rows, phase="pore", method="chords z")[0]["median_nm"] == pytest.approx(110.0)
    assert np.isnan(chosen(rows, phase="cbd", method="edt")[0]["median_nm"])
    share = [row["fraction"] for row in bins if (row["phase"], row["method"]) == ("pore", "edt")]
    assert sum(share) == pytest.approx(1.0)


def test_cbd_that_reaches_through_percolates():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[:, 3, 3] = labels[5, 8, 8] = 3
    row = {row["phase"]: row for row in connectivity_rows(labels, 100.0)}["cbd"]
    assert row["percolating_fraction_z"] == pytest.approx(12 / 13)
    assert row["percolating_fraction_x"] == 0.0
    assert row["euler_number_per_um3"] == pytest.approx(2 / 1.728)


def test_specks_are_no_particles():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2:5, 2:5, 2:5], labels[8, 8, 8] = 2, 2
    assert [row["phase"] for row in particle_rows(labels, 61.0)] == ["silicon"]


def test_flakes_that_lie_flat_are_aligned_and_cut_ones_are_not_measured():
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[5:8, 4:14, 4:14] = labels[20:23, 15:25, 15:25] = 1
    labels[:3, 20:, 20:] = 1
    found = {row["phase"]: row for row in particle_summary_rows(particle_rows(labels, 10.0))}
    graphite = found["graphite"]
    assert (graphite["particles"], graphite["whole_particles"]) == (3, 2)
    assert graphite["alignment"] == pytest.approx(1.0)
    assert graphite["median_diameter_nm"] == pytest.approx(10 * np.cbrt(6 * 300 / np.pi))
    assert np.isnan(found["silicon"]["mean_sphericity"])


def test_a_cylinder_is_analysed_whole_and_a_phase_that_is_absent_is_nan():
    labels = cylinder()
    labels[labels == 2] = 0
    tables = analyse_sample(labels, 61.0, directions="z", size_methods=["local thickness"])
    found = scalars(tables)
    assert np.isnan(found["volume_fraction silicon"])
    assert np.isnan(found["coverage silicon by cbd"])
    assert 0 < found["D_rel pore"] < found["D_rel pore+cbd"]
    tree = nested(tables["coverage"], ("phase", "neighbour", "method", "denominator"))
    assert tree["silicon"]["cbd"]["faces"]["all contacts"]["coverage"] is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"through_plane": "w"}, "axes are z, y and x"), ({"downscale": 12}, "too thin"), ({"tolerance": 0}, "tolerance")],
)
def test_bad_parameters_are_refused_in_words(wrong, said):
    with pytest.raises(ValueError, match=said):
        analyse_sample(cylinder(), 61.0, **wrong)


def test_similar_subvolumes_are_near_the_median_composition():
    labels = random_labels((24, 24, 24))
    labels[12:, 12:, 12:] = 0
    rows = subvolume_rows(labels, 61.0, edge=12)
    assert len(rows) == 8
    assert [row["subvolume"] for row in similar(rows, 0.1)] == list(range(7))
