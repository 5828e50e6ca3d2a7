from dataclasses import replace

import numpy as np
import pytest

from batseg.tomography.detector import Beam, Detector, cloud_modes, draw_response, expose, frames_of_light
from batseg.tomography.optics import Optics, propagate, transmission
from batseg.tomography.scan import Imaging, Motion, ScanConditions, draw_conditions, scan_angles, simulate_scan
from batseg.tomography.synthetic import cylinder_mask, embed, turn_cylinder

QUIET = ScanConditions(
    imaging=Imaging(defocus_um=0, defocus_spread=0, blur_nm=0),
    motion=Motion(angles=12, jitter_px=0, flats=4, darks=2),
    beam=Beam(
        falloff=0,
        band_spread=0,
        patch_spread=0,
        drift_spread=0,
        shift_px=0,
        shift_drift_px=0,
        flux_spread=0,
        cloud_spread=0,
    ),
    detector=Detector(
        photons=1e9,
        counts=3e4,
        read_noise=0,
        pixel_spread=0,
        scratches=0,
        dead_fraction=0,
        hot_fraction=0,
        zingers_per_frame=0,
    ),
)


def disc_labels(phase=2, columns=48, diameter=30, rows=6):
    labels = np.full((rows, columns, columns), 255, np.uint8)
    labels[:, cylinder_mask(columns, diameter)] = phase
    return labels


def test_without_optics_and_noise_a_scan_is_beer_lambert():
    labels = disc_labels()
    scan = simulate_scan(labels, 1000.0, QUIET, np.random.default_rng(0))
    _, beta = QUIET.composition.phase_indices(8.4)
    open_beam = scan.white.mean(0) - scan.dark.mean(0)
    measured = -np.log((scan.data - scan.dark.mean(0)) / open_beam)[:, 3].mean(0)
    chord = 2 * np.sqrt(np.maximum(15**2 - (np.arange(48) - 23.5) ** 2, 0))
    expected = 4 * np.pi / 0.14760 * beta[2] * 1000.0 * chord
    assert np.abs(measured - expected)[12:36].max() < 0.03 * expected.max()


def test_defocus_brightens_the_inside_of_an_edge_and_keeps_the_mean():
    x = np.arange(128) - 63.5
    delta_path = np.broadcast_to(np.where(np.abs(x) < 20, 30.0e-3, 0.0), (1, 64, 128)).astype(np.float32)
    image = transmission(delta_path, 0 * delta_path, Optics(8.4, 60.0, defocus_nm=10_000, blur_nm=60))[0, 32]
    assert image[:64].argmax() < image[:64].argmin()  # phase retarding: bright outside, dark inside the edge
    assert image.max() > 1.01
    assert image.mean() == pytest.approx(1, abs=1e-3)


def test_propagation_of_a_single_phase_grating_follows_the_contrast_transfer_function():
    pixel, period, distance, depth = 50.0, 16, 20_000.0, 1e-3
    x = np.arange(64)
    phase = depth * np.cos(2 * np.pi * x / period)
    wave = np.exp(-1j * np.broadcast_to(phase, (64, 64)))
    intensity = np.abs(propagate(wave, pixel, 8.4, distance)) ** 2
    chi = np.pi * 0.14760 * distance / (period * pixel) ** 2
    amplitude = 2 * np.mean((intensity[0] - 1) * np.cos(2 * np.pi * x / period))
    assert amplitude == pytest.approx(-2 * depth * np.sin(chi), rel=1e-3)


def test_the_same_seed_gives_the_same_scan_whatever_the_threads():
    labels = disc_labels(columns=32, diameter=20, rows=4)
    first, second = (
        simulate_scan(labels, 61.0, ScanConditions(motion=Motion(angles=20)), np.random.default_rng((3, 1)), threads=n)
        for n in (1, 2)
    )
    different = simulate_scan(labels, 61.0, ScanConditions(motion=Motion(angles=20)), np.random.default_rng((3, 2)))
    # threads may change the last digit of a path, never a draw: counts differ by one at most, at rounding
    assert np.abs(first.data.astype(int) - second.data).max() <= 1
    assert np.abs(first.data.astype(int) - different.data).max() > 20
    assert first.data.dtype == np.uint16


def test_photon_noise_has_the_variance_of_the_photons():
    detector = Detector(
        photons=900,
        counts=1800,
        read_noise=0,
        pixel_spread=0,
        scratches=0,
        dead_fraction=0,
        hot_fraction=0,
        zingers_per_frame=0,
    )
    rng = np.random.default_rng(0)
    frames = expose(
        np.ones((40, 30, 30), np.float32), np.zeros(40), detector, draw_response((30, 30), detector, rng), rng
    )
    assert frames.mean() == pytest.approx(1900, rel=0.01)
    assert frames.std() / 1800 == pytest.approx(1 / 30, rel=0.05)


