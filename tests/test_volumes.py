"""Volumes on disk: every format there and back, whole files or none, one line for what cannot be read."""

import json
import warnings

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.io import imsave

from batseg.volumes import (
    InputError,
    Volume,
    create_zarr,
    open_volume,
    read_image,
    read_labels,
    read_volume,
    replacing,
    require_same_shape,
    split_path,
    write_json,
    write_text,
    write_volume,
)

ARRAYS = hnp.arrays(
    st.sampled_from([np.uint8, np.uint16, np.int16, np.int32, np.float32]),
    st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(2, 7)),
)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)


def sample(dtype=np.float32, shape=(5, 6, 7)):
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


@in_one_folder
@given(ARRAYS, st.sampled_from([".tif", ".tiff", ".zarr"]), st.one_of(st.none(), st.floats(0.5, 1e4)))
def test_what_is_written_is_read_back_with_its_voxel_size_and_origin(tmp_path, array, ending, voxel_nm):
    path = write_volume(tmp_path / f"v{ending}", Volume(array, voxel_nm, {"made_by": "a test", "seed": 3}))
    found = read_volume(path)
    np.testing.assert_array_equal(found.array, array)
    assert found.array.dtype == array.dtype
    assert found.voxel_nm == voxel_nm
    described = found.provenance.get("provenance", found.provenance)
    assert described == {"made_by": "a test", "seed": 3}


def test_a_volume_on_disk_is_copied_from_one_format_to_the_other(tmp_path):
    array = sample(np.uint16, (70, 9, 8))  # more slices than a chunk and than a writing step
    first = write_volume(tmp_path / "a.zarr", Volume(array, 61.0))
    second = write_volume(tmp_path / "b.tif", open_volume(first))
    third = write_volume(tmp_path / "c.zarr", open_volume(second))
    np.testing.assert_array_equal(read_volume(third).array, array)
    assert read_volume(third).voxel_nm == 61.0


def write_npy(folder, array):
    np.save(folder / "v.npy", array)
    return folder / "v.npy"


def write_hdf5(folder, array):
    with h5py.File(folder / "v.h5", "w") as file:
        file["exchange/volume"] = array
        file["exchange/volume"].attrs["voxel_size_nm"] = 36.6
        file["theta"] = np.arange(3)
    return folder / "v.h5"


def write_mrc(folder, array):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.new(folder / "v.mrc", overwrite=True) as file:
            file.set_data(array)
            file.voxel_size = 366.0  # ångström
    return folder / "v.mrc"


def write_plain_tiff(folder, array):
    tifffile.imwrite(folder / "v.tif", array)
    return folder / "v.tif"


def write_big_endian_tiff(folder, array):
    tifffile.imwrite(folder / "b.tif", array, byteorder=">")
    return folder / "b.tif"


def write_slices(folder, array):
    (folder / "slices").mkdir()
    for number, plane in enumerate(array):
        tifffile.imwrite(folder / "slices" / f"slice_{number}.tif", plane)
    (folder / "slices" / "notes.txt").write_text("ignored")
    return folder / "slices"


def write_pngs(folder, array):
    (folder / "png").mkdir()
    for number, plane in enumerate(array.astype(np.uint8)):
        imsave(folder / "png" / f"{number:03d}.png", plane, check_contrast=False)
    return folder / "png"


def write_bare_zarr(folder, array):
    stored = zarr.create_array(str(folder / "bare.zarr"), shape=array.shape, dtype=array.dtype)
    stored[:] = array
    return folder / "bare.zarr"


WRITERS = [write_npy, write_hdf5, write_mrc, write_plain_tiff, write_big_endian_tiff, write_slices, write_pngs]


@pytest.mark.parametrize("write", [*WRITERS, write_bare_zarr])
def test_every_format_of_others_is_read(tmp_path, write):
    array = sample(np.uint16 if write is not write_mrc else np.int16, (12, 6, 7))
    path = write(tmp_path, array)
    np.testing.assert_array_equal(read_volume(path).array, array)
    assert read_volume(path, voxel_nm=5.0).voxel_nm == 5.0
    expected = {write_hdf5: 36.6, write_mrc: pytest.approx(36.6, rel=1e-6)}
    assert read_volume(path).voxel_nm == expected.get(write)


@pytest.mark.parametrize("write", [write_npy, write_hdf5, write_mrc, write_plain_tiff, write_bare_zarr])
def test_formats_that_allow_it_are_opened_without_reading_them(tmp_path, write):
    opened = open_volume(write(tmp_path, sample(np.int16))).array
    assert isinstance(opened, (np.memmap, h5py.Dataset, zarr.Array))
    np.testing.assert_array_equal(opened[2:4], sample(np.int16)[2:4])


