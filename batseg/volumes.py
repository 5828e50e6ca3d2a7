"""Volumes on disk and in memory: axis order (z, y, x) with z through-plane, voxel size in nm, provenance.

Arrays are (z, y, x); batches are (batch, channel, z, y, x). A path may carry a dataset or group after a colon:
`scan.h5:/exchange/volume`, `store.zarr:/0`.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import tifffile
import zarr

from batseg.phases import to_phase_labels

TIFF_ENDINGS = (".tif", ".tiff")
HDF5_ENDINGS = (".h5", ".hdf5", ".hdf", ".nxs")


class InputError(ValueError):
    """Something the user gave is missing, unreadable or does not fit; the message is one line and says what to do."""


@dataclass(frozen=True)
class Volume:
    """An array (z, y, x) with its voxel size (None if unknown) and where it came from.

    `array` may be a NumPy array or a chunked array on disk (zarr, h5py, memory map) that is read where it is sliced.
    """

    array: np.ndarray
    voxel_nm: float | None = None
    provenance: Mapping = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    def require_voxel_nm(self, path: str | Path) -> float:
        if self.voxel_nm is None:
            raise InputError(f"{path}: the voxel size is unknown; give voxel_nm=...")
        return self.voxel_nm


def split_path(path: str | Path) -> tuple[Path, str | None]:
    """File and inner path: 'a.h5:/b' -> (Path('a.h5'), '/b')."""
    text = str(path)
    for ending in (*HDF5_ENDINGS, ".zarr"):
        head, colon, inner = text.partition(ending + ":")
        if colon:
            return Path(head + ending), inner
    return Path(text), None


def open_volume(path: str | Path, voxel_nm: float | None = None) -> Volume:
    """Open a volume without reading it whole where the format allows (zarr, HDF5, NPY, MRC, uncompressed TIFF).

    Formats: TIFF stack, folder of TIFF or PNG slices, NPY, HDF5 (`file.h5:/path`), MRC, Zarr (OME-Zarr too).
    `voxel_nm` overrides what the file says. Raises InputError for what is missing, unreadable or not 3D.
    """
    file, inner = split_path(path)
    if not file.exists():
        raise InputError(f"no such file or folder: {file}")
    try:
        volume = _opener(file)(file, inner)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: cannot be read ({_first_line(error)})") from error
    if len(volume.shape) != 3 or 0 in volume.shape:
        raise InputError(f"{path}: expected a volume (z, y, x), got shape {volume.shape}")
    return Volume(volume.array, voxel_nm or volume.voxel_nm, volume.provenance)


def read_volume(path: str | Path, voxel_nm: float | None = None) -> Volume:
    """Like `open_volume`, with the array in memory."""
    volume = open_volume(path, voxel_nm)
    try:
        return Volume(np.asarray(volume.array[:]), volume.voxel_nm, volume.provenance)
    except Exception as error:
        raise InputError(f"{path}: cannot be read ({_first_line(error)})") from error


def read_image(path: str | Path, voxel_nm: float | None = None) -> Volume:
    """A grey-value volume as float32. Raises InputError for NaN, infinity or an image of one constant value."""
    volume = read_volume(path, voxel_nm)
    return Volume(grey_values(volume.array, path), volume.voxel_nm, volume.provenance)


def grey_values(array: np.ndarray, name: str | Path) -> np.ndarray:
    """The grey values (any shape) as float32. Raises InputError, naming the image, as `read_image` does."""
    values = np.asarray(array).astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{name}: {np.count_nonzero(~np.isfinite(values))} voxels are NaN or infinite")
    if values.min() == values.max():
        raise InputError(f"{name}: every voxel has the same value {values.flat[0]:g}")
    return values


def read_labels(path: str | Path, mapping: Mapping[int, str] | None = None, voxel_nm: float | None = None) -> Volume:
    """A label volume in the project's codes (uint8; 0..3 and 255). Raises InputError if nothing is labelled."""
    volume = read_volume(path, voxel_nm)
    try:
        labels = to_phase_labels(volume.array, mapping)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if (labels == 255).all():
        raise InputError(f"{path}: no voxel is labelled")
    return Volume(labels, volume.voxel_nm, volume.provenance)


