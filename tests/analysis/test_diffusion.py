"""The diffusion solver against closed forms, a direct solution and TauFactor."""

import numpy as np
import pytest
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import spsolve

from batseg.analysis.diffusion import solve_diffusion
from batseg.analysis.transport import conductors, transport_rows

EXACT = 1e-9


def blobs(shape, sigma, seed=0, fraction=0.5):
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return (field > np.quantile(field, 1 - fraction)).astype(np.uint8)


def direct_solution(codes, conductivity):
    """D_rel along z by a sparse direct solution of the same finite volumes, written out face by face."""
    depth, height, width = codes.shape
    number = np.arange(codes.size).reshape(codes.shape)
    given = np.asarray(conductivity, float)[codes]
    matrix = sparse.lil_matrix((codes.size, codes.size))
    right = np.zeros(codes.size)

    def join(i, j, a, b):
        if a > 0 and b > 0:
            w = 2 * a * b / (a + b)
            matrix[i, i] += w
            matrix[j, j] += w
            matrix[i, j] -= w
            matrix[j, i] -= w

    for axis in range(3):
        first = np.moveaxis(number, axis, 0)[:-1].ravel()
        second = np.moveaxis(number, axis, 0)[1:].ravel()
        for i, j in zip(first, second):
            join(i, j, given.flat[i], given.flat[j])
    for i in number[0].ravel():
        matrix[i, i] += 2 * given.flat[i]
        right[i] += 2 * given.flat[i]
    for i in number[-1].ravel():
        matrix[i, i] += 2 * given.flat[i]
    matrix.setdiag(matrix.diagonal() + 1e-30 + (given.ravel() == 0))
    field = spsolve(matrix.tocsc(), right)
    flux = sum(2 * given.flat[i] * (1 - field[i]) for i in number[0].ravel())
    return flux * depth / (height * width)