def test_slices_are_put_in_the_order_of_their_numbers(tmp_path):
    """slice_10 comes after slice_9, whether or not the numbers are padded with zeros."""
    array = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    assert read_volume(write_slices(tmp_path, array)).array[:, 0, 0].tolist() == list(range(12))


def test_an_array_inside_a_file_is_named_after_a_colon(tmp_path):
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a/one"], file["a/two"] = sample(), sample() + 1
    np.testing.assert_array_equal(read_volume(f"{tmp_path}/two.h5:/a/two").array, sample() + 1)
    with pytest.raises(InputError, match=r"name the dataset as two\.h5:/path; found /a/one, /a/two"):
        open_volume(tmp_path / "two.h5")
    with pytest.raises(InputError, match="name the dataset"):
        open_volume(f"{tmp_path}/two.h5:/a/three")
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_array("raw", shape=(2, 3, 4), dtype="u1")
    assert open_volume(f"{tmp_path}/g.zarr:/raw").shape == (2, 3, 4)
    with pytest.raises(InputError, match="no array '0'; found raw"):
        open_volume(tmp_path / "g.zarr")


@given(st.sampled_from(["a.h5", "x/y.hdf5", "z.zarr", "a.nxs"]), st.sampled_from(["/0", "/exchange/data", "b"]))
def test_a_path_is_split_at_the_colon_after_its_ending(file, inner):
    assert tuple(map(str, split_path(f"{file}:{inner}"))) == (file, inner)
    assert split_path(file)[1] is None
    assert split_path("c:odd.tif") == (split_path("c:odd.tif")[0], None)


@pytest.mark.parametrize(("unit", "factor"), [("nanometer", 1.0), ("micrometer", 1e3), ("angstrom", 0.1)])
def test_the_voxel_size_of_a_foreign_ome_zarr_is_converted(tmp_path, unit, factor):
    group = zarr.open_group(str(tmp_path / "o.zarr"), mode="w")
    group.create_array("0", shape=(2, 3, 4), dtype="u1")
    axes = [{"name": name, "type": "space", "unit": unit} for name in "zyx"]
    scale = {"type": "scale", "scale": [2.0, 2.0, 2.0]}
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    assert open_volume(tmp_path / "o.zarr").voxel_nm == pytest.approx(2 * factor)


def test_a_written_zarr_carries_valid_ome_metadata(tmp_path):
    create_zarr(tmp_path / "p.zarr", (4, 5, 6, 7), "f4", 61.0)
    root = zarr.open_group(str(tmp_path / "p.zarr"), mode="r")
    (image,) = root.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["c", "z", "y", "x"]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.0, 61.0, 61.0, 61.0]
    assert root["0"].chunks == (1, 5, 6, 7)


def half_write(path):
    with replacing(path) as draft:
        if draft.suffix == ".zarr":
            draft.mkdir()
        (draft / "half" if draft.is_dir() else draft).write_text("half")
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_the_old_file_and_no_draft(tmp_path):
    for name in ("v.tif", "v.zarr"):
        path = write_volume(tmp_path / name, Volume(sample()))
        with pytest.raises(KeyboardInterrupt):
            half_write(path)
        np.testing.assert_array_equal(read_volume(path).array, sample())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["v.json", "v.tif", "v.zarr"]


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path):
    class Breaking:
        shape, dtype = (80, 2, 2), np.dtype(np.uint8)

        def __getitem__(self, index):
            if index.start:
                raise OSError("disk gone")
            return np.zeros((index.stop, 2, 2), np.uint8)

    for name in ("v.tif", "v.zarr"):
        with pytest.raises(OSError, match="disk gone"):
            write_volume(tmp_path / name, Volume(Breaking()))
    assert list(tmp_path.iterdir()) == []


def test_files_replace_what_was_there_and_make_their_folder(tmp_path):
    path = tmp_path / "a" / "b" / "v.zarr"
    write_volume(path, Volume(sample()))
    write_volume(path, Volume(sample(np.uint8, (2, 3, 4))))
    assert read_volume(path).shape == (2, 3, 4)
    write_text(path / "note.txt", "x")
    assert json.loads(write_json(tmp_path / "n.json", {"a": np.float32(0.5), "b": np.int64(3)}).read_text()) == {
        "a": 0.5,
        "b": 3,
    }


