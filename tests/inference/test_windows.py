import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batseg.inference.windows import fit_window, plane_grid, tiled_spans, window_grid, window_starts
from batseg.volumes import InputError


@pytest.mark.parametrize("direction", "zyx")
def test_the_papers_volume_takes_775_windows_in_each_direction(direction):
    assert len(window_grid((768, 768, 768), (48, 256, 256), direction)) == 775


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0, 0.9))
def test_windows_cover_every_voxel_and_stay_inside(length, window, overlap):
    window = min(window, length)
    seen = np.zeros(length, int)
    for start in window_starts(length, window, overlap):
        assert 0 <= start <= length - window
        seen[start : start + window] += 1
    assert seen.min() >= 1


def test_an_interior_voxel_is_seen_twice_along_each_axis():
    seen = np.zeros(768, int)
    for start in window_starts(768, 256):
        seen[start : start + 256] += 1
    assert (seen[128:-128] == 2).all()


@given(st.integers(1, 300), st.integers(1, 6), st.integers(0, 32))
def test_tiles_keep_every_voxel_once_and_read_equal_multiples_of_eight(length, tiles, halo):
    spans = tiled_spans(length, tiles, halo)
    kept = np.zeros(length, int)
    for span in spans:
        kept[span.keep_start : span.keep_stop] += 1
        assert span.start <= span.keep_start < span.keep_stop <= span.stop
        assert span.length == spans[0].length
        assert span.length % 8 == 0
        if span.start > 0:
            assert span.keep_start - span.start >= halo
        if span.stop < length:
            assert span.stop - span.keep_stop >= halo
    assert (kept == 1).all()


def test_planes_are_cut_into_tiles_only_where_the_memory_asks_for_it():
    whole = plane_grid((256, 256, 256), 16)
    assert whole.window == (16, 256, 256)
    tiled = plane_grid((256, 256, 256), 16, max_voxels=16 * 176 * 256)
    assert tiled.window != whole.window
    assert np.prod(tiled.window) <= 16 * 176 * 256


def test_a_window_longer_than_the_volume_is_an_error_that_names_the_way_out():
    with pytest.raises(InputError, match="window_fit=shrink"):
        window_grid((40, 64, 64), (48, 64, 64))


def test_shrinking_takes_the_largest_multiple_of_eight(caplog):
    assert fit_window((48, 256, 256), (104, 224, 230), "y", "shrink") == (48, 104, 224)
    assert "shrunk" in caplog.text
