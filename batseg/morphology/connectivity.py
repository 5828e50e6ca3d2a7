"""Connectivity of a phase: percolating part and Euler number."""

import cc3d
import numpy as np
from numba import njit


def percolating(mask: np.ndarray, axis: int, connectivity: int = 6) -> np.ndarray:
    """The part of a mask whose components reach from the first to the last slice along `axis`, as a mask.

    connectivity: 6 (faces, as a finite-volume conductor sees it) or 26.
    """
    mask = np.ascontiguousarray(mask, bool)
    components = cc3d.connected_components(mask, connectivity=connectivity)
    first, last = np.take(components, 0, axis), np.take(components, -1, axis)
    through = np.intersect1d(first[first > 0], last[last > 0])
    kept = np.zeros(int(components.max(initial=0)) + 1, bool)
    kept[through] = True
    return kept[components]


def percolating_fraction(mask: np.ndarray, axis: int, connectivity: int = 6) -> float:
    """Share of a mask's voxels that percolate along `axis`; NaN for an empty mask."""
    volume = np.count_nonzero(mask)
    return np.count_nonzero(percolating(mask, axis, connectivity)) / volume if volume else float("nan")


def largest_component_fraction(mask: np.ndarray, connectivity: int = 6) -> float:
    """Share of a mask's voxels in its largest component; NaN for an empty mask."""
    volume = np.count_nonzero(mask)
    if not volume:
        return float("nan")
    sizes = np.bincount(cc3d.connected_components(np.ascontiguousarray(mask, bool), connectivity=connectivity).ravel())
    return float(sizes[1:].max() / volume)


@njit(nogil=True, cache=True)
def _euler6(mask):
    depth, height, width = mask.shape
    euler = 0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if not mask[z, y, x]:
                    continue
                euler += 1
                right = x + 1 < width and mask[z, y, x + 1]
                down = y + 1 < height and mask[z, y + 1, x]
                deep = z + 1 < depth and mask[z + 1, y, x]
                euler -= int(right) + int(down) + int(deep)
                face_yx = right and down and mask[z, y + 1, x + 1]
                face_zx = right and deep and mask[z + 1, y, x + 1]
                face_zy = down and deep and mask[z + 1, y + 1, x]
                euler += int(face_yx) + int(face_zx) + int(face_zy)
                if face_yx and face_zx and face_zy and mask[z + 1, y + 1, x + 1]:
                    euler -= 1
    return euler


def euler_number(mask: np.ndarray, connectivity: int = 6) -> int:
    """Euler number: components - tunnels + cavities, with 6- or 26-connected foreground; 0 for an empty mask.

    6: vertices - edges + faces - cubes of the graph of voxel centres. 26: by way of
    the 6-connected complement. Source: Ohser & Mücklich, Statistical Analysis of Microstructures (2000).
    """
    mask = np.ascontiguousarray(mask, bool)
    if connectivity == 6:
        return int(_euler6(mask))
    if connectivity == 26:
        # X and its complement in a ball share their surface: chi(complement) = chi(X) + 1.
        background = np.pad(~mask, 1, constant_values=True)
        return int(_euler6(background)) - 1
    raise ValueError(f"connectivity must be 6 or 26, got {connectivity}")