def broken(folder, kind):
    """A path that cannot be read, and what the line about it must say."""
    if kind == "missing":
        return folder / "no.tif", "no such file or folder: .*no.tif"
    if kind == "ending":
        (folder / "v.xyz").write_text("x")
        return folder / "v.xyz", "unknown format"
    if kind == "empty folder":
        (folder / "none").mkdir()
        return folder / "none", "no TIFF or PNG slices"
    if kind == "uneven slices":
        (folder / "uneven").mkdir()
        for size in (3, 4):
            tifffile.imwrite(folder / "uneven" / f"{size}.tif", np.zeros((size, size), np.uint8))
        return folder / "uneven", "cannot be read"
    if kind == "four axes":
        return write_npy(folder, np.zeros((2, 2, 2, 2))), r"expected a volume \(z, y, x\), got shape \(2, 2, 2, 2\)"
    if kind == "no voxels":
        return write_npy(folder, np.zeros((0, 2, 2))), r"got shape \(0, 2, 2\)"
    if kind == "pickle":
        np.save(folder / "v.npy", np.array([{}], object))
        return folder / "v.npy", "cannot be read"
    if kind == "sidecar":
        path = write_volume(folder / "v.tif", Volume(sample()))
        path.with_suffix(".json").write_text("{")
        return path, "cannot be read"
    path = folder / {"tiff": "v.tif", "hdf5": "v.h5", "mrc": "v.mrc", "zarr": "v.zarr", "npy": "v.npy"}[kind]
    path.mkdir() if kind == "zarr" else path.write_bytes(b"not what it says")
    return path, path.name


KINDS = ["missing", "ending", "empty folder", "uneven slices", "four axes", "no voxels", "pickle", "sidecar"]


@pytest.mark.parametrize("kind", [*KINDS, "tiff", "hdf5", "mrc", "zarr", "npy"])
def test_what_cannot_be_read_is_one_line_that_names_it(tmp_path, kind):
    path, message = broken(tmp_path, kind)
    with pytest.raises(InputError, match=message) as raised:
        read_volume(path)
    assert "\n" not in str(raised.value)


def test_a_truncated_tiff_is_one_line(tmp_path):
    path = write_volume(tmp_path / "v.tif", Volume(sample(np.float32, (20, 30, 30))))
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(InputError, match=r"v\.tif"):
        read_volume(path)


def test_images_are_float32_and_finite_and_not_constant(tmp_path):
    found = read_image(write_npy(tmp_path, sample(np.uint16)), voxel_nm=61.0)
    assert found.array.dtype == np.float32
    for value, message in ((np.nan, "1 voxels are NaN or infinite"), (np.inf, "1 voxels are NaN or infinite")):
        array = sample()
        array[1, 2, 3] = value
        with pytest.raises(InputError, match=message):
            read_image(write_npy(tmp_path, array))
    with pytest.raises(InputError, match="every voxel has the same value 7"):
        read_image(write_npy(tmp_path, np.full((2, 2, 2), 7)))


def test_labels_come_in_the_projects_codes_and_errors_name_the_file(tmp_path):
    path = write_npy(tmp_path, np.array([[[0, 85, 255]]]))
    assert read_labels(path, {0: "pore", 85: "cbd"}).array.tolist() == [[[0, 3, 255]]]
    with pytest.raises(InputError, match=r"v\.npy: label values outside the map"):
        read_labels(path)
    with pytest.raises(InputError, match=r"v\.npy: labels must be integers"):
        read_labels(write_npy(tmp_path, sample()))
    with pytest.raises(InputError, match="no voxel is labelled"):
        read_labels(write_npy(tmp_path, np.full((2, 2, 2), 255)))


def test_a_stack_beyond_4_gb_is_written_as_big_tiff(tmp_path, monkeypatch):
    """Compressed classic TIFF would only fail once 4 GB are on disk, so the size before compression decides."""
    asked = {}
    monkeypatch.setattr(tifffile, "imwrite", lambda draft, data, **settings: (draft.touch(), asked.update(settings)))
    write_volume(tmp_path / "v.tif", Volume(np.broadcast_to(np.float32(0), (1200, 1024, 1024))))
    assert asked["bigtiff"]
    write_volume(tmp_path / "v.tif", Volume(np.broadcast_to(np.uint8(0), (1200, 1024, 1024))))
    assert not asked["bigtiff"]


def test_unknown_voxel_sizes_and_different_shapes_are_named():
    with pytest.raises(InputError, match=r"a\.tif: the voxel size is unknown; give voxel_nm"):
        Volume(sample()).require_voxel_nm("a.tif")
    assert Volume(sample(), 61.0).require_voxel_nm("a.tif") == 61.0
    with pytest.raises(InputError, match=r"truth \(5, 6, 7\), mask \(5, 6, 8\)"):
        require_same_shape(truth=sample(), mask=Volume(sample(shape=(5, 6, 8))))
    require_same_shape(truth=sample(), mask=Volume(sample()))


@pytest.mark.parametrize("name", ["v.png", "v.h5", "v"])
def test_volumes_are_written_as_tiff_or_zarr_only(tmp_path, name):
    with pytest.raises(InputError, match=r"written as \.tif or \.zarr"):
        write_volume(tmp_path / name, Volume(sample()))
