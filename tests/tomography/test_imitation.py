from dataclasses import replace

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.ndimage import gaussian_filter

from batseg.command import CONF
from batseg.tomography.detector import Beam, Detector
from batseg.tomography.estimates import estimate_detector
from batseg.tomography.gap import gap, patch_starts, power_spectrum
from batseg.tomography.imitation import Effort, as_ranges, first_conditions, imitate_tomogram, write_ranges
from batseg.tomography.matching import fit_conditions, plain_tomogram, with_values
from batseg.tomography.scan import Imaging, Motion, ScanConditions, draw_conditions, middle_conditions, simulate_scan
from batseg.tomography.synthetic import cylinder_mask
from batseg.volumes import InputError, Volume


def blocky_cylinder(rows=24, columns=96, diameter=68, seed=0):
    """A cylinder of cubes of the four phases, 8 voxels wide."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(4, (rows // 8, columns // 8, columns // 8), p=[0.5, 0.35, 0.07, 0.08]).astype(np.uint8)
    labels = coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)
    labels[:, ~cylinder_mask(columns, diameter)] = 255
    return labels


def test_beam_and_detector_are_read_off_a_raw_scan():
    truth = ScanConditions(
        motion=Motion(angles=60),
        beam=Beam(cloud_spread=0.04, cloud_px=7, cloud_modes=10, flux_spread=0.006, flat_cloud_share=0.4),
        detector=Detector(photons=20000, read_noise=3, zingers_per_frame=0.8),
    )
    scan = simulate_scan(blocky_cylinder(rows=64), 61.0, truth, np.random.default_rng(0))
    beam, detector = estimate_detector(scan)
    assert detector.photons == pytest.approx(20000, rel=0.12)
    assert detector.read_noise == pytest.approx(3, rel=0.1)
    assert detector.counts == pytest.approx(3300, rel=0.1)
    assert detector.dark_counts == pytest.approx(100, abs=1)
    assert detector.dead_fraction == pytest.approx(6e-4, rel=0.8)
    assert detector.zingers_per_frame == pytest.approx(0.8, rel=0.5)
    assert beam.cloud_spread == pytest.approx(0.04, rel=0.35)
    assert beam.flat_cloud_share == pytest.approx(0.4, rel=0.4)
    assert 3 < beam.cloud_px < 15


def test_estimates_refuse_frames_too_small_to_tell_scales_apart():
    scan = simulate_scan(
        blocky_cylinder(rows=8, columns=40, diameter=24), 61.0, ScanConditions(), np.random.default_rng(0)
    )
    with pytest.raises(ValueError, match="too small"):
        estimate_detector(scan)


def test_gap_is_a_half_for_equals_and_one_for_another_texture():
    rng = np.random.default_rng(0)
    mask = np.ones((24, 80, 80), bool)
    first, second = rng.standard_normal((2, *mask.shape)).astype(np.float32)
    assert gap(first, second, mask, repeats=3).auc == pytest.approx(0.5, abs=0.17)
    assert gap(first, 7 + 5 * second, mask, repeats=3).auc == pytest.approx(0.5, abs=0.17)  # units do not matter
    assert gap(first, gaussian_filter(second, 0.4), mask, repeats=3).auc > 0.95


def test_power_spectrum_of_white_noise_is_flat_at_its_variance():
    noise = 3 * np.random.default_rng(0).standard_normal((24, 64, 64)).astype(np.float32)
    mask = np.broadcast_to(cylinder_mask(64, 60), noise.shape)
    _, power = power_spectrum(noise, mask)
    assert np.abs(power[6:] / 9 - 1).max() < 0.1


def test_patches_lie_inside_the_sample_and_a_sample_too_small_is_named():
    mask = np.broadcast_to(cylinder_mask(64, 50), (24, 64, 64))
    starts = patch_starts(mask, (12, 12, 12))
    assert all(mask[z : z + 12, y : y + 12, x : x + 12].mean() >= 0.95 for z, y, x in starts)
    with pytest.raises(ValueError, match="smaller ones"):
        patch_starts(mask, (12, 60, 60))


@pytest.mark.slow
def test_the_fit_finds_defocus_and_blur_of_a_scan_of_a_similar_structure():
    truth = ScanConditions(
        imaging=Imaging(defocus_um=12.0, blur_nm=60.0, defocus_spread=0.05),
        motion=Motion(angles=140),
        detector=Detector(photons=60000, scratches=0),
    )
    scan = simulate_scan(blocky_cylinder(seed=1), 61.0, truth, np.random.default_rng(1))
    measured = plain_tomogram(scan, (scan.shape[2] - 1) / 2)
    structure = blocky_cylinder(seed=2)
    inside = structure != 255
    start = with_values(truth, {"imaging.defocus_um": 6.0, "imaging.blur_nm": 85.0})

    def simulate(trial):
        imitated = simulate_scan(structure, 61.0, trial, np.random.default_rng(7))
        return plain_tomogram(imitated, (scan.shape[2] - 1) / 2), inside

    names = ("imaging.defocus_um", "imaging.blur_nm")
    found, report = fit_conditions(measured, inside, simulate, start, names, rounds=4)
    assert report["misfit"] < 0.7 * report["misfit_start"]
    assert found.imaging.defocus_um == pytest.approx(12, rel=0.15)
    assert found.imaging.blur_nm == pytest.approx(60, rel=0.12)


def test_of_a_tomogram_only_the_compared_slices_must_be_finite():
    labels = blocky_cylinder(rows=24)
    tomogram = np.where(labels == 255, 0, labels) + np.random.default_rng(0).normal(0, 0.1, labels.shape)
    tomogram[:2] = np.nan
    ranges = OmegaConf.to_container(OmegaConf.load(CONF / "scan" / "txm_8kev_61nm.yaml"))
    start = with_values(middle_conditions(ranges), {"motion.angles": 60})
    effort = Effort(same_structure=True, fitted=["imaging.blur_nm"], rows=16, rounds=1)
    made = imitate_tomogram(Volume(tomogram, 61.0), labels, start, effort)
    assert made.measured.shape == (16, *labels.shape[1:])
    tomogram[12, 40, 40] = np.nan
    with pytest.raises(InputError, match="mine: 1 voxels are NaN"):
        imitate_tomogram(Volume(tomogram, 61.0), labels, start, effort, name="mine")


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match=r"motion\.flats"):
        fit_conditions(np.zeros((1, 1, 1)), None, None, ScanConditions(), ("motion.flats",))


def test_ranges_hold_what_was_found_and_can_be_drawn_from():
    found = [
        ScanConditions(imaging=Imaging(defocus_um=each), motion=Motion(angles=count))
        for each, count in ((8.0, 241), (12.0, 301))
    ]
    ranges = as_ranges(found, widen=0.1)
    assert ranges["imaging"]["defocus_um"] == [7.2, 13.2]
    assert ranges["motion"]["angles"] == [241, 301]
    assert ranges["imaging"]["energy_kev"] == 8.4
    text = write_ranges(ranges, ["a comment"])
    assert text.startswith("# a comment\n")
    read = OmegaConf.to_container(OmegaConf.create(text))
    assert 7.2 <= draw_conditions(read, np.random.default_rng(0)).imaging.defocus_um <= 13.2
    assert middle_conditions(read).motion.angles == 271


def test_a_scan_says_its_angles_axis_and_energy():
    scan = simulate_scan(
        blocky_cylinder(), 61.0, ScanConditions(motion=Motion(angles=41, rotation_deg=170)), np.random.default_rng(0)
    )
    known = first_conditions(replace(scan, energy_kev=9.0), ScanConditions(), axis=49.5)
    assert known.motion.angles == 41
    assert known.motion.rotation_deg == pytest.approx(170)
    assert known.motion.axis_offset_px == pytest.approx(2.0)
    assert known.imaging.energy_kev == 9.0


@pytest.mark.parametrize("path", sorted((CONF / "scan").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_scan_configuration_names_every_condition_and_can_be_drawn(path):
    ranges = OmegaConf.to_container(OmegaConf.load(path))
    conditions = draw_conditions(ranges, np.random.default_rng(0))
    named = {group: set(entries) for group, entries in ranges.items()}
    conditions = {group: set(values) for group, values in conditions.record().items()}
    del conditions["ptychography"]  # of the sample's PXCT, which a scan may lack; a group more would change all draws
    assert named == conditions
