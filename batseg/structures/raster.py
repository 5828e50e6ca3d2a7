"""Particles to voxels: each voxel belongs to the particle of the smallest level f, so overlaps become flat contacts.

One threshold per phase on f then meets its volume fraction exactly (a generalised Laguerre partition, cut off).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit

from batseg.morphology.slabs import in_slabs
from batseg.phases import PHASES
from batseg.structures.fields import sample
from batseg.structures.packing import Packing
from batseg.structures.particles import BOUND, level

LEVELS = 16384  # steps of f per unit, as stored
EMPTY = np.uint16(65535)
GROWTH = (0.7, 1.38)
"""Thresholds on f that count as the particles asked for."""


def rasterise(
    packing: Packing, shape: Sequence[int], fractions: Mapping[int, float], contact_gaps: Mapping[int, float]
) -> tuple[np.ndarray, np.ndarray, dict[int, float]]:
    """Labels (uint8), instances (int32, numbers of the packing) and the threshold on f of each phase.

    Raises ValueError where a fraction cannot be reached by letting the particles grow.
    """
    f = np.full(shape, EMPTY, np.uint16)
    owner = np.zeros(shape, np.int32)
    shapes = packing.shapes
    in_slabs(
        _raster, shape[0], f.size, shapes.geometry, shapes.faces, shapes.cracks, packing.noise.values, packing.domain,
        f, owner,
    )  # fmt: skip
    phase_of = np.concatenate([[0], packing.phase]).astype(np.uint8)
    gaps = np.zeros(4, np.float32)
    for code, share in contact_gaps.items():
        gaps[code] = share
    if gaps.any():
        in_slabs(_open_contacts, shape[0], f.size, owner, phase_of, gaps, packing.noise.values)
    histogram = sum(in_slabs(_histogram, shape[0], f.size, f, owner, phase_of))
    thresholds = {}
    for code, asked in fractions.items():
        cumulative = np.cumsum(histogram[code])
        wanted = round(asked * f.size)
        low, high = (int(end * LEVELS) for end in GROWTH)
        if wanted and cumulative[high] < wanted:
            raise ValueError(
                f"impossible packing: fractions.{PHASES[code]} asked {asked:.3f}, the particles reach "
                f"{cumulative[high] / f.size:.3f}; allow more overlap, fewer slits or a wider size range"
            )
        thresholds[code] = max(int(np.searchsorted(cumulative, wanted)), low if wanted else -1)
    limits = np.array([thresholds.get(code, -1) for code in range(4)], np.int64)
    labels = np.zeros(shape, np.uint8)
    in_slabs(_label, shape[0], f.size, f, owner, phase_of, limits, labels)
    return labels, owner, {code: limit / LEVELS for code, limit in thresholds.items()}


@njit(nogil=True, cache=True)
def _raster(geometry, faces, cracks, noise, domain, f, owner, start, stop):
    """Fill f and owner (negative in slits) in slices start..stop, with the periodic images of every particle."""
    _, height, width = f.shape
    for n in range(geometry.shape[0]):
        g = geometry[n]
        reach = g[BOUND]
        if g[12] <= 0:
            continue
        for a in range(-1, 2):
            z = g[0] + a * domain[0]
            if z + reach < start or z - reach > stop:
                continue
            for b in range(-1, 2):
                y = g[1] + b * domain[1]
                if y + reach < 0 or y - reach > height:
                    continue
                for c in range(-1, 2):
                    x = g[2] + c * domain[2]
                    if x + reach < 0 or x - reach > width:
                        continue
                    for k in range(max(start, int(z - reach)), min(stop, int(z + reach) + 1)):
                        for j in range(max(0, int(y - reach)), min(height, int(y + reach) + 1)):
                            for i in range(max(0, int(x - reach)), min(width, int(x + reach) + 1)):
                                value, slit = level(
                                    g, faces[n], cracks[n], noise,
                                    np.float32(k + 0.5 - z), np.float32(j + 0.5 - y), np.float32(i + 0.5 - x),
                                )  # fmt: skip
                                if value < 1.4:
                                    stored = np.uint16(value * LEVELS)
                                    if stored < f[k, j, i]:
                                        f[k, j, i] = stored
                                        owner[k, j, i] = -(n + 1) if slit else n + 1


@njit(nogil=True, cache=True)
def _open_contacts(owner, phase_of, gaps, noise, start, stop):
    """Turn a share of the voxels where two particles meet into slits; a voxel's particle stays the same."""
    depth, height, width = owner.shape
    for k in range(start, stop):
        for j in range(height):
            for i in range(width):
                here = owner[k, j, i]
                if here <= 0:
                    continue
                meets = False
                for a, b, c in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
                    z, y, x = k + a, j + b, i + c
                    if 0 <= z < depth and 0 <= y < height and 0 <= x < width and abs(owner[z, y, x]) > here:
                        meets = True
                if meets:
                    chance = 0.5 + 0.4 * sample(noise, k * 0.23, j * 0.23, i * 0.23)
                    if chance < gaps[phase_of[here]]:
                        owner[k, j, i] = -here


@njit(nogil=True, cache=True)
def _histogram(f, owner, phase_of, start, stop):
    counts = np.zeros((4, int(1.4 * LEVELS) + 2), np.int64)
    for k in range(start, stop):
        for j in range(f.shape[1]):
            for i in range(f.shape[2]):
                if owner[k, j, i] > 0:
                    counts[phase_of[owner[k, j, i]], f[k, j, i]] += 1
    return counts


@njit(nogil=True, cache=True)
def _label(f, owner, phase_of, limits, labels, start, stop):
    """Labels from the thresholds; owner becomes the instance number, 0 outside the particles."""
    for k in range(start, stop):
        for j in range(f.shape[1]):
            for i in range(f.shape[2]):
                here = owner[k, j, i]
                if here > 0 and f[k, j, i] <= limits[phase_of[here]]:
                    labels[k, j, i] = phase_of[here]
                else:
                    owner[k, j, i] = 0
