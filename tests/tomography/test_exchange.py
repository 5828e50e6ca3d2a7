import h5py
import numpy as np
import pytest

from batseg.tomography.exchange import Scan, read_scan, write_scan
from batseg.volumes import InputError


def small_scan(count: int = 9, **changes) -> Scan:
    rng = np.random.default_rng(0)
    values = {
        "data": rng.integers(500, 1000, (count, 4, 12), dtype=np.uint16),
        "white": rng.integers(900, 1000, (4, 4, 12), dtype=np.uint16),
        "dark": np.full((2, 4, 12), 100, np.uint16),
        "angles_rad": np.linspace(0, np.pi, count),
        "white_after": np.array([False, False, True, True]),
        "energy_kev": 8.4,
        "pixel_nm": 61.0,
        "distance_m": 7.5e-6,
        "name": "small",
        "sample": {"number_of_cycles": 2},
    }
    return Scan(**{**values, **changes})


def test_a_written_scan_reads_back_whole(tmp_path):
    scan = small_scan()
    back = read_scan(write_scan(tmp_path / "small.h5", scan))
    assert (back.data[:] == scan.data).all()
    assert (back.white == scan.white).all()
    assert back.angles_rad == pytest.approx(scan.angles_rad)
    assert back.white_after.tolist() == [False, False, True, True]
    assert (back.energy_kev, back.distance_m, back.name) == (8.4, 7.5e-6, "small")
    assert back.pixel_nm == pytest.approx(61)
    assert back.sample["number_of_cycles"] == 2


def test_missing_angles_and_darks_are_assumed_and_noted(tmp_path):
    path = write_scan(tmp_path / "scan.h5", small_scan())
    with h5py.File(path, "r+") as file:
        del file["exchange/theta"], file["exchange/data_dark"]
    scan = read_scan(path)
    assert scan.angles_rad[-1] in (pytest.approx(np.pi), pytest.approx(2 * np.pi))
    assert len(scan.notes) == 2
    assert read_scan(path, rotation_deg=360).angles_rad[-1] == pytest.approx(2 * np.pi)


@pytest.mark.parametrize("turn", [1, 2])
def test_a_full_turn_is_told_from_a_half_turn_by_its_last_projection(tmp_path, turn):
    columns = np.arange(40)
    angles = np.linspace(0, turn * np.pi, 21)
    place = 21 + 9 * np.cos(angles)[:, None, None]
    data = (1000 - 500 * np.exp(-((columns - place) ** 2) / 8) * np.ones((1, 6, 1))).astype(np.uint16)
    flat, dark = np.full((3, 6, 40), 1000, np.uint16), np.zeros((1, 6, 40), np.uint16)
    path = write_scan(tmp_path / "scan.h5", Scan(data, flat, dark, angles))
    with h5py.File(path, "r+") as file:
        del file["exchange/theta"]
    assert read_scan(path).angles_rad[-1] == pytest.approx(turn * np.pi)


def test_nexus_frames_are_told_apart_by_their_image_key(tmp_path):
    scan = small_scan()
    path = tmp_path / "scan.nxs"
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry/instrument/detector")
        detector["data"] = np.concatenate([scan.dark, scan.white[:2], scan.data, scan.white[2:]])
        detector["image_key"] = [2] * 2 + [1] * 2 + [0] * 9 + [1] * 2
        angles = np.concatenate([np.zeros(4), np.rad2deg(scan.angles_rad), np.full(2, 180.0)])
        file["entry/sample/rotation_angle"] = angles
    back = read_scan(path)
    assert (back.data[:, 1:3] == scan.data[:, 1:3]).all()
    assert (back.dark == scan.dark).all()
    assert back.white_after.tolist() == [False, False, True, True]
    assert back.angles_rad == pytest.approx(scan.angles_rad)


def remove(name):
    return lambda file: file.pop(name)


def shorten(file):
    del file["exchange/theta"]
    file["exchange/theta"] = [0.0, 1.0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("exchange/data_white"), "no flat"),
        (remove("exchange/data"), "neither"),
        (shorten, "2 angles do not match 9"),
    ],
)
def test_a_file_that_cannot_be_used_ends_in_one_line(tmp_path, damage, message):
    path = write_scan(tmp_path / "scan.h5", small_scan())
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(InputError, match=message) as caught:
        read_scan(path)
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_scan(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="cannot be read"):
        read_scan(tmp_path / "text.h5")


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="no flat"):
        small_scan(white=np.zeros((0, 4, 12)), white_after=None)
    with pytest.raises(InputError, match="do not fit"):
        small_scan(dark=np.zeros((1, 4, 11)))
