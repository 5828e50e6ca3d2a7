import json
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from batseg.tomography.alignment import FRAMES_AT_ONCE, Alignment, align, line_integrals, shift_rows
from batseg.tomography.centre import mirror_axis, moment_axis
from batseg.tomography.exchange import Scan, write_scan
from batseg.tomography.projection import ParallelBeam
from batseg.tomography.reconstruction import (
    area_weights,
    crop_volume,
    examine,
    half_scan,
    reconstruct,
    reconstruct_slabs,
)
from batseg.volumes import InputError, read_volume

SIZE, ROWS, ANGLES, AXIS, RADIUS = 56, 20, 121, 29.3, 22


@cache
def sample() -> np.ndarray:
    """A cylinder of grains (row, size, size) in absorption per pixel."""
    rng = np.random.default_rng(0)
    grains = gaussian_filter(rng.standard_normal((ROWS, SIZE, SIZE)), 1.5) > 0
    distance = np.hypot(*np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2)
    return gaussian_filter(4e-4 + 1.2e-3 * grains, (0.5, 0.7, 0.7)) * (distance < RADIUS)


@cache
def movement() -> tuple[np.ndarray, np.ndarray]:
    """Shifts (angle,) in columns, without mean and turning part, and in rows."""
    angles, rng = np.linspace(0, np.pi, ANGLES), np.random.default_rng(1)
    turning = np.column_stack([np.ones(ANGLES), np.cos(angles), np.sin(angles)])
    columns, rows = rng.normal(0, 0.35, (2, ANGLES))
    return columns - turning @ np.linalg.lstsq(turning, columns, rcond=None)[0], rows - rows.mean()


@cache
def raw_scan() -> Scan:
    """The sample as a detector records it: moving sample, flickering structured light, bad pixels, hits, noise."""
    rng = np.random.default_rng(2)
    angles, (columns, rows) = np.linspace(0, np.pi, ANGLES), movement()
    lines = ParallelBeam(SIZE, angles, AXIS + columns).project(sample()).transpose(1, 0, 2)
    lines = shift_rows(np.ascontiguousarray(lines), -rows)
    patterns = gaussian_filter(rng.standard_normal((4, ROWS, SIZE)), (0, 5, 7))
    patterns *= 0.01 / patterns.std(axis=(1, 2), keepdims=True)
    light = 4000 * (1 + gaussian_filter(rng.standard_normal((ROWS, SIZE)), 3))

    def exposures(transmission: np.ndarray) -> np.ndarray:
        beam = light * (1 + np.tensordot(rng.normal(0, 1, (len(transmission), 4)), patterns, 1))
        counts = rng.poisson(20 * beam * transmission) / 20 + 100
        counts[:, 5, 17] = 100
        return counts

    data, white = exposures(np.exp(-lines)), exposures(np.ones((20, ROWS, SIZE)))
    data[7, 9, 30] += 4000
    dark = np.full((3, ROWS, SIZE), 100.0)
    after = np.arange(20) >= 10
    return Scan(data, white, dark, angles, after, 8.4, 61.0, 7.5e-6, "grains", {"number_of_cycles": 0})


@cache
def found():
    return examine(raw_scan())


def inside(volume: np.ndarray, margin: int = 3) -> np.ndarray:
    distance = np.hypot(*np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2)
    return volume[2:-2, distance < RADIUS - margin]


def test_many_frames_are_shifted_as_each_one_is():
    rng = np.random.default_rng(0)
    frames, shifts = rng.random((FRAMES_AT_ONCE + 3, 24, 10), np.float32), rng.normal(size=FRAMES_AT_ONCE + 3)
    singly = np.concatenate([shift_rows(frames[i : i + 1], shifts[i : i + 1]) for i in range(len(frames))])
    assert np.allclose(shift_rows(frames, shifts), singly, atol=1e-5)


def test_axis_and_movement_are_found_to_a_tenth_of_a_pixel_and_the_methods_agree():
    numbers, alignment = found().numbers, found().alignment
    assert alignment.axis == pytest.approx(AXIS, abs=0.1)
    assert numbers["axis_by_method"]["opposite_projections"] == pytest.approx(alignment.axis, abs=0.1)
    columns, rows = movement()
    assert np.std(alignment.shift_columns - columns) < 0.15
    assert np.std(alignment.shift_rows - rows) < 0.15
    assert alignment.radius == pytest.approx(RADIUS, abs=2)


def test_the_tomogram_matches_the_sample_in_units_and_place_better_than_without_corrections():
    truth = inside(sample()) * 1e7 / 61
    errors = {}
    for name, volume in {
        "all": reconstruct(raw_scan(), found(), stripes="none"),
        "plain": reconstruct(raw_scan(), illumination=False, move=False, axis=AXIS, stripes="none"),
    }.items():
        image = gaussian_filter(volume.array, 0.8)
        assert volume.shape == (ROWS, SIZE, SIZE)
        errors[name] = 1 - np.corrcoef(inside(image).ravel(), truth.ravel())[0, 1]
        if name == "all":
            assert inside(volume.array).mean() == pytest.approx(truth.mean(), rel=0.25)
            assert volume.voxel_nm == 61
    assert errors["all"] < 0.1
    assert errors["all"] < 0.85 * errors["plain"]


