import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from batseg.tomography import corrections
from batseg.tomography.retrieval import PRESETS_NM, half_pass_nm, retrieve
from batseg.volumes import InputError


def counts(rng: np.random.Generator, frames: int = 12) -> np.ndarray:
    return rng.poisson(2000, (frames, 20, 30)).astype(np.float32)


def test_dead_hot_and_flickering_pixels_are_found_and_filled_from_their_surrounding():
    rng = np.random.default_rng(0)
    data, white, dark = counts(rng, 40), counts(rng), rng.normal(100, 2, (5, 20, 30))
    white[:, 3, 4] = data[:, 3, 4] = 100
    dark[:, 9, 9] += 500
    data[::2, 15, 20] += 900
    bad = corrections.find_bad_pixels(data, white, dark)
    assert {tuple(pixel) for pixel in np.argwhere(bad)} == {(3, 4), (9, 9), (15, 20)}
    filled = corrections.fill_bad_pixels(np.arange(600, dtype=np.float32).reshape(1, 20, 30), bad)
    assert filled[0, 3, 4] == pytest.approx(94, abs=1e-3)  # a plane stays a plane


def test_zingers_go_and_a_crack_seen_edge_on_stays():
    rng = np.random.default_rng(1)
    frames = 1 + 0.005 * rng.standard_normal((6, 20, 30), dtype=np.float32)
    frames[2, 8, 11] += 1
    frames[4, :, 20] += 0.3
    crack = frames[4, :, 20].copy()
    assert corrections.remove_zingers(frames) >= 1
    assert frames[2, 8, 11] == pytest.approx(1, abs=0.02)
    assert (frames[4, :, 20] == crack).mean() > 0.9


def test_illumination_modes_are_as_many_as_the_flats_have_and_their_amplitudes_come_back():
    rng = np.random.default_rng(2)
    patterns = gaussian_filter(rng.standard_normal((3, 30, 40)), (0, 5, 5))
    patterns /= patterns.std(axis=(1, 2), keepdims=True)
    amplitudes = rng.normal(0, 0.02, (60, 3))
    frames = 1 + np.tensordot(amplitudes, patterns, 1) + rng.normal(0, 0.003, (60, 30, 40))
    modes = corrections.illumination_modes(frames[:20].astype(np.float32))
    assert len(modes) == 3
    fitted = np.tensordot(corrections.fit_modes(frames[20:] - 1, modes), modes, 1)
    true = np.tensordot(amplitudes[20:], patterns, 1)
    assert np.std(fitted - true) < 0.1 * np.std(true)


def test_noise_alone_gives_no_illumination_mode():
    white = 1 + np.random.default_rng(3).normal(0, 0.005, (10, 30, 40)).astype(np.float32)
    assert len(corrections.illumination_modes(white)) == 0
    assert len(corrections.illumination_modes(white[:2])) == 0


@pytest.mark.parametrize("suppress", [corrections.suppress_stripes, corrections.suppress_stripes_sorted])
def test_stripes_fall_to_the_noise_and_the_rest_stays(suppress):
    rng = np.random.default_rng(4)
    smooth = gaussian_filter(rng.standard_normal((6, 90, 64)), (4, 6, 10)) * 2
    noise = 0.01 * rng.standard_normal(smooth.shape)
    stripes = 0.02 * rng.standard_normal((6, 1, 64))
    sinograms = (smooth + noise + stripes).astype(np.float32)
    cleaned = suppress(sinograms)
    assert corrections.stripe_strength(sinograms) > 10
    assert corrections.stripe_strength(cleaned) < 3
    assert np.std(cleaned - smooth) < 0.7 * np.std(sinograms - smooth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data, white: data.__setitem__(3, 0), "1 of 12 projections are all zero"),
        (lambda data, white: data.__setitem__(slice(None), 65535), "saturated"),
        (lambda data, white: white.__setitem__(slice(None), 90), "not brighter"),
        (lambda data, white: data.__setitem__((1, 2, 3), np.nan), "NaN"),
    ],
)
def test_frames_without_an_image_are_refused_in_one_line(change, message):
    rng = np.random.default_rng(5)
    data, white, dark = counts(rng), counts(rng), np.full((2, 20, 30), 100, np.float32)
    corrections.require_usable_counts(data, white, dark)
    change(data, white)
    with pytest.raises(InputError, match=message):
        corrections.require_usable_counts(data, white, dark)


def test_retrieval_halves_its_period_and_keeps_the_mean():
    columns = np.mgrid[:64, :64][1]
    wave = 1 + 0.1 * np.cos(2 * np.pi * columns / 8)[None].astype(np.float32)
    filtered = retrieve(wave, 8 * 61.0, 61.0)
    assert filtered[:, 16:48, 16:48].std() == pytest.approx(wave[:, 16:48, 16:48].std() / 2, rel=0.02)
    assert filtered.mean() == pytest.approx(1, rel=1e-3)
    assert retrieve(wave, 0, 61.0) is wave


def test_retrieval_undoes_the_edge_enhancement_of_its_material_in_the_linear_limit():
    pixel_nm, distance, ratio = 50.0, 5e-5, 60.0
    length = half_pass_nm(ratio, distance, 8.4)
    thin = gaussian_filter(np.random.default_rng(6).standard_normal((1, 64, 64)), (0, 3, 3)) * 1e-3
    squared = np.fft.fftfreq(64, pixel_nm)[:, None] ** 2 + np.fft.rfftfreq(64, pixel_nm) ** 2
    edges = np.fft.irfft2(np.fft.rfft2(thin) * (1 + length**2 * squared), (64, 64))
    back = 1 - retrieve((1 - edges).astype(np.float32), length, pixel_nm)
    inner = np.s_[0, 20:44, 20:44]
    assert np.std(back[inner] - thin[inner]) < 0.1 * np.std(edges[inner] - thin[inner])


def test_the_presets_stand_in_the_ratio_of_the_papers_two_settings():
    assert PRESETS_NM["smooth"] / PRESETS_NM["sharp"] == pytest.approx(np.sqrt(10), rel=0.02)
