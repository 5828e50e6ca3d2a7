"""Patches from labelled tomograms on disk: pairs are found and checked, then read crop by crop, thin axis first."""

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from batseg.normalisation import robust_scale, sample_mask, scaled
from batseg.phases import NOT_LABELLED, PHASES, to_phase_labels
from batseg.volumes import InputError, Volume, open_volume, require_same_shape, split_path

_BLOCK = 8
"""Edge of the blocks in which labelled voxels are counted beforehand."""

_POSITIONS = 500_000
"""At most about this many voxel positions of a volume are remembered for crops around a phase."""

_SLAB_VOXELS = 16_000_000
"""Volumes are surveyed in slabs of about this many voxels."""


@dataclass(frozen=True)
class Pair:
    """Where one labelled tomogram lies: one image per channel (or none), its labels, their codes and voxel size."""

    images: tuple[str, ...]
    labels: str
    label_map: Mapping[int, str] | None = None
    voxel_nm: float | None = None


@dataclass(frozen=True)
class Crop:
    """A patch of a volume: first voxel and size (z, y, x) and the axis that comes first, the thin one."""

    start: tuple[int, ...]
    size: tuple[int, ...]
    thin_axis: int

    @property
    def box(self) -> tuple[slice, ...]:
        return tuple(slice(first, first + length) for first, length in zip(self.start, self.size))


def find_pairs(
    source: str | Mapping | Sequence, label_map: Mapping[int, str] | None = None, voxel_nm: float | None = None
) -> list[Pair]:
    """Image and label pairs of one source of learning data.

    A source is a folder (or glob of folders) that holds `image.*` and `labels.*`, or a folder of such folders; a
    mapping `{image: path or glob, labels: path or glob}` whose files pair up in sorted order; or a list of those.
    In a mapping `image` may be a list (channels) or missing (labels alone), `label_map` and `voxel_nm` may stand
    beside it, and with `folder` the two are names without ending inside each folder.
    """
    if isinstance(source, (str, Path)):
        source = {"folder": str(source), "image": "image", "labels": "labels"}
    if not isinstance(source, Mapping):
        return [pair for part in source for pair in find_pairs(part, label_map, voxel_nm)]
    unknown = set(source) - {"folder", "image", "labels", "label_map", "voxel_nm"}
    if unknown or "labels" not in source:
        raise InputError(f"a source is a folder or {{image: ..., labels: ...}}; got keys {', '.join(map(str, source))}")
    images = source.get("image") or []
    images = [images] if isinstance(images, (str, Path)) else list(images)
    if "folder" in source:
        folders = _folders(str(source["folder"]), str(source["labels"]))
        channels = [[_in_folder(folder, str(name)) for folder in folders] for name in images]
        labels = [_in_folder(folder, str(source["labels"])) for folder in folders]
    else:
        channels = [_matches(str(pattern)) for pattern in images]
        labels = _matches(str(source["labels"]))
    for files in channels:
        if len(files) != len(labels):
            raise InputError(f"{source['image']}: {len(files)} images but {len(labels)} labels ({source['labels']})")
    codes, size = source.get("label_map") or label_map, source.get("voxel_nm") or voxel_nm
    return [Pair(tuple(files), label, codes, size) for *files, label in zip(*channels, labels)]