def test_an_open_box_conducts_fully():
    found = solve_diffusion(np.zeros((20, 7, 9), np.uint8), [1.0])
    assert found.d_rel == pytest.approx(1.0, abs=1e-6)
    assert (found.conducting, found.unconnected) == (1.0, 0.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_layers_conduct_by_the_harmonic_mean_across_and_the_mean_along(axis):
    layers = np.zeros((24, 10, 12), np.uint8)
    layers[7:15] = 1
    expected = 24 / (16 + 8 / 0.1) if axis == 0 else (16 + 8 * 0.1) / 24
    assert solve_diffusion(layers, [1.0, 0.1], axis, EXACT).d_rel == pytest.approx(expected, rel=1e-6)


def test_straight_channels_conduct_by_their_area():
    codes = np.zeros((40, 20, 20), np.uint8)
    codes[:, 3:9, 4:8] = codes[:, 15, 15] = 1
    assert solve_diffusion(codes, [0.0, 1.0], 0, EXACT).d_rel == pytest.approx((24 + 1) / 400, rel=1e-6)


def test_a_random_medium_agrees_with_the_direct_solution():
    codes = blobs((13, 11, 12), 1.2) + 2 * blobs((13, 11, 12), 1.2, seed=1)
    conductivity = [0.0, 1.0, 0.3, 0.05]
    expected = direct_solution(codes, conductivity)
    assert solve_diffusion(codes, conductivity, 0, EXACT).d_rel == pytest.approx(expected, rel=1e-7)


def test_the_flux_is_the_same_through_every_slice_of_the_field():
    codes = blobs((40, 40, 40), 2.0)
    found = solve_diffusion(codes, [0.0, 1.0], 1, EXACT, keep_field=True)
    fluxes = -np.nansum(np.diff(found.field, axis=1), axis=(0, 2)) * 40 / 1600
    assert fluxes == pytest.approx(np.full(39, found.d_rel), rel=1e-6)


def test_the_paper_tolerance_costs_less_than_a_thousandth():
    codes = blobs((48, 48, 48), 1.5)
    loose, tight = (solve_diffusion(codes, [0.0, 1.0], 0, limit) for limit in (1e-3, EXACT))
    assert loose.d_rel == pytest.approx(tight.d_rel, rel=5e-4)
    assert loose.iterations < tight.iterations <= 40


def test_nothing_connected_is_zero_and_says_so():
    codes = np.ones((10, 10, 10), np.uint8)
    codes[5] = 0
    found = solve_diffusion(codes, [0.0, 1.0])
    assert (found.d_rel, found.unconnected) == (0.0, 1.0)


def test_isolated_pores_carry_nothing_and_are_counted():
    codes = np.zeros((20, 20, 20), np.uint8)
    codes[:, :5, :5] = 1
    codes[8:10, 12:14, 12:14] = 1
    found = solve_diffusion(codes, [0.0, 1.0], tolerance=EXACT)
    assert found.d_rel == pytest.approx(25 / 400, rel=1e-6)
    assert found.unconnected == pytest.approx(8 / 508)


def test_one_voxel_between_the_ends_is_refused():
    with pytest.raises(ValueError, match="at least 2 voxels"):
        solve_diffusion(np.zeros((1, 5, 5), np.uint8), [1.0])


def test_tortuosity_is_porosity_over_transport_and_cbd_conducts_as_told():
    labels = np.full((16, 8, 8), 1, np.uint8)
    labels[:, :4, :4], labels[:, 4:, :4] = 0, 3  # a quarter pore, a quarter CBD, all along z
    rows = {
        row["conductor"]: row
        for row in transport_rows(labels, 61.0, directions="z", downscale=[2], tolerance=[EXACT], cbd_diffusivity=0.14)
    }
    assert rows["pore"]["D_rel"] == pytest.approx(0.25)
    assert rows["pore+cbd"]["D_rel"] == pytest.approx(0.5)
    assert rows["pore+porous_cbd"]["D_rel"] == pytest.approx(0.25 + 0.14 * 0.25)
    assert rows["pore"]["tau_factor"] == pytest.approx(1.0)
    assert rows["pore+porous_cbd"]["epsilon"] == pytest.approx(0.25 + 0.27 * 0.25)
    assert rows["pore"]["voxel_nm"] == 122.0


def test_transport_of_an_absent_conductor_is_nan_and_of_a_cut_one_infinite_tau():
    solid = np.ones((8, 8, 8), np.uint8)
    rows = list(transport_rows(solid, 61.0, directions="z"))
    assert all(np.isnan(row["D_rel"]) for row in rows)
    solid[0] = 0
    first = next(transport_rows(solid, 61.0, directions="z", downscale=[1]))
    assert first["D_rel"] == 0.0
    assert np.isinf(first["tau_factor"])


def test_the_porous_conductor_lies_between_the_two_others():
    with pytest.raises(ValueError, match="0 to 1"):
        conductors(1.5)


@pytest.mark.slow
def test_agrees_with_taufactor_on_a_random_medium():
    taufactor = pytest.importorskip("taufactor", reason="TauFactor is not installed: pip install '.[bench]'")
    codes = blobs((64, 64, 64), 2.0)
    peer = taufactor.Solver(codes, device="cpu")
    peer.solve(conv_crit=1e-4, verbose=False)
    assert solve_diffusion(codes, [0.0, 1.0]).d_rel == pytest.approx(float(peer.D_rel[0]), rel=3e-3)


def test_the_gpu_stencil_gives_the_same_numbers(monkeypatch):
    monkeypatch.setattr("batseg.analysis.stencil_gpu.CPU_BELOW", 2000)
    codes = blobs((27, 22, 31), 1.5) + 2 * blobs((27, 22, 31), 1.5, seed=1)
    conductivity = [0.0, 1.0, 0.3, 0.05]
    compiled, torch = (solve_diffusion(codes, conductivity, 2, 1e-7, device=device) for device in (None, "cpu"))
    assert torch.d_rel == pytest.approx(compiled.d_rel, rel=1e-7)
    assert torch.iterations == compiled.iterations
