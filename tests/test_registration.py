import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from batseg.phases import CBD, GRAPHITE, PORE, SILICON
from batseg.registration import RigidTransform, combine, register, resample
from batseg.volumes import Volume


def blobs(shape: tuple[int, int, int], width: float = 3.0, seed: int = 0) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), width)
    return (field / field.std() > 0.3).astype(np.float32)


def moved(volume: np.ndarray, voxel_nm: float, transform: RigidTransform, shape, out_nm: float) -> np.ndarray:
    """The volume as seen on a grid whose points lie at transform(point) in it."""
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3) * out_nm
    places = transform.apply(points).T / voxel_nm
    return map_coordinates(volume, places, order=1, mode="nearest").reshape(shape).astype(np.float32)


def turned(degrees, shift_nm, centre_nm) -> RigidTransform:
    matrix = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    centre = np.asarray(centre_nm)
    return RigidTransform(matrix, centre - matrix @ centre + np.asarray(shift_nm))


def test_a_known_rotation_and_shift_between_different_voxels_and_contrasts_is_recovered():
    sample = gaussian_filter(blobs((40, 56, 56)), 0.7)
    centre, target = np.array([43, 59, 59]) * 20.0, np.array([39, 55, 55]) * 30.5
    true = turned([4.0, -5.0, 3.0], target - centre + [90.0, -120.0, 60.0], centre)
    fixed = moved(sample, 61.0, true, (44, 60, 60), 40.0)
    rng = np.random.default_rng(1)
    contrast = 1 - 0.7 * fixed + 0.03 * rng.standard_normal(fixed.shape)  # the other way round
    found = register(Volume(contrast.astype(np.float32), 40.0), Volume(sample, 61.0), shrink=(4, 2, 1))
    corners = np.array([[z, y, x] for z in (0, 43) for y in (0, 59) for x in (0, 59)]) * 40.0
    assert np.abs(found.apply(corners) - true.apply(corners)).max() < 40
    assert found.angle_deg == pytest.approx(true.angle_deg, abs=0.7)


def test_the_inverse_leads_back():
    transform = turned([10.0, 20.0, 30.0], [1.0, 2.0, 3.0], [50.0, 60.0, 70.0])
    points = np.random.default_rng(2).random((5, 3)) * 100
    assert transform.inverse().apply(transform.apply(points)) == pytest.approx(points)


def test_resampling_follows_the_transform_and_says_where_it_ends():
    sample = gaussian_filter(blobs((24, 30, 30)), 1)
    true = turned([3.0, 2.0, -4.0], [100.0, 0.0, -50.0], [700.0, 900.0, 900.0])
    onto = Volume(np.zeros((20, 20, 20), np.float32), 61.0)
    ours = resample(Volume(sample, 61.0), true, onto)
    expected = moved(sample, 61.0, true, (20, 20, 20), 61.0)
    known = np.isfinite(ours)
    assert 0.5 < known.mean() < 1
    assert ours[known] == pytest.approx(expected[known], abs=1e-3)


def test_two_contrasts_give_the_four_phases_back():
    shape = (60, 70, 70)
    labels = np.full(shape, PORE, np.uint8)
    labels[blobs(shape, 5, 3) > 0] = GRAPHITE
    labels[:, :26][blobs(shape, 5, 4)[:, :26] > 0] = SILICON
    labels[:, 46:][blobs(shape, 3, 5)[:, 46:] > 0] = CBD
    rng = np.random.default_rng(6)
    density = np.array([0, 0.61, 0.66, 0.65])[labels]
    grains = gaussian_filter(rng.standard_normal(shape), 1.0)
    density = density + 0.25 * grains / grains.std() * (labels == CBD)  # copper and fine pores
    density = gaussian_filter(density, 0.6) + 0.01 * rng.standard_normal(shape)
    absorption = np.array([0, 22.0, 83.0, 85.0])[labels]
    absorption = gaussian_filter(absorption, 0.6) + 15 * rng.standard_normal(shape)
    still = RigidTransform(np.eye(3), np.zeros(3))
    xtm = Volume(absorption.astype(np.float32), 60.0)
    found, thresholds = combine(Volume(density.astype(np.float32), 60.0), xtm, still, np.ones(shape, bool))
    assert 0.25 < thresholds["pore_below_density"] < 0.36
    assert 45 < thresholds["absorbing_above_ratio"] < 110
    scores = [2 * ((found == k) & (labels == k)).sum() / ((found == k).sum() + (labels == k).sum()) for k in range(4)]
    assert min(scores[:2]) > 0.9
    assert min(scores[2:]) > 0.6


def test_a_binder_coat_is_not_taken_for_the_silicon_particle_below_it():
    shape = (60, 70, 70)
    rng = np.random.default_rng(8)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    labels, density = np.full(shape, PORE, np.uint8), np.zeros(shape)
    labels[:, :, 48:] = GRAPHITE
    density[:, :, 48:] = 0.61
    for centre, own in zip(((16, 16, 18), (44, 16, 26), (16, 50, 26), (44, 50, 18)), (0.60, 0.64, 0.68, 0.66)):
        distance = np.linalg.norm(places - np.array(centre), axis=-1)
        for phase, value, radius in ((CBD, 0.72, 14), (SILICON, own, 10)):
            labels[distance < radius], density[distance < radius] = phase, value
    grains = gaussian_filter(rng.standard_normal(shape), 1.5)
    density += 0.2 * grains / grains.std() * (labels == CBD)
    absorption = gaussian_filter(np.array([0, 22.0, 83.0, 85.0])[labels], 0.8) + 30 * rng.standard_normal(shape)
    density = gaussian_filter(density, 0.8) + 0.01 * rng.standard_normal(shape)
    still = RigidTransform(np.eye(3), np.zeros(3))
    xtm = Volume(absorption.astype(np.float32), 60.0)
    found, _ = combine(Volume(density.astype(np.float32), 60.0), xtm, still, np.ones(shape, bool))
    scores = [2 * ((found == k) & (labels == k)).sum() / ((found == k).sum() + (labels == k).sum()) for k in range(4)]
    assert min(scores) > 0.8


def test_tomograms_that_cannot_overlap_are_refused():
    volume = Volume(np.ones((8, 8, 8), np.float32), 60.0)
    with pytest.raises(ValueError, match="overlap"):
        combine(volume, volume, RigidTransform(np.eye(3), np.full(3, 1e6)), np.ones((8, 8, 8), bool))
