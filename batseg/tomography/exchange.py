"""Raw tomography scans on disk: Data Exchange HDF5 (read and written) and NeXus with `image_key` (read).

Arrays are (frame, row, column) as the detector recorded them. Projections stay on disk and are read where sliced.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from batseg.volumes import HDF5_ENDINGS, InputError, replacing, split_path

DISTANCE_PATHS = (
    "measurement/instrument/detector/propagation_distance",
    "measurement/instrument/detection_system/sample_detector_distance",
)
PIXEL_PATHS = ("measurement/instrument/detector/pixel_size", "measurement/instrument/detector/actual_pixel_size")
ENERGY_PATH = "measurement/instrument/monochromator/energy"


@dataclass(frozen=True)
class Scan:
    """A raw scan: projections, flat and dark fields in counts, and what is known of the measurement.

    Attributes
    ----------
    data : (angle, row, column), an array or a data set on disk.
    white, dark : (frame, row, column); `white_after` (frame,) says which flats were taken after the scan.
    pixel_nm : effective pixel in the sample plane; `distance_m` the propagation distance there. None if unknown.
    sample : what is known of the sample (number_of_cycles, through_plane_axis, ...).
    notes : assumptions made while reading, for the provenance.
    """

    data: np.ndarray
    white: np.ndarray
    dark: np.ndarray
    angles_rad: np.ndarray
    white_after: np.ndarray | None = None
    energy_kev: float | None = None
    pixel_nm: float | None = None
    distance_m: float | None = None
    name: str = "scan"
    sample: Mapping = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        shape = tuple(self.data.shape)
        if len(shape) != 3 or 0 in shape:
            raise InputError(f"{self.name}: projections must be (angle, row, column), got shape {shape}")
        if len(self.angles_rad) != shape[0]:
            raise InputError(f"{self.name}: {len(self.angles_rad)} angles do not match {shape[0]} projections")
        if not np.isfinite(self.angles_rad).all():
            raise InputError(f"{self.name}: {np.count_nonzero(~np.isfinite(self.angles_rad))} angles are not finite")
        if len(self.white) == 0:
            raise InputError(f"{self.name}: no flat fields; projections cannot be normalised without them")
        for kind, frames in (("flat", self.white), ("dark", self.dark)):
            if frames.ndim != 3 or frames.shape[1:] != shape[1:]:
                raise InputError(f"{self.name}: {kind} fields {frames.shape} do not fit projections {shape}")
        if self.white_after is not None and len(self.white_after) != len(self.white):
            raise InputError(f"{self.name}: {len(self.white_after)} flat positions for {len(self.white)} flats")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(angle, row, column)."""
        return tuple(self.data.shape)


class SelectedFrames:
    """Some frames of a stack on disk, read where sliced as `[frames, rows]` or `[frames]`."""

    def __init__(self, stack: h5py.Dataset, frames: np.ndarray):
        self.stack, self.frames = stack, np.asarray(frames)
        self.shape, self.dtype, self.ndim = (len(self.frames), *stack.shape[1:]), stack.dtype, 3

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        return self.stack[(self.frames[first], *rest)]


def read_scan(path: str | Path, rotation_deg: float | None = None) -> Scan:
    """Open a raw scan; `file.h5:/entry` names the NeXus entry if there are several.

    Angles that the file does not give are taken as equally spaced from 0 to `rotation_deg` (both ends included), by
    default 180, or 360 if the last projection looks like the first and not like its mirror image; a note says so.

    Raises
    ------
    InputError : the file is missing, is not HDF5, holds no projections or no flats, or its parts do not fit together.
    """
    file, inner = split_path(path)
    if not file.exists():
        raise InputError(f"no such file: {file}")
    if file.is_dir() or file.suffix.lower() not in HDF5_ENDINGS:
        raise InputError(f"{file}: a raw scan is an HDF5 file ({', '.join(HDF5_ENDINGS)})")
    try:
        opened = h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"{file}: cannot be read as HDF5 ({str(error).splitlines()[0]})") from error
    try:
        if "exchange/data" in opened:
            return _read_exchange(opened, file, rotation_deg)
        return _read_nexus(opened, file, inner, rotation_deg)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from error


