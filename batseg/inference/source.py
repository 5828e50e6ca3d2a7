"""A normalised image that is read where it is sliced: nothing is held in memory."""

from collections.abc import Sequence

import numpy as np

from batseg.normalisation import scaled
from batseg.volumes import InputError, mapped_anew


class NormalisedImage:
    """Looks like a float32 array (z, y, x), or (channel, z, y, x) for several channels.

    Every channel is (array, centre, spread), see `batseg.normalisation`; its array may lie on disk. A NaN or infinity
    raises InputError when it is read.
    """

    def __init__(self, channels: Sequence[tuple[np.ndarray, float, float]]):
        shapes = {tuple(array.shape) for array, _, _ in channels}
        if len(shapes) != 1:
            raise InputError(f"channels differ in shape: {', '.join(map(str, shapes))}")
        self.channels = list(channels)
        (shape,) = shapes
        self.shape = shape if len(channels) == 1 else (len(channels), *shape)
        self.ndim = len(self.shape)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        parts = [self._read(*channel, index[-3:]) for channel in self.channels]
        return parts[0] if self.ndim == 3 else np.stack(parts)

    @staticmethod
    def _read(array: np.ndarray, centre: float, spread: float, index: tuple[slice, ...]) -> np.ndarray:
        part = np.asarray(mapped_anew(array)[index])
        if not np.isfinite(part).all():
            raise InputError("the image holds NaN or infinite voxels")
        return scaled(part, centre, spread)