def mapped_anew(array: np.ndarray) -> np.ndarray:
    """A memory-mapped file mapped again: pages read through it leave the process with it. Other arrays as they are."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap) and array.flags.c_contiguous:  # no part of one
        return np.memmap(array.filename, array.dtype, "r", array.offset, array.shape)
    return array


def require_same_shape(**named: np.ndarray | Volume) -> None:
    """Raise InputError unless all named volumes have one shape."""
    shapes = {name: tuple(array.shape) for name, array in named.items()}
    if len(set(shapes.values())) > 1:
        raise InputError("volumes differ in shape: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))


def write_volume(path: str | Path, volume: Volume) -> Path:
    """Write a volume as TIFF stack (.tif, with a JSON sidecar) or OME-Zarr (.zarr), whole or not at all."""
    path = Path(path)
    if path.suffix.lower() in TIFF_ENDINGS:
        with replacing(path) as draft:
            tifffile.imwrite(
                draft,
                _slices(volume.array),
                shape=volume.shape,
                dtype=volume.array.dtype,
                photometric="minisblack",  # or a stack three voxels wide would be a colour picture
                compression="zlib",
                bigtiff=volume.array.dtype.itemsize * math.prod(volume.shape) > 2**32 - 2**25,
                metadata={"axes": "ZYX"},
            )
        write_json(path.with_suffix(".json"), _sidecar(volume))
    elif path.suffix == ".zarr":
        with replacing(path) as draft:
            store = create_zarr(draft, volume.shape, volume.array.dtype, volume.voxel_nm, volume.provenance)
            for start in range(0, volume.shape[0], store.chunks[0]):
                store[start : start + store.chunks[0]] = volume.array[start : start + store.chunks[0]]
    else:
        raise InputError(f"{path}: volumes are written as .tif or .zarr")
    return path


def create_zarr(
    path: str | Path,
    shape: tuple[int, ...],
    dtype: np.dtype | str,
    voxel_nm: float | None = None,
    provenance: Mapping | None = None,
    chunks: tuple[int, ...] | None = None,
) -> zarr.Array:
    """An empty OME-Zarr volume (zarr 3, OME-NGFF 0.5) to be filled slab by slab; (z, y, x) or (c, z, y, x)."""
    leading = len(shape) - 3
    chunks = chunks or (1,) * leading + tuple(min(64, length) for length in shape[leading:])
    group = zarr.open_group(str(path), mode="w")
    array = group.create_array("0", shape=shape, dtype=dtype, chunks=chunks)
    axes = [{"name": "c", "type": "channel"}] * leading
    axes += [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = [1.0] * leading + [voxel_nm or 1.0] * 3
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group.attrs["batseg"] = {"voxel_nm": voxel_nm, "provenance": dict(provenance or {})}
    return array


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A draft path beside `path`, renamed onto it when the block ends well and removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield draft
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(draft, path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        draft.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file, whole or not at all."""
    with replacing(path) as draft:
        draft.write_text(text)
    return Path(path)


def write_json(path: str | Path, content: object) -> Path:
    """Write JSON, whole or not at all; NumPy scalars become plain numbers."""
    return write_text(path, json.dumps(content, indent=1, default=lambda value: value.item()) + "\n")


def _slices(array: np.ndarray) -> Iterator[np.ndarray]:
    """Slices of an array in memory or on disk, which is read 32 slices at a time."""
    for start in range(0, array.shape[0], 32):
        yield from np.asarray(array[start : start + 32])