def test_background_is_mixed_anew_in_every_projection_from_few_smooth_modes():
    beam = replace(QUIET.beam, cloud_spread=0.05, cloud_px=6, cloud_modes=8)
    rng, even = np.random.default_rng(0), np.ones((40, 40), np.float32)
    light = frames_of_light(np.zeros(200), even, even, cloud_modes((40, 40), beam, rng), beam, rng)
    assert light.std() == pytest.approx(0.05, rel=0.2)
    assert abs(np.corrcoef(light[:-1].ravel(), light[1:].ravel())[0, 1]) < 0.05
    assert np.corrcoef(light[:, 1:].ravel(), light[:, :-1].ravel())[0, 1] > 0.9
    singular = np.linalg.svd((light - 1).reshape(200, -1), compute_uv=False)
    assert singular[7] > 1e3 * singular[8]


def test_a_moving_beam_moves_its_bands():
    rows = np.arange(60)
    bands = np.repeat((1 + 0.2 * np.sin(rows / 3))[:, None], 40, axis=1).astype(np.float32)
    beam = replace(QUIET.beam, shift_drift_px=0.6)
    first, last = frames_of_light(
        np.array([0.0, 1.0]), bands, bands, np.zeros((0, 60, 40), np.float32), beam, np.random.default_rng(0)
    )
    moved = 1 + 0.2 * np.sin((rows + 0.6) / 3)
    assert np.abs(last / first - (moved / bands[:, 0])[:, None]).max() < 0.01


def test_jitter_moves_projections_and_the_offset_moves_the_axis():
    labels = disc_labels()
    moved = replace(QUIET, motion=replace(QUIET.motion, axis_offset_px=3.0))
    still, shifted = (
        -np.log(simulate_scan(labels, 1000.0, each, np.random.default_rng(0)).data / 3e4)[:, 3]
        for each in (QUIET, moved)
    )
    columns = np.arange(48)
    centres = [np.average(columns, weights=np.clip(line[0], 1e-6, None) - line[0].min()) for line in (still, shifted)]
    assert centres[1] - centres[0] == pytest.approx(3.0, abs=0.1)


def test_conditions_are_drawn_inside_their_ranges_and_mistakes_are_named():
    ranges = {"motion": {"angles": [241, 361]}, "imaging": {"defocus_um": [5, 10], "blur_nm": 50}}
    drawn = [draw_conditions(ranges, np.random.default_rng((0, i))) for i in range(50)]
    assert all(241 <= each.motion.angles <= 361 and 5 <= each.imaging.defocus_um <= 10 for each in drawn)
    assert len({each.motion.angles for each in drawn}) > 20
    assert {each.imaging.blur_nm for each in drawn} == {50.0}
    with pytest.raises(ValueError, match=r"imaging\.blurr_nm"):
        draw_conditions({"imaging": {"blurr_nm": 3}}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="low, high"):
        draw_conditions({"imaging": {"blur_nm": [3, 1]}}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="group"):
        draw_conditions({"optic": {}}, np.random.default_rng(0))


def test_angles_include_both_ends_and_leave_out_the_missing_wedge():
    angles = np.rad2deg(scan_angles(Motion(angles=181)))
    assert angles[0] == 0
    assert angles[-1] == pytest.approx(180)
    wedge = np.rad2deg(scan_angles(Motion(angles=181, missing_wedge_deg=10)))
    assert not ((wedge > 85.01) & (wedge < 94.99)).any()
    assert len(wedge) == 181 - 9


def test_a_block_is_embedded_in_a_cylinder_and_found_again():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (5, 20, 24)).astype(np.uint8)
    cylinder, inner = embed(labels)
    assert (cylinder[inner] == labels).all()
    assert cylinder.shape[1] == cylinder.shape[2]
    assert (cylinder[:, 0] == 255).all()
    inside = cylinder[:, cylinder_mask(cylinder.shape[1], np.hypot(20, 24))]
    assert (inside != 255).all()
    with pytest.raises(ValueError, match="does not fit"):
        turn_cylinder(labels, 50, 40)


def test_labels_that_are_not_square_in_plane_are_refused():
    with pytest.raises(ValueError, match="equal length"):
        simulate_scan(np.zeros((4, 8, 9), np.uint8), 61.0, QUIET, np.random.default_rng(0))
