"""A truth and a prediction on disk as slabs of project labels, over the slices that both have."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batseg.phases import NOT_LABELLED, to_phase_labels
from batseg.progress import track
from batseg.volumes import InputError, Volume, open_volume

SLAB_VOXELS = 1 << 23


@dataclass(frozen=True)
class LabelPair:
    """Opened truth, prediction and mask (None: all is scored); `first` is the slice of each that is scored first."""

    paths: tuple[str, str, str | None]
    volumes: tuple[Volume, Volume, Volume | None]
    first: tuple[int, int, int]
    shape: tuple[int, int, int]
    mapping: Mapping[int, str] | None = None

    def slabs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs (truth, prediction) of uint8 slabs in the project's codes; truth is 255 outside the mask.

        Raises InputError for label values outside the map, float labels, and a mask that selects nothing.
        """
        depth, height, width = self.shape
        step = max(1, SLAB_VOXELS // (height * width))
        selected = self.volumes[2] is None
        for start in track(range(0, depth, step), "reading labels"):
            truth, prediction, mask = (self._slab(index, start, min(step, depth - start)) for index in range(3))
            if mask is not None:
                selected |= bool(mask.any())
                truth = np.where(mask != 0, truth, np.uint8(NOT_LABELLED))
            yield truth, prediction
        if not selected:
            raise InputError(f"{self.paths[2]}: the mask selects no voxel")

    def _slab(self, index: int, start: int, length: int) -> np.ndarray | None:
        volume = self.volumes[index]
        if volume is None:
            return None
        begin = self.first[index] + start
        try:
            slab = np.asarray(volume.array[begin : begin + length])
            return slab if index == 2 else to_phase_labels(slab, self.mapping)
        except ValueError as error:
            raise InputError(f"{self.paths[index]}: {error}") from error


def open_pair(
    truth: str | Path | np.ndarray,
    prediction: str | Path | np.ndarray,
    mask: str | Path | np.ndarray | None = None,
    slices: Sequence[int] | None = None,
    mapping: Mapping[int, str] | None = None,
) -> LabelPair:
    """Open truth, prediction and mask (paths, or arrays in memory) and agree on the slices to score.

    `slices` = [first, last) of the whole scan: a volume that has just last - first slices is taken as it is, a deeper
    one is cut. Without `slices` the truth's sidecar (`slice_range`) says it where the depths differ.
    Raises InputError if the shapes cannot be brought together.
    """
    paths, volumes = zip(*(_opened(*item) for item in {"truth": truth, "prediction": prediction, "mask": mask}.items()))
    opened = [(path, volume.shape) for path, volume in zip(paths, volumes) if volume is not None]
    described = "; ".join(f"{path} {shape}" for path, shape in opened)
    if len({shape[1:] for _, shape in opened}) > 1:
        raise InputError(f"volumes differ in shape: {described}")
    known = slices if slices is not None else volumes[0].provenance.get("slice_range")
    if slices is None and len({shape for _, shape in opened}) == 1:
        known = (0, volumes[0].shape[0])
    if known is None:
        raise InputError(
            f"volumes differ in shape: {described}; give slices=[first,last] if one is a part of the other"
        )
    if len(known) != 2 or not all(isinstance(bound, int) for bound in known) or not 0 <= known[0] < known[1]:
        raise InputError(f"slices must be [first,last] with 0 <= first < last, got {list(known)}")
    first = tuple(0 if volume is None else _first_slice(volume, known, described) for volume in volumes)
    return LabelPair(paths, volumes, first, (known[1] - known[0], *volumes[0].shape[1:]), mapping)


def _opened(role: str, source: str | Path | np.ndarray | None) -> tuple[str | None, Volume | None]:
    """How to call a volume in messages, and the volume."""
    if source is None:
        return None, None
    return (role, Volume(source)) if isinstance(source, np.ndarray) else (str(source), open_volume(source))


def _first_slice(volume: Volume, known: Sequence[int], described: str) -> int:
    depth = volume.shape[0]
    if depth == known[1] - known[0]:
        return 0
    if depth < known[1]:
        raise InputError(f"slices {known[0]} to {known[1]} do not fit: {described}")
    return known[0]
