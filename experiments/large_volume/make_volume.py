"""A large tomogram from a small one, mirrored again and again: python make_volume.py small.tif 768 large.zarr

The volume is written slab by slab, so this takes no more memory than the small one. Labels are mirrored the same way.
"""

import sys

import numpy as np

from batseg.progress import track
from batseg.volumes import create_zarr, read_volume, replacing

SLAB = 64


def mirrored_index(length: int, edge: int) -> np.ndarray:
    """Indices 0 .. edge - 1 folded back and forth into 0 .. length - 1."""
    place = np.arange(edge) % (2 * length)
    return np.where(place < length, place, 2 * length - 1 - place)


def main(small: str, edge: int, large: str) -> None:
    volume = read_volume(small)
    z, y, x = (mirrored_index(length, edge) for length in volume.shape)
    with replacing(large) as draft:
        store = create_zarr(draft, (edge,) * 3, volume.array.dtype, volume.voxel_nm, {"mirrored": small})
        for first in track(range(0, edge, SLAB), "mirroring"):
            store[first : first + SLAB] = volume.array[z[first : first + SLAB]][:, y][:, :, x]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