def _sidecar(volume: Volume) -> dict:
    return {
        "axes": "zyx",
        "shape": list(volume.shape),
        "dtype": str(volume.array.dtype),
        "voxel_size_nm": volume.voxel_nm,
        "provenance": dict(volume.provenance),
    }


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _opener(file: Path) -> Callable[[Path, str | None], Volume]:
    ending = file.suffix.lower()
    if ending == ".zarr":
        return _open_zarr
    if file.is_dir():
        return _open_folder
    openers = dict.fromkeys(TIFF_ENDINGS, _open_tiff) | dict.fromkeys(HDF5_ENDINGS, _open_hdf5)
    openers |= {".npy": _open_npy, ".mrc": _open_mrc, ".rec": _open_mrc, ".map": _open_mrc}
    if ending not in openers:
        raise InputError(f"{file}: unknown format; known are {', '.join(openers)}, .zarr and a folder of slices")
    return openers[ending]


def _open_tiff(file: Path, _inner: str | None) -> Volume:
    try:
        array = tifffile.memmap(file, mode="r")
    except ValueError:  # compressed
        array = tifffile.imread(file)
    if array.ndim == 2:
        array = array[None]
    sidecar = file.with_suffix(".json")
    described = json.loads(sidecar.read_text()) if sidecar.exists() else {}
    return Volume(array, described.get("voxel_size_nm"), described)


def _open_folder(folder: Path, _inner: str | None) -> Volume:
    files = [file for file in folder.iterdir() if file.suffix.lower() in (*TIFF_ENDINGS, ".png")]
    files.sort(key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)])
    if not files:
        raise InputError(f"{folder}: no TIFF or PNG slices in this folder")
    from skimage.io import imread

    return Volume(np.stack([imread(file) for file in files]))


def _open_npy(file: Path, _inner: str | None) -> Volume:
    return Volume(np.load(file, mmap_mode="r", allow_pickle=False))


def _open_mrc(file: Path, _inner: str | None) -> Volume:
    mapped = mrcfile.mmap(file, mode="r", permissive=False)
    angstrom = float(mapped.voxel_size.x)
    return Volume(mapped.data, angstrom / 10 if angstrom > 0 else None)


def _open_hdf5(file: Path, inner: str | None) -> Volume:
    opened = h5py.File(file, "r")
    datasets: list[str] = []
    opened.visititems(lambda name, item: datasets.append("/" + name) if isinstance(item, h5py.Dataset) else None)
    volumes = [name for name in datasets if opened[name].ndim == 3]
    if inner is None and len(volumes) == 1:
        inner = volumes[0]
    if inner is None or not isinstance(opened.get(inner), h5py.Dataset):
        raise InputError(f"{file}: name the dataset as {file.name}:/path; found {', '.join(volumes) or 'no volume'}")
    array = opened[inner]
    voxel_nm = array.attrs.get("voxel_size_nm")
    return Volume(
        array, None if voxel_nm is None else float(voxel_nm), {key: str(array.attrs[key]) for key in array.attrs}
    )


def _open_zarr(file: Path, inner: str | None) -> Volume:
    root = zarr.open(str(file), mode="r")
    if isinstance(root, zarr.Array):
        return Volume(root)
    key = (inner or "0").strip("/")
    if key not in root:
        raise InputError(f"{file}: no array '{key}'; found {', '.join(root.array_keys()) or 'none'}")
    if "batseg" in root.attrs:  # ours: says so if the voxel size is unknown, where OME needs a number
        described = root.attrs["batseg"]
        return Volume(root[key], described["voxel_nm"], described["provenance"])
    return Volume(root[key], _ome_voxel_nm(root.attrs.get("ome", {})))


def _ome_voxel_nm(ome: Mapping) -> float | None:
    units = {"nanometer": 1.0, "micrometer": 1e3, "angstrom": 0.1}
    for image in ome.get("multiscales", []):
        for transform in image["datasets"][0].get("coordinateTransformations", []):
            unit = units.get(image["axes"][-1].get("unit"))
            if transform["type"] == "scale" and unit:
                return float(transform["scale"][-1]) * unit
    return None