def test_slabs_are_the_whole_in_parts():
    whole = reconstruct(raw_scan(), found(), stripes="none").array
    parts = list(reconstruct_slabs(raw_scan(), found(), stripes="none", slab_rows=6))
    assert [first for first, _ in parts] == [0, 6, 12, 18]
    assert np.concatenate([slab for _, slab in parts]) == pytest.approx(whole, abs=2.0)


def test_binning_by_any_factor_keeps_the_mean_and_the_middle():
    binned = reconstruct(raw_scan(), found(), binning=2.22)
    assert binned.shape == (9, 25, 25)
    assert binned.voxel_nm == pytest.approx(61 * 2.22)
    full = reconstruct(raw_scan(), found()).array
    assert binned.array[:, 8:17, 8:17].mean() == pytest.approx(full[:, 18:38, 18:38].mean(), rel=0.1)
    weights = area_weights(10, 2.5)
    assert weights.sum(axis=1) == pytest.approx(1)
    assert weights[1] * 2.5 == pytest.approx([0, 0, 0.5, 1, 1, 0, 0, 0, 0, 0])


def test_crops_stay_inside_the_sample():
    volume = reconstruct(raw_scan(), found())
    cube = crop_volume(volume, "cube", found())
    edge = cube.shape[1]
    assert cube.shape == (ROWS, edge, edge)
    assert edge / np.sqrt(2) <= found().alignment.radius < (edge + 2) / np.sqrt(2)
    assert (crop_volume(volume, "cylinder", found()).array[:, 0] == 0).all()


def test_half_scans_share_no_projection_and_both_show_the_sample():
    halves = [reconstruct(*half_scan(raw_scan(), found(), start)).array for start in (0, 1)]
    assert halves[0].shape == halves[1].shape
    fine = [inside(gaussian_filter(half, 1)) for half in halves]
    assert 0.5 < np.corrcoef(fine[0].ravel(), fine[1].ravel())[0, 1] < 0.999


def test_the_axis_is_found_without_opposite_projections_too():
    angles = np.linspace(0, 0.9 * np.pi, 90)
    sinograms = ParallelBeam(SIZE, angles, AXIS).project(sample())
    with pytest.raises(ValueError, match="opposite"):
        mirror_axis(sinograms, angles)
    assert moment_axis(sinograms, angles) == pytest.approx(AXIS, abs=0.05)


def test_a_full_turn_has_many_opposite_projections():
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    sinograms = ParallelBeam(SIZE, angles, AXIS).project(sample())
    assert mirror_axis(sinograms, angles) == pytest.approx(AXIS, abs=0.05)


def test_a_still_sample_in_steady_light_is_left_still():
    angles = np.linspace(0, np.pi, ANGLES)
    relative = np.exp(-ParallelBeam(SIZE, angles, AXIS).project(sample())).transpose(1, 0, 2)
    relative = relative * (1 + np.random.default_rng(3).normal(0, 0.002, relative.shape)).astype(np.float32)
    state = align(relative, np.zeros((0, ROWS, SIZE), np.float32), angles, AXIS, (2, 2, 1))
    assert isinstance(state, Alignment)
    assert state.axis == pytest.approx(AXIS, abs=0.1)
    assert state.shift_rows.std() < 0.1
    assert state.shift_columns.std() < 0.1
    assert line_integrals(relative, state).shape == (ROWS, ANGLES, SIZE)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({}, {"axis": 80.0}, "outside the 56 columns"),
        ({"data": np.zeros((ANGLES, ROWS, SIZE))}, {}, "all zero"),
        ({}, {"binning": 0.5}, "binning"),
        ({}, {"half_pass_nm": "strong"}, "half_pass_nm"),
    ],
)
def test_what_cannot_be_reconstructed_is_refused_in_one_line(change, settings, message):
    known = None if "axis" in settings or change else found()
    with pytest.raises(InputError, match=message):
        reconstruct(replace(raw_scan(), **change), known, **settings)


@pytest.mark.slow
def test_the_command_reconstructs_all_scans_of_a_pattern(tmp_path):
    for name in ("one", "two"):
        write_scan(tmp_path / f"{name}.h5", raw_scan())
    call = [sys.executable, "scripts/reconstruct.py", f"projections={tmp_path}/*.h5", f"out={tmp_path}/out"]
    subprocess.run(call, check=True)
    record = json.loads((tmp_path / "out/two.json").read_text())
    assert record["axis_column"] == pytest.approx(AXIS, abs=0.1)
    assert read_volume(tmp_path / "out/one.tif").shape == (ROWS, SIZE, SIZE)
    assert (tmp_path / "out/one.png").exists()