def write_scan(path: str | Path, scan: Scan) -> Path:
    """Write a scan in Data Exchange layout, whole or not at all; angles in degrees, distances in m."""
    path = Path(path)
    if path.suffix.lower() not in HDF5_ENDINGS:
        raise InputError(f"{path}: a raw scan is written as HDF5 ({', '.join(HDF5_ENDINGS)})")
    with replacing(path) as draft, h5py.File(draft, "w") as file:
        file["implements"] = "exchange:measurement"
        exchange = file.create_group("exchange")
        exchange["title"] = "tomography_raw_projections"
        for name, frames in (("data", scan.data), ("data_white", scan.white), ("data_dark", scan.dark)):
            frames = np.asarray(frames[:])
            chunks = (min(8, len(frames)), *frames.shape[1:]) if len(frames) else None
            compression = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if chunks else {}
            exchange.create_dataset(name, data=frames, chunks=chunks, **compression).attrs["units"] = "counts"
        exchange["data"].attrs["axes"] = "theta:y:x"
        if scan.white_after is not None:
            exchange["data_white_position"] = np.asarray(scan.white_after, np.uint8)
        exchange.create_dataset("theta", data=np.rad2deg(scan.angles_rad)).attrs["units"] = "deg"
        known = {
            ENERGY_PATH: (scan.energy_kev, "keV"),
            PIXEL_PATHS[0]: (None if scan.pixel_nm is None else scan.pixel_nm * 1e-9, "m"),
            DISTANCE_PATHS[0]: (scan.distance_m, "m"),
            DISTANCE_PATHS[1]: (scan.distance_m, "m"),
        }
        for name, (value, units) in known.items():
            if value is not None:
                file.create_dataset(name, data=float(value)).attrs["units"] = units
        for name, value in {"name": scan.name, **scan.sample}.items():
            file[f"measurement/sample/{name}"] = value
    return path


def _read_exchange(opened: h5py.File, file: Path, rotation_deg: float | None) -> Scan:
    data, notes = opened["exchange/data"], []
    if "exchange/data_white" not in opened or len(opened["exchange/data_white"]) == 0:
        raise InputError(f"{file}: no flat fields (/exchange/data_white); projections cannot be normalised without")
    white = opened["exchange/data_white"][:]
    if "exchange/data_dark" in opened and len(opened["exchange/data_dark"]):
        dark = opened["exchange/data_dark"][:]
    else:
        dark, notes = np.zeros((1, *white.shape[1:]), white.dtype), ["no dark fields: taken as 0"]
    position = opened.get("exchange/data_white_position")
    angles = None
    if "exchange/theta" in opened:
        angles = _radians(opened["exchange/theta"], rotation_deg)
    if angles is None:
        angles, note = _assumed_angles(data, white, rotation_deg)
        notes.append(note)
    sample = opened.get("measurement/sample", {})
    known = {key: _scalar(sample[key]) for key in sample if key != "name" and isinstance(sample[key], h5py.Dataset)}
    distance, pixel = _first(opened, DISTANCE_PATHS), _first(opened, PIXEL_PATHS)
    return Scan(
        data=data,
        white=white,
        dark=dark,
        angles_rad=angles,
        white_after=None if position is None or len(position) != len(white) else position[:] > 0,
        energy_kev=_first(opened, (ENERGY_PATH,), {"eV": 1e-3}),
        pixel_nm=None if pixel is None else pixel * 1e9,
        distance_m=distance,
        name=file.stem,
        sample=known,
        notes=tuple(notes),
    )


