"""Local thickness (continuous pore size distribution): the largest inscribed ball that covers each voxel."""

from itertools import permutations, product

import edt
import numpy as np
from numba import njit

from batseg.morphology.slabs import WORKERS, in_slabs

STEPS = ((0, 0, 1), (0, 1, 1), (1, 1, 1), (0, 1, 2), (1, 1, 2), (1, 2, 2), (0, 0, 2))
"""Neighbours, up to symmetry, that a ball is compared with: if one of them holds a ball around it, it is left out."""

LARGEST_TABLED = 64**2
"""Squared radius up to which containment of digital balls is decided exactly; beyond it, by distances (also exact)."""


def squared_distance(mask: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Squared distance (voxel²) of each mask voxel's centre to the nearest labelled voxel outside the mask; float32.

    0 outside the mask. The border of the volume and not labelled voxels do not count as background: a pore that the
    sample's edge cuts keeps the size that it shows. A mask without any background gives infinity.
    """
    mask = np.asarray(mask, bool)
    open_mask = mask if valid is None else mask | ~np.asarray(valid, bool)
    squared = edt.edtsq(np.ascontiguousarray(open_mask, dtype=np.uint8), black_border=False, parallel=WORKERS)
    squared[~mask] = 0.0
    return squared


@njit(nogil=True, cache=True)
def _reach_table(order, squared, radius, step, largest):
    """table[R2] = largest |p - step|² of all p with |p|² < R2: a ball with D2 > table[R2] at `step` holds it."""
    table = np.zeros(largest + 1, np.int32)
    furthest = 0
    next_point = 0
    side = 2 * radius + 1
    for limit in range(1, largest + 1):
        while next_point < order.size and squared[order[next_point]] < limit:
            index = order[next_point]
            z, y, x = index // (side * side) - radius, index // side % side - radius, index % side - radius
            reach = (z - step[0]) ** 2 + (y - step[1]) ** 2 + (x - step[2]) ** 2
            furthest = max(furthest, reach)
            next_point += 1
        table[limit] = furthest
    return table


def _reach_tables(largest: int) -> np.ndarray:
    """Containment tables of `STEPS`, (step, largest + 1); by symmetry they hold for every sign and order of a step."""
    radius = int(np.sqrt(largest)) + 1
    axis = np.arange(-radius, radius + 1) ** 2
    squared = (axis[:, None, None] + axis[:, None] + axis).astype(np.int32).ravel()
    order = np.argsort(squared, kind="stable")
    order = order[: np.searchsorted(squared[order], largest)].astype(np.int64)
    return np.stack([_reach_table(order, squared, radius, np.array(step), largest) for step in STEPS])


@njit(nogil=True, cache=True)
def _find_centres(squared, offsets, lengths, kinds, tables, keep, start, stop):
    """keep[z, y, x] = 1 for every voxel of the slab whose ball lies in no ball of a neighbour."""
    depth, height, width = squared.shape
    tabled = tables.shape[1] - 1
    for z in range(start, stop):
        for y in range(height):
            for x in range(width):
                mine = squared[z, y, x]
                if mine <= 0:
                    continue
                kept = True
                for k in range(offsets.shape[0]):
                    nz, ny, nx = z + offsets[k, 0], y + offsets[k, 1], x + offsets[k, 2]
                    if nz < 0 or ny < 0 or nx < 0 or nz >= depth or ny >= height or nx >= width:
                        continue
                    theirs = squared[nz, ny, nx]
                    if theirs <= mine:
                        continue
                    if mine <= tabled:
                        contained = theirs > tables[kinds[k], int(mine)]
                    else:
                        contained = theirs >= (np.sqrt(mine) + lengths[k]) ** 2
                    if contained:
                        kept = False
                        break
                keep[z, y, x] = kept


@njit(nogil=True, cache=True)
def _paint(centres, squared, following, out, start, stop):
    """Paint balls, largest first, into the slices start..stop: every voxel keeps the first value that reaches it.

    following[z, y, x] is how far right of x the next unpainted voxel of its row lies (0: x itself is unpainted).
    """
    height, width = out.shape[1:]
    for index in range(centres.shape[0]):
        linear, limit = centres[index], squared[index]
        cz, cy, cx = linear // (height * width), linear // width % height, linear % width
        value = np.float32(np.sqrt(limit))
        reach = int(np.ceil(np.sqrt(limit))) - 1
        if cz + reach < start or cz - reach >= stop:
            continue
        for z in range(max(start, cz - reach), min(stop, cz + reach + 1)):
            left_z = limit - (z - cz) ** 2
            if left_z <= 0:
                continue
            reach_y = int(np.ceil(np.sqrt(left_z))) - 1
            for y in range(max(0, cy - reach_y), min(height, cy + reach_y + 1)):
                left = left_z - (y - cy) ** 2
                if left <= 0:
                    continue
                half = int(np.ceil(np.sqrt(left))) - 1
                x, end = max(0, cx - half), min(width - 1, cx + half)
                while x <= end:
                    if following[z, y, x] == 0:
                        out[z, y, x] = value
                        following[z, y, x] = 1
                        x += 1
                        continue
                    ahead = x + following[z, y, x]
                    if ahead < width and following[z, y, ahead] > 0:  # shorten the path for the next ball
                        following[z, y, x] = min(65535, following[z, y, x] + following[z, y, ahead])
                    x = ahead


def local_thickness(mask: np.ndarray, voxel_nm: float = 1.0, valid: np.ndarray | None = None) -> np.ndarray:
    """Radius in nm of the largest ball inside `mask` that covers each voxel; float32, 0 outside the mask.

    A ball of squared radius D2 around c covers |p - c|² < D2, with D2 the squared distance of c to the nearest
    background voxel; balls are centred in the mask and may reach over the volume's border or into voxels that are not
    `valid`. Exact on the grid; as distances run to voxel centres, a radius is up to half a voxel too large. Infinite
    where the mask has no background. Time goes with the surface of the balls, memory is 15 bytes a voxel.
    Source: Hildebrand & Rüegsegger, J. Microsc. 185 (1997); paper, Supplementary Note 7 (pore radius).
    """
    squared = squared_distance(mask, valid)
    if not squared.any():
        return squared
    if not np.isfinite(squared.max()):
        return np.where(squared > 0, np.float32(np.inf), np.float32(0))
    if mask.shape[2] > 65535:
        raise ValueError(f"rows are limited to 65535 voxels, got shape {mask.shape}")
    centres, radii = _ball_centres(squared)
    out = squared
    out[:] = 0.0
    following = np.zeros(mask.shape, np.uint16)
    in_slabs(_paint, mask.shape[0], mask.size, centres, radii, following, out)
    out[~np.asarray(mask, bool)] = 0.0
    out *= voxel_nm
    return out


def _ball_centres(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linear indices and squared radii of the balls that no neighbour's ball contains, largest first."""
    offsets, kinds = [], []
    for kind, step in enumerate(STEPS):
        for signs in product((-1, 1), repeat=3):
            offsets += [tuple(np.array(p) * signs) for p in permutations(step)]
        offsets = list(dict.fromkeys(offsets))
        kinds += [kind] * (len(offsets) - len(kinds))
    tables = _reach_tables(int(min(squared.max(), LARGEST_TABLED)))
    lengths = np.sqrt((np.array(offsets) ** 2).sum(axis=1))
    keep = np.zeros(squared.shape, np.bool_)
    arguments = (squared, np.array(offsets), lengths, np.array(kinds), tables, keep)
    in_slabs(_find_centres, squared.shape[0], squared.size, *arguments)
    centres = np.flatnonzero(keep)
    radii = squared.ravel()[centres].astype(np.int32)
    order = np.argsort(-radii, kind="stable")
    return centres[order], radii[order]
