"""Pairs on disk become patches: found, checked, drawn where labels are, read thin axis first."""

import json

import numpy as np
import pytest

from batseg.phases import CBD, NOT_LABELLED
from batseg.subvolumes import LabelledVolume, Pair, check_voxel_sizes, find_pairs
from batseg.volumes import InputError, Volume, create_zarr, write_volume


def labelled(folder, shape=(24, 32, 40), voxel_nm=61.0, labels=None, image=None):
    """A folder with image.tif and labels.tif, one grey value for each voxel."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape).astype(np.float32) if image is None else image
    labels = rng.integers(0, 4, shape).astype(np.uint8) if labels is None else labels
    write_volume(folder / "image.tif", Volume(image, voxel_nm))
    write_volume(folder / "labels.tif", Volume(labels, voxel_nm))
    return folder


def opened(folder) -> LabelledVolume:
    return LabelledVolume(find_pairs(str(folder))[0])


def test_a_folder_of_folders_a_glob_and_named_files_find_the_same_pairs(tmp_path):
    for name in ("b", "a"):
        labelled(tmp_path / name)
    expected = [str(tmp_path / name / "labels.tif") for name in ("a", "b")]
    named = {"image": f"{tmp_path}/*/image.tif", "labels": f"{tmp_path}/*/labels.tif"}
    one_by_one = [f"{tmp_path}/a", f"{tmp_path}/b"]
    for source in (str(tmp_path), f"{tmp_path}/*", named, one_by_one):
        assert [pair.labels for pair in find_pairs(source)] == expected


def test_labels_alone_are_a_source_without_channels(tmp_path):
    labelled(tmp_path / "a")
    volume = LabelledVolume(find_pairs({"labels": f"{tmp_path}/*/labels.tif"})[0])
    image, labels = volume.read(volume.draw((8, 16, 16), np.random.default_rng(0), axes=(0,)))
    assert image.shape == (0, 8, 16, 16)
    assert labels.shape == (8, 16, 16)


def test_two_channels_are_two_images_with_one_label_volume(tmp_path):
    labelled(tmp_path)
    write_volume(tmp_path / "smooth.tif", Volume(np.random.default_rng(1).normal(size=(24, 32, 40)), 61.0))
    pair = find_pairs({"folder": str(tmp_path), "image": ["image", "smooth"], "labels": "labels"})[0]
    volume = LabelledVolume(pair)
    image, labels = volume.read(volume.draw((8, 16, 16), np.random.default_rng(0)))
    assert image.shape == (2, 8, 16, 16)
    assert labels.shape == (8, 16, 16)


def test_a_crop_is_the_normalised_image_and_the_labels_at_its_place(tmp_path):
    volume = opened(labelled(tmp_path))
    image, labels = (volume._arrays[0], volume._arrays[1])
    rng = np.random.default_rng(3)
    for _ in range(10):
        crop = volume.draw((8, 16, 12), rng)
        patch, codes = volume.read(crop)
        assert codes.shape == (8, 16, 12) if crop.thin_axis == 0 else codes.shape[0] == 8
        centre, spread = volume.scales[0]
        expected = np.moveaxis((image[crop.box] - centre) / spread, crop.thin_axis, 0)
        np.testing.assert_allclose(patch[0], np.clip(expected, -8, 8), rtol=1e-5)
        np.testing.assert_array_equal(codes, np.moveaxis(labels[crop.box], crop.thin_axis, 0))


def test_the_thin_axis_is_equally_likely_z_y_and_x(tmp_path):
    volume = opened(labelled(tmp_path, (32, 32, 32)))
    rng = np.random.default_rng(0)
    axes = [volume.draw((8, 16, 16), rng).thin_axis for _ in range(600)]
    assert np.all(np.abs(np.bincount(axes, minlength=3) - 200) < 50)


def test_every_place_of_the_volume_can_be_drawn(tmp_path):
    volume = opened(labelled(tmp_path, (16, 20, 20)))
    rng = np.random.default_rng(0)
    seen = np.zeros(volume.shape, int)
    for _ in range(5000):
        seen[volume.draw((4, 8, 8), rng).box] += 1
    assert seen.min() > 0


def test_crops_of_a_partly_labelled_volume_hold_labels(tmp_path):
    labels = np.full((32, 48, 48), NOT_LABELLED, np.uint8)
    labels[:, :24] = 1
    volume = opened(labelled(tmp_path, labels.shape, labels=labels))
    rng = np.random.default_rng(0)
    shares = [(volume.read(volume.draw((8, 16, 16), rng))[1] != NOT_LABELLED).mean() for _ in range(50)]
    assert min(shares) >= 0.4  # 0.5 asked, interpolated between blocks of eight


def test_crops_of_sparse_paint_contain_paint(tmp_path):
    labels = np.full((32, 48, 48), NOT_LABELLED, np.uint8)
    labels[20, 30:32, 40] = 2
    volume = opened(labelled(tmp_path, labels.shape, labels=labels))
    rng = np.random.default_rng(0)
    assert all((volume.read(volume.draw((8, 16, 16), rng))[1] == 2).any() for _ in range(20))


def test_crops_around_a_phase_contain_it(tmp_path):
    labels = np.zeros((32, 48, 48), np.uint8)
    labels[5, 6, 7] = CBD
    volume = opened(labelled(tmp_path, labels.shape, labels=labels))
    rng = np.random.default_rng(0)
    assert all((volume.read(volume.draw((8, 16, 16), rng, phase=CBD))[1] == CBD).any() for _ in range(20))


def test_parts_of_a_volume_share_no_voxel_and_keep_its_grey_scale(tmp_path):
    volume = opened(labelled(tmp_path))
    first, second = volume.parts(0.25)
    assert first.shape == (24, 32, 30)
    assert second.shape == (24, 32, 10)
    assert first.counts.sum() + second.counts.sum() == volume.counts.sum()
    assert first.scales == second.scales == volume.scales
    crop = second.draw((8, 8, 8), np.random.default_rng(0))
    start = (crop.start[0], crop.start[1], crop.start[2] + 30)
    expected = volume._arrays[1][tuple(slice(s, s + 8) for s in start)]
    np.testing.assert_array_equal(second.read(crop)[1], np.moveaxis(expected, crop.thin_axis, 0))


def test_a_chunked_volume_is_read_from_disk_and_can_be_held_in_memory(tmp_path):
    labelled(tmp_path)
    pair = find_pairs(str(tmp_path))[0]
    reference = LabelledVolume(pair)
    store = create_zarr(tmp_path / "image.zarr", reference.shape, "float32", 61.0, chunks=(8, 8, 8))
    store[:] = reference._arrays[0]
    chunked = LabelledVolume(Pair((str(tmp_path / "image.zarr"),), pair.labels))
    assert chunked.nbytes == reference.nbytes + 24 * 32 * 40 * 4
    crop = reference.draw((8, 16, 16), np.random.default_rng(0))
    np.testing.assert_array_equal(chunked.read(crop)[0], reference.read(crop)[0])
    chunked.hold()
    assert chunked.nbytes == 0
    np.testing.assert_array_equal(chunked.read(crop)[0], reference.read(crop)[0])


def test_other_label_codes_are_translated(tmp_path):
    labelled(tmp_path, labels=np.full((24, 32, 40), 85, np.uint8))
    pair = find_pairs(str(tmp_path), {85: "silicon"})[0]
    volume = LabelledVolume(pair)
    assert volume.counts.tolist() == [0, 0, 24 * 32 * 40, 0]


def bad_nan(folder):
    image = np.zeros((24, 32, 40), np.float32)
    image[3] = np.arange(40)
    image[11, 2, 2] = np.nan
    labelled(folder, image=image)


def bad_shape(folder):
    labelled(folder, labels=np.zeros((24, 32, 39), np.uint8))


def bad_code(folder):
    labelled(folder, labels=np.full((24, 32, 40), 7, np.uint8))


def bad_empty(folder):
    labelled(folder, labels=np.full((24, 32, 40), NOT_LABELLED, np.uint8))


def bad_missing(folder):
    labelled(folder)
    (folder / "image.tif").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (bad_nan, "image.tif.*NaN"),
        (bad_shape, "differ in shape.*40.*39"),
        (bad_code, "labels.tif: label values outside the map.*7"),
        (bad_empty, "no voxel is labelled"),
        (bad_missing, "expected one file image"),
    ],
)
def test_bad_pairs_are_refused_in_one_line_that_names_the_file(tmp_path, spoil, message):
    spoil(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pattern_without_files_and_unequal_numbers_of_files_are_refused(tmp_path):
    labelled(tmp_path / "a")
    labelled(tmp_path / "b")
    with pytest.raises(InputError, match="no folder with"):
        find_pairs(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="no such file"):
        find_pairs({"image": f"{tmp_path}/*.tif", "labels": f"{tmp_path}/a/labels.tif"})
    with pytest.raises(InputError, match="2 images but 1 labels"):
        find_pairs({"image": f"{tmp_path}/*/image.tif", "labels": f"{tmp_path}/a/labels.tif"})


def test_a_patch_larger_than_the_volume_is_refused(tmp_path):
    volume = opened(labelled(tmp_path))
    with pytest.raises(InputError, match="no orientation"):
        volume.draw((16, 64, 64), np.random.default_rng(0))
    assert volume.thin_axes((16, 32, 40)) == [0]


def test_unknown_and_differing_voxel_sizes_are_refused(tmp_path):
    known, unknown = opened(labelled(tmp_path / "a")), opened(labelled(tmp_path / "b", voxel_nm=None))
    other = opened(labelled(tmp_path / "c", voxel_nm=27.5))
    assert check_voxel_sizes([known, unknown], 61.0) == 61.0
    with pytest.raises(InputError, match=r"give data\.voxel_nm"):
        check_voxel_sizes([known, unknown], None)
    with pytest.raises(InputError, match="resample"):
        check_voxel_sizes([known, other], None)


def test_labels_of_a_range_of_slices_lie_where_their_sidecar_says(tmp_path):
    labelled(tmp_path)
    whole = opened(tmp_path)
    part = np.asarray(whole._arrays[-1])[10:18]
    write_volume(tmp_path / "labels.tif", Volume(part, 61.0))
    sidecar = tmp_path / "labels.json"
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "slice_range": [10, 18]}))
    volume = opened(tmp_path)
    assert volume.counts.sum() == part.size
    for held in (False, True):
        if held:
            volume.hold()
        for _ in range(20):
            crop = volume.draw((8, 16, 16), np.random.default_rng(0), labelled=0.3)
            labels, expected = volume.read(crop)[1], whole.read(crop)[1]
            inside = np.zeros(whole.shape, bool)
            inside[10:18] = True
            inside = np.moveaxis(inside[crop.box], crop.thin_axis, 0)
            assert inside.any()
            assert np.array_equal(labels, np.where(inside, expected, NOT_LABELLED))
