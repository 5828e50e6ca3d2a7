import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from batseg.tomography.projection import PAIRS_AT_ONCE, ParallelBeam, angle_weights, filter_response


def smooth_slices(size: int, count: int = 3, seed: int = 0) -> np.ndarray:
    """Random blobs in the middle half of the slices."""
    slices = np.zeros((count, size, size), np.float32)
    middle = slice(size // 4, 3 * size // 4)
    slices[:, middle, middle] = np.random.default_rng(seed).random(slices[:, middle, middle].shape)
    return gaussian_filter(slices, (0, 2.5, 2.5))


def relative(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first - second) / np.linalg.norm(second))


@pytest.mark.parametrize("backend", ["nufft", "astra"])
@pytest.mark.parametrize(("size", "columns", "axis"), [(32, 32, None), (33, 33, 14.3), (32, 37, 17.6)])
def test_back_projection_is_the_adjoint_of_projection(backend, size, columns, axis):
    rng = np.random.default_rng(1)
    jitter = (columns - 1) / 2 if axis is None else axis + rng.normal(0, 0.5, 23)
    beam = ParallelBeam(size, np.linspace(0, np.pi, 23), jitter, backend, columns)
    slices = rng.random((3, size, size)).astype(np.float32)
    sinograms = rng.random((3, 23, columns)).astype(np.float32)
    left = np.vdot(beam.project(slices).astype(float), sinograms)
    right = np.vdot(slices.astype(float), beam.backproject(sinograms))
    assert left == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize(("size", "axis"), [(64, None), (65, 30.3)])
def test_nufft_agrees_with_astras_linear_projector_within_half_a_percent(size, axis):
    angles = np.linspace(0, np.pi, 60, endpoint=False)
    slices = smooth_slices(size)
    ours, astra = (ParallelBeam(size, angles, axis, backend).project(slices) for backend in ("nufft", "astra"))
    assert relative(ours, astra) < 0.005


@pytest.mark.parametrize("backend", ["nufft", "astra"])
def test_a_disc_projects_onto_its_chords_where_the_convention_says(backend):
    size, radius, place = 128, 20.0, (14.0, 9.0)  # x to the right, y upwards
    fine = (np.arange(8 * size) + 0.5) / 8 - 0.5 - (size - 1) / 2
    disc = (fine[None] - place[0]) ** 2 + (-fine[:, None] - place[1]) ** 2 < radius**2
    slices = disc.reshape(size, 8, size, 8).mean(axis=(1, 3), dtype=np.float32)[None]
    angles, axis = np.deg2rad([0.0, 30.0, 90.0, 200.0]), 61.7
    sinogram = ParallelBeam(size, angles, axis, backend).project(slices)[0]
    centre = axis + place[0] * np.cos(angles) + place[1] * np.sin(angles)
    chords = 2 * np.sqrt(np.maximum(radius**2 - (np.arange(size) - centre[:, None]) ** 2, 0))
    assert relative(sinogram, chords) < 0.03
    assert sinogram.sum(axis=1) == pytest.approx(slices.sum(), rel=0.005)


@pytest.mark.parametrize("degrees", [180.0, 360.0])
def test_fbp_returns_the_slice_with_axis_off_centre_and_jitter(degrees):
    angles = np.deg2rad(np.linspace(0, degrees, 241))
    axis = 34.2 + np.random.default_rng(2).normal(0, 0.5, 241)
    slices = smooth_slices(64)
    beam = ParallelBeam(64, angles, axis)
    assert relative(beam.fbp(beam.project(slices)), slices) < 0.002


def test_fbp_error_is_not_above_astras():
    angles, slices = np.linspace(0, np.pi, 90, endpoint=False), smooth_slices(64)
    sinograms = ParallelBeam(64, angles, backend="astra").project(slices)
    errors = [relative(ParallelBeam(64, angles, backend=name).fbp(sinograms), slices) for name in ("nufft", "astra")]
    assert errors[0] <= errors[1]


def test_an_odd_number_of_slices_and_a_single_one_give_what_many_give():
    beam, slices = ParallelBeam(32, np.linspace(0, np.pi, 20)), smooth_slices(32, 5)
    assert beam.project(slices[2:3]) == pytest.approx(beam.project(slices)[2:3], abs=1e-3)
    assert beam.fbp(beam.project(slices))[4] == pytest.approx(beam.fbp(beam.project(slices[4:]))[0], abs=1e-4)


def test_more_slices_than_one_group_give_what_they_give_one_by_one():
    slices = np.random.default_rng(0).random((2 * PAIRS_AT_ONCE + 5, 20, 20), np.float32)
    beam = ParallelBeam(20, np.linspace(0, np.pi, 15))
    sinograms = beam.project(slices)
    for operate, stack in ((beam.project, slices), (beam.backproject, sinograms), (beam.fbp, sinograms)):
        singly = np.concatenate([operate(each[None]) for each in stack])
        assert np.abs(operate(stack) - singly).max() < 1e-3 * np.abs(singly).max()


def test_angles_weigh_as_much_as_their_arc():
    assert angle_weights(np.linspace(0, np.pi, 10, endpoint=False)) == pytest.approx(np.pi / 10)
    both_ends = angle_weights(np.linspace(0, np.pi, 11))
    assert both_ends[0] == pytest.approx(both_ends[5] / 2)
    assert both_ends.sum() == pytest.approx(np.pi)
    wedge = angle_weights(np.deg2rad(np.arange(0, 120, 1.0)))
    assert wedge.max() < 2 * np.deg2rad(1)


def test_the_ramp_filter_keeps_no_mean_and_doubles_with_frequency():
    ramp = filter_response(512)
    assert ramp[0] == pytest.approx(0, abs=1e-3)
    assert ramp[128] == pytest.approx(0.25, abs=1e-3)
    assert (filter_response(512, "hann", 0.5)[129:384] == 0).all()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="outside"):
        ParallelBeam(32, [0.0, 1.0], axis=40)
    with pytest.raises(ValueError, match="backend"):
        ParallelBeam(32, [0.0], backend="gpu")
    with pytest.raises(ValueError, match="shape"):
        ParallelBeam(32, [0.0]).project(np.zeros((1, 31, 32)))
    with pytest.raises(ValueError, match="filter"):
        filter_response(32, "sharp")