class LabelledVolume:
    """One tomogram with labels, surveyed once, then read crop by crop; part of a volume is a `box` of it.

    The survey reads everything slab by slab: it refuses NaN, unknown label codes and volumes without labels, counts
    the voxels per phase, remembers where labelled voxels are, and measures the grey scale inside the sample's mask.
    Arrays on disk are opened anew in each process that reads them.
    """

    def __init__(self, pair: Pair, box: tuple[slice, ...] | None = None, scales: Sequence | None = None):
        self.pair = pair
        volumes = _opened(pair)
        self.voxel_nm = _common_voxel_nm(pair, [volume.voxel_nm for volume in volumes])
        self.box = box or tuple(slice(0, length) for length in volumes[0].shape)
        self.shape = tuple(part.stop - part.start for part in self.box)
        self._opened, self._process = [volume.array for volume in volumes], os.getpid()
        self.scales = list(scales) if scales is not None else self._measure_scales()
        self._survey(check_images=box is None)

    @property
    def name(self) -> str:
        return self.pair.labels

    @property
    def nbytes(self) -> int:
        """Bytes that `hold` would take on top of what is in memory already."""
        return sum(array.size * array.dtype.itemsize for array in self._arrays if not isinstance(array, np.ndarray))

    def hold(self) -> None:
        """Read the arrays into memory."""
        self._opened = [np.asarray(array[:]) for array in self._arrays]

    def parts(self, share: float) -> tuple["LabelledVolume", "LabelledVolume"]:
        """This volume cut in two along its longest axis: all but the last `share` of the slices, and those."""
        axis = int(np.argmax(self.shape))
        whole = self.box[axis]
        cut = whole.stop - max(1, round(share * self.shape[axis]))
        if cut <= whole.start:
            raise InputError(f"{self.name}: a share of {share} of {self.shape[axis]} slices leaves nothing to train on")
        boxes = [list(self.box), list(self.box)]
        boxes[0][axis], boxes[1][axis] = slice(whole.start, cut), slice(cut, whole.stop)
        return tuple(LabelledVolume(self.pair, tuple(box), self.scales) for box in boxes)

    def thin_axes(self, patch: Sequence[int]) -> list[int]:
        """The axes along which the thin side of the patch (thin, a, b) may lie so that it fits into the volume."""
        return [axis for axis in range(3) if np.all(np.array(oriented(patch, axis)) <= self.shape)]

    def draw(
        self,
        patch: Sequence[int],
        rng: np.random.Generator,
        phase: int | None = None,
        labelled: float = 0.5,
        axes: Sequence[int] = (0, 1, 2),
    ) -> Crop:
        """A random crop: thin axis equally likely among those of `axes` that fit, position uniform.

        With `phase`, the crop contains a random voxel of that phase (if the volume has any). Else positions are drawn
        until the share `labelled` of the patch carries labels; where that is hard to meet (sparse paint) the crop
        contains a random labelled voxel.
        """
        axes = [axis for axis in self.thin_axes(patch) if axis in axes]
        if not axes:
            raise InputError(
                f"patch {tuple(patch)} fits into {self.name} {self.shape} in no orientation; use a smaller"
            )
        axis = axes[rng.integers(len(axes))]
        size = np.array(oriented(patch, axis))
        room = np.array(self.shape) - size
        if phase is None or self.counts[phase] == 0:
            for _ in range(32):
                start = rng.integers(0, room + 1)
                if self.fully_labelled or self._labelled_share(start, size) >= labelled:
                    return Crop(tuple(map(int, start)), tuple(map(int, size)), axis)
            phase = int(rng.choice(4, p=self.counts / self.counts.sum()))
        positions = self.positions[phase]
        voxel = np.array(np.unravel_index(positions[rng.integers(len(positions))], self.shape))
        start = np.clip(voxel - rng.integers(0, size), 0, room)
        return Crop(tuple(map(int, start)), tuple(map(int, size)), axis)

    def read(self, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
        """Normalised image (channel, thin, a, b; float32) and labels (thin, a, b; uint8) of a crop."""
        box = tuple(slice(whole.start + part.start, whole.start + part.stop) for whole, part in zip(self.box, crop.box))
        *images, labels = self._arrays
        image = np.empty((len(images), *crop.size), np.float32)
        for channel, array, scale in zip(image, images, self.scales):
            channel[:] = scaled(array[box], *scale)
        codes = to_phase_labels(labels[box], self.pair.label_map)
        return np.moveaxis(image, crop.thin_axis + 1, 1), np.moveaxis(codes, crop.thin_axis, 0)

    @property
    def _arrays(self) -> list[np.ndarray]:
        """The images and the labels; file handles do not survive a fork, so each process opens its own."""
        if self._process != os.getpid():
            anew = [volume.array for volume in _opened(self.pair)]
            kept = self._opened or anew
            self._opened = [array if isinstance(array, np.ndarray) else new for array, new in zip(kept, anew)]
            self._process = os.getpid()
        return self._opened

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None, "_process": None}

    def _measure_scales(self) -> list[tuple[float, float]]:
        scales = []
        for path, array in zip(self.pair.images, self._arrays):
            try:
                scales.append(robust_scale(array, sample_mask(array)))
            except ValueError as error:
                raise InputError(f"{path}: {error}") from error
        return scales

    def _survey(self, check_images: bool) -> None:
        *images, labels = self._arrays
        depth = max(_BLOCK, _SLAB_VOXELS // int(np.prod(self.shape[1:])) // _BLOCK * _BLOCK)
        thinning = -(-int(np.prod(self.shape)) // _POSITIONS)
        self.counts = np.zeros(4, np.int64)
        positions: list[list[np.ndarray]] = [[] for _ in PHASES]
        blocks = []
        for first in range(0, self.shape[0], depth):
            last = min(first + depth, self.shape[0])
            box = (slice(self.box[0].start + first, self.box[0].start + last), *self.box[1:])
            if check_images:
                for path, array in zip(self.pair.images, images):
                    if not np.isfinite(array[box]).all():
                        raise InputError(f"{path}: NaN or infinite values in slices {first} to {last - 1}")
            try:
                slab = to_phase_labels(labels[box], self.pair.label_map)
            except ValueError as error:
                raise InputError(f"{self.pair.labels}: {error}") from error
            for phase in range(4):
                found = np.flatnonzero(slab == phase)
                self.counts[phase] += found.size
                positions[phase].append(found[::thinning] + first * self.shape[1] * self.shape[2])
            blocks.append(_block_sums(slab != NOT_LABELLED))
        if self.counts.sum() == 0:
            raise InputError(f"{self.pair.labels}: no voxel is labelled in {_shown(self.box)}")
        self.positions = [np.concatenate(found) for found in positions]
        self.fully_labelled = self.counts.sum() == np.prod(self.shape)
        table = np.concatenate(blocks).astype(np.float64).cumsum(0).cumsum(1).cumsum(2)
        self._table = np.pad(table, ((1, 0),) * 3)

    def _labelled_share(self, start: np.ndarray, size: np.ndarray) -> float:
        """Share of labelled voxels in a crop, interpolated between counts up to the edges of blocks."""
        corners = np.array(list(np.ndindex(2, 2, 2)))
        places = (start + corners * size).T.astype(float)
        for axis, length in enumerate(self.shape):
            edges = np.append(np.arange(0, length, _BLOCK), length)
            places[axis] = np.interp(places[axis], edges, np.arange(len(edges)))
        counts = ndimage.map_coordinates(self._table, places, order=1)
        return float(np.sum(counts * (-1) ** (3 - corners.sum(axis=1))) / np.prod(size))


class LabelledSlices:
    """Labels of a range of slices as labels (z, y, x) of the whole scan: 255 in all other slices, like an array."""

    def __init__(self, labels: np.ndarray, first: int, slices: int):
        self.labels, self.first, self.dtype = labels, first, labels.dtype
        self.shape = (slices, *labels.shape[1:])
        self.size = int(np.prod(self.shape))

    def __getitem__(self, box: slice | tuple[slice, ...]) -> np.ndarray:
        part, *rest = box if isinstance(box, tuple) else (box,)
        start, stop, step = part.indices(self.shape[0])
        low, high = (int(np.clip(z - self.first, 0, len(self.labels))) for z in (start, stop))
        found = np.asarray(self.labels[(slice(low, high), *rest)])
        whole = np.full((stop - start, *found.shape[1:]), NOT_LABELLED, found.dtype)
        whole[low + self.first - start : high + self.first - start] = found
        return whole[::step]


def oriented(patch: Sequence[int], thin_axis: int) -> tuple[int, ...]:
    """Size (z, y, x) of a patch (thin, a, b) whose thin side lies along `thin_axis`."""
    thin, *sides = patch
    return tuple(np.insert(sides, thin_axis, thin).tolist())


def check_voxel_sizes(volumes: Sequence[LabelledVolume], voxel_nm: float | None) -> float:
    """The one voxel size (nm) of all volumes; InputError if one is unknown or they differ by more than 1 %."""
    sizes = {volume.name: volume.voxel_nm or voxel_nm for volume in volumes}
    unknown = [name for name, size in sizes.items() if size is None]
    if unknown:
        raise InputError(f"{unknown[0]}: the voxel size is unknown; give data.voxel_nm=...")
    wanted = voxel_nm or next(iter(sizes.values()))
    for name, size in sizes.items():
        if abs(size / wanted - 1) > 0.01:
            raise InputError(f"{name}: voxel size {size:g} nm, expected {wanted:g} nm; resample it first")
    return float(wanted)


def _opened(pair: Pair) -> list[Volume]:
    """Images and labels of one shape; labels of fewer slices lie where their sidecar's `slice_range` says."""
    paths = (*pair.images, pair.labels)
    *images, labels = (open_volume(path) for path in paths)
    known = labels.provenance.get("slice_range")
    if images and known and labels.shape[0] == known[1] - known[0] < images[0].shape[0] >= known[1]:
        labels = Volume(LabelledSlices(labels.array, known[0], images[0].shape[0]), labels.voxel_nm, labels.provenance)
    require_same_shape(**dict(zip(map(str, paths), (*images, labels))))
    return [*images, labels]


def _common_voxel_nm(pair: Pair, sizes: Sequence[float | None]) -> float | None:
    known = [size for size in sizes if size]
    if pair.voxel_nm is None and known and max(known) > 1.01 * min(known):
        raise InputError(f"{pair.labels}: image and labels differ in voxel size: {known} nm")
    return pair.voxel_nm or (known[0] if known else None)


def _folders(pattern: str, labels: str) -> list[Path]:
    folders = [Path(path) for path in sorted(glob.glob(pattern)) if Path(path).is_dir()]
    if len(folders) == 1 and not _named(folders[0], labels):
        folders = sorted(path for path in folders[0].iterdir() if path.is_dir() and _named(path, labels))
    if not folders:
        raise InputError(f"{pattern}: no folder with {labels}.* there")
    return folders


def _in_folder(folder: Path, name: str) -> str:
    found = _named(folder, name)
    if len(found) != 1:
        raise InputError(f"{folder}: expected one file {name}.*, found {', '.join(f.name for f in found) or 'none'}")
    return str(found[0])


def _named(folder: Path, name: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"{name}.*") if path.suffix != ".json")


def _matches(pattern: str) -> list[str]:
    file, inner = split_path(pattern)
    found = sorted(glob.glob(str(file)))
    if not found:
        raise InputError(f"no such file: {pattern}")
    return [path if inner is None else f"{path}:{inner}" for path in found]


def _block_sums(labelled: np.ndarray) -> np.ndarray:
    """Labelled voxels in blocks of 8 x 8 x 8; the last block of an axis may be smaller."""
    sums = labelled.astype(np.int32)
    for axis in range(3):
        sums = np.add.reduceat(sums, np.arange(0, sums.shape[axis], _BLOCK), axis=axis)
    return sums


def _shown(box: tuple[slice, ...]) -> str:
    return "[" + ", ".join(f"{part.start}:{part.stop}" for part in box) + "]"
