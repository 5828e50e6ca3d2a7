import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from batseg.resolution import ShellCorrelation, inscribed_block, shell_correlation, threshold


def test_thresholds_take_the_closed_form_values_of_many_terms():
    many = np.array([1e12])
    assert threshold("half-bit", many)[0] == pytest.approx(0.2071 / 1.2071, abs=1e-4)
    assert threshold("one-bit", many)[0] == pytest.approx(1 / 3, abs=1e-4)
    assert threshold("0.143", many)[0] == 0.143
    assert threshold("half-bit", np.array([1.0]))[0] == pytest.approx(1.0)


def test_equal_volumes_agree_to_the_end_and_noise_nowhere():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 32, 32, 32))
    same = shell_correlation(first, first, 50.0)
    assert same.correlation == pytest.approx(1, abs=1e-5)
    assert same.resolution_nm() == 100
    other = shell_correlation(first, second, 50.0)
    assert np.abs(other.correlation[5:]).max() < 4 / np.sqrt(other.independent[5:].min())


def test_the_correlation_follows_signal_over_noise_shell_by_shell():
    rng = np.random.default_rng(1)
    signal = rng.standard_normal((48, 48, 48))
    halves = [signal + 0.7 * rng.standard_normal(signal.shape) for _ in range(2)]
    fsc = shell_correlation(*halves, 10.0)
    assert fsc.correlation[8:].mean() == pytest.approx(1 / (1 + 0.49), abs=0.02)


def test_a_blur_known_in_frequency_is_found_in_nm():
    rng = np.random.default_rng(2)
    sigma, voxel_nm, noise = 1.5, 61.0, 0.05
    signal = gaussian_filter(rng.standard_normal((64, 64, 64)), sigma, mode="wrap")
    halves = [signal + noise * rng.standard_normal(signal.shape) for _ in range(2)]
    fsc = shell_correlation(*halves, voxel_nm)
    # FSC = S / (S + N): 0.143 where exp(-4 pi^2 sigma^2 f^2) = noise^2 0.143 / 0.857
    frequency = np.sqrt(-np.log(noise**2 * 0.143 / 0.857)) / (2 * np.pi * sigma)
    assert fsc.resolution_nm("0.143") == pytest.approx(voxel_nm / frequency, rel=0.06)
    assert fsc.resolution_nm("one-bit") > fsc.resolution_nm("half-bit")


def test_the_crossing_is_read_between_shells():
    fsc = ShellCorrelation(np.array([0.001, 0.002, 0.003]), np.array([1.0, 0.643, -0.357]), np.full(3, 1e9), 50.0)
    assert fsc.resolution_nm("0.143") == pytest.approx(1 / 0.0025)
    none = ShellCorrelation(fsc.frequency, np.zeros(3), fsc.independent, 50.0)
    assert np.isnan(none.resolution_nm("0.143"))


def test_edges_may_differ_in_length_but_not_between_volumes():
    rng = np.random.default_rng(3)
    volume = rng.standard_normal((16, 40, 24))
    assert shell_correlation(volume, volume, 1.0).correlation.min() > 0.999
    with pytest.raises(ValueError, match="one shape"):
        shell_correlation(volume, volume[:-1], 1.0)


def test_the_inscribed_block_lies_inside_the_cylinder():
    block = inscribed_block((10, 41, 41), 15)
    edge = block[1].stop - block[1].start
    assert edge / np.sqrt(2) <= 15 < (edge + 2) / np.sqrt(2)