def _read_nexus(opened: h5py.File, file: Path, inner: str | None, rotation_deg: float | None) -> Scan:
    """Projections (0), flats (1) and darks (2) of one stack told apart by its `image_key`; 3 is invalid."""
    found: list[str] = []
    root = opened[inner] if inner else opened
    root.visititems(lambda _, item: found.append(item.name) if item.name.endswith("/image_key") else None)
    if not found:
        raise InputError(f"{file}: neither /exchange/data (Data Exchange) nor an image_key (NeXus) found")
    detector = opened[found[0]].parent
    if not isinstance(detector.get("data"), h5py.Dataset) or detector["data"].ndim != 3:
        raise InputError(f"{file}: no image stack 'data' (frame, row, column) beside {found[0]}")
    stack, key = detector["data"], opened[found[0]][:]
    if len(key) != len(stack):
        raise InputError(f"{file}: image_key has {len(key)} entries for {len(stack)} frames")
    frames, white, dark = (np.flatnonzero(key == code) for code in (0, 1, 2))
    if len(frames) == 0:
        raise InputError(f"{file}: image_key marks no frame as projection (0)")
    if len(white) == 0:
        raise InputError(f"{file}: no flat fields (image_key 1); projections cannot be normalised without")
    notes = [] if len(dark) else ["no dark fields: taken as 0"]
    rotation: list[str] = []
    entry = opened[found[0].split("/")[1]]
    entry.visititems(lambda _, item: rotation.append(item.name) if item.name.endswith("/rotation_angle") else None)
    angles = None
    for name in rotation:
        values = opened[name]
        if isinstance(values, h5py.Dataset) and values.shape in ((len(key),), (len(frames),)):
            angles = _radians(values, rotation_deg)
            angles = angles[frames] if len(values) == len(key) else angles
            break
        raise InputError(f"{file}: {values.size} angles in {name} do not match {len(frames)} projections")
    data = SelectedFrames(stack, frames)
    if angles is None:
        angles, note = _assumed_angles(data, stack[white], rotation_deg)
        notes.append(note)
    pixel = _first(detector, ("x_pixel_size",))
    return Scan(
        data=data,
        white=stack[white],
        dark=stack[dark] if len(dark) else np.zeros((1, *stack.shape[1:]), stack.dtype),
        angles_rad=angles,
        white_after=white > frames[len(frames) // 2],
        pixel_nm=None if pixel is None else pixel * 1e9,
        distance_m=_first(detector, ("distance",)),
        name=file.stem,
        notes=tuple(notes),
    )


def _radians(angles: h5py.Dataset, rotation_deg: float | None) -> np.ndarray | None:
    """Angles of the file in rad; None if the user overrides them."""
    if rotation_deg is not None:
        return None
    values = np.asarray(angles[:], np.float64).ravel()
    return values if _units(angles).startswith("rad") else np.deg2rad(values)


def _assumed_angles(data, white: np.ndarray, rotation_deg: float | None) -> tuple[np.ndarray, str]:
    given = rotation_deg is not None
    if not given:
        flat = white.mean(axis=0, dtype=np.float32) + 1
        first, last = (np.asarray(data[index], np.float32) / flat for index in (0, len(data) - 1))
        same, mirrored = _similarity(first, last), _similarity(first, last[:, ::-1])
        rotation_deg = 360.0 if same > mirrored else 180.0
    source = "as given" if given else "not in the file"
    return np.linspace(0, np.deg2rad(rotation_deg), len(data)), f"angles {source}: 0 to {rotation_deg:g} degrees"


def _similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Largest correlation of two projections over horizontal shifts (the axis need not be in the middle)."""
    first, second = (frame - frame.mean() for frame in (first, second))
    product = np.fft.rfft(first, axis=-1) * np.fft.rfft(second, axis=-1).conj()
    peak = np.fft.irfft(product.sum(axis=0), first.shape[-1]).max()
    return float(peak / max(np.sqrt((first**2).sum() * (second**2).sum()), 1e-30))


def _first(group: h5py.Group, names: tuple[str, ...], factors: Mapping[str, float] | None = None) -> float | None:
    """First positive number found under `names`, in the unit expected here."""
    metres = {"mm": 1e-3, "um": 1e-6, "micron": 1e-6, "nm": 1e-9}
    for name in names:
        item = group.get(name)
        if isinstance(item, h5py.Dataset) and item.size == 1 and float(item[()].item()) > 0:
            return float(item[()].item()) * (factors or metres).get(_units(item), 1.0)
    return None


def _units(item: h5py.Dataset) -> str:
    units = item.attrs.get("units", "")
    return units.decode() if isinstance(units, bytes) else str(units)


def _scalar(item: h5py.Dataset) -> object:
    value = item[()]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if hasattr(value, "item") and item.size == 1 else str(value)
