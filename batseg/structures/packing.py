"""Packing: random sequential addition, largest particle first, with a set overlap, on a coarse periodic grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from batseg.structures.fields import Lattice, gaussian_lattice, sample
from batseg.structures.particles import (
    ANGULARITY,
    AXES,
    BOUND,
    CENTRE,
    FACES,
    SEMI,
    Shapes,
    draw_diameters,
    draw_shapes,
    join,
    level,
)
from batseg.structures.recipe import Particles

TRIES = 300
ROUNDS = 8
TOLERANCE = 0.02
"""How close the placed volume must come to the asked one, relative; rasterising meets the rest exactly."""


@dataclass
class Packing:
    """Placed particles (numbered from 1 in the order of `shapes`), the phase code of each, the periodic domain."""

    shapes: Shapes
    phase: np.ndarray
    domain: np.ndarray  # voxels, float
    noise: Lattice


class Domain:
    """Occupancy on a coarse periodic grid: number of the particle, negative in its slits, 0 where free."""

    def __init__(self, shape: Sequence[int], margin: float, step: float, noise: Lattice):
        points = [max(1, round((edge + margin) / step)) for edge in shape]
        self.cells = np.zeros(points, np.int32)
        self.size = np.array(shape, float) + margin
        self.step = self.size / points
        self.noise = noise
        self.block = tuple(slice(0, max(1, round(edge / h))) for edge, h in zip(shape, self.step))

    def solid_shares(self, phase: np.ndarray) -> np.ndarray:
        """Share of the block that each particle holds, without its slits, (particle + 1,)."""
        inside = self.cells[self.block]
        return np.bincount(inside[inside > 0], minlength=len(phase) + 1) / inside.size


def pack(
    kinds: Mapping[int, Particles],
    fractions: Mapping[int, float],
    shape: Sequence[int],
    voxel_nm: float,
    periodic: bool,
    cluster_length_nm: float,
    rng: np.random.Generator,
) -> Packing:
    """Place particles of every phase {code: ...} until the block of `shape` holds the asked volume fractions.

    With cut boundaries the domain is larger than the block by the largest particle; what lies outside is cropped away.
    """
    noise = gaussian_lattice((64, 64, 64), 2.0, rng)
    kinds = {code: kind for code, kind in kinds.items() if fractions[code] > 0}
    thinnest = min((kind.size.median_nm * kind.shape.flatness for kind in kinds.values()), default=voxel_nm) / voxel_nm
    largest = max((kind.size.max_nm for kind in kinds.values()), default=0.0) / voxel_nm
    margin = 0.0 if periodic else min(1.5 * largest, float(max(shape)))
    domain = Domain(shape, margin, float(np.clip(thinnest / 6, 1, 4)), noise)
    cluster = gaussian_lattice(domain.cells.shape, cluster_length_nm / voxel_nm / domain.step[0], rng)
    sets, codes = [], []
    for code, kind in kinds.items():
        diameters = draw_diameters(kind.size, fractions[code] * domain.size.prod(), voxel_nm, rng)
        sets.append(draw_shapes(kind, diameters, voxel_nm, rng))
        codes.append(np.full(len(diameters), code))
    shapes, phase = (join(*sets), np.concatenate(codes)) if sets else (Shapes.none(), np.zeros(0, int))
    order = np.argsort(-shapes.volumes, kind="stable")
    shapes, phase = shapes.take(order), phase[order]
    for number in range(len(shapes)):
        code = phase[number]
        _place(shapes, number, kinds[code], cluster, domain, domain.size, rng)
    for code, kind in kinds.items():
        shapes, phase = _correct(shapes, phase, code, kind, fractions[code], cluster, domain, shape, voxel_nm, rng)
    return Packing(shapes, phase, domain.size, noise)


def _place(
    shapes: Shapes,
    number: int,
    kind: Particles,
    cluster: Lattice,
    domain: Domain,
    extent: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Give a particle the first of many drawn places (in 0..extent) where it overlaps little enough, or the best."""
    g, faces, cracks = shapes.geometry[number], shapes.faces[number], shapes.cracks[number]
    centres = (rng.random((TRIES, 3)) * extent).astype(np.float32)
    chances = rng.random(TRIES)
    points = _inner_points(g, faces) * np.float32(1 + kind.spacing)
    best = _find_place(
        domain.cells, domain.step, points, centres, chances, cluster.values, cluster.step, kind.clustering, kind.overlap
    )
    g[CENTRE : CENTRE + 3] = centres[best]
    _stamp(domain.cells, domain.step, g, faces, cracks, domain.noise.values, number + 1)


def _correct(shapes, phase, code, kind, asked, cluster, domain, block, voxel_nm, rng):
    """Add or take away particles of one phase until the block holds what is asked, within TOLERANCE."""
    for _ in range(ROUNDS):
        shares = domain.solid_shares(phase)
        own = np.concatenate([[0.0], np.where(phase == code, shares[1:], 0.0)])
        missing = asked - own.sum()
        if abs(missing) <= TOLERANCE * asked:
            break
        if missing > 0:
            diameters = draw_diameters(kind.size, missing * np.prod(block), voxel_nm, rng)
            diameters = np.sort(np.minimum(diameters, np.cbrt(6 / np.pi * missing * np.prod(block)) * 1.2))[::-1]
            more = draw_shapes(kind, diameters, voxel_nm, rng)
            first, shapes = len(shapes), join(shapes, more)
            phase = np.concatenate([phase, np.full(len(more), code)])
            for number in range(first, len(shapes)):
                _place(shapes, number, kind, cluster, domain, np.array(block, float), rng)
        else:
            for number in rng.permutation(np.flatnonzero(own)):
                if own[number] <= -1.3 * missing:
                    domain.cells[np.abs(domain.cells) == number] = 0
                    shapes.geometry[number - 1, SEMI : SEMI + 3] = 0
                    missing += own[number]
                if -missing <= TOLERANCE / 2 * asked:
                    break
    return shapes, phase


def _inner_points(g: np.ndarray, faces: np.ndarray, count: int = 96) -> np.ndarray:
    """Points (count, 3) spread over a particle's inside, as offsets from its centre in voxels."""
    k = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    unit = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], axis=1)
    support = (faces[: int(g[FACES])] @ unit.T).max(axis=0, initial=0.0)
    edge = 1 / (1 - g[ANGULARITY] + g[ANGULARITY] * np.maximum(support, 0.5))
    depth = np.cbrt((np.arange(count) * 0.618034) % 1)  # uniform in volume, unrelated to the direction
    local = unit * (edge * depth * 0.98)[:, None] * g[SEMI : SEMI + 3]
    return (local @ g[AXES : AXES + 9].reshape(3, 3)).astype(np.float32)


@njit(nogil=True, cache=True)
def _find_place(cells, step, points, centres, chances, cluster, cluster_step, clustering, overlap):
    """Index of the first centre whose share of occupied points is at most `overlap`, else of the smallest share."""
    nz, ny, nx = cells.shape
    best, least = 0, points.shape[0] + 1
    allowed = int(overlap * points.shape[0])
    for t in range(centres.shape[0]):
        z, y, x = centres[t, 0] / step[0], centres[t, 1] / step[1], centres[t, 2] / step[2]
        if clustering != 0:
            g = sample(cluster, z / cluster_step[0], y / cluster_step[1], x / cluster_step[2])
            if chances[t] > np.exp(min(clustering * g - 1.5 * abs(clustering), 0.0)) and (t or best):
                continue
        hits = 0
        for p in range(points.shape[0]):
            k = int(np.floor(z + points[p, 0] / step[0])) % nz
            j = int(np.floor(y + points[p, 1] / step[1])) % ny
            i = int(np.floor(x + points[p, 2] / step[2])) % nx
            if cells[k, j, i] != 0:
                hits += 1
                if hits >= least:
                    break
        if hits < least:
            best, least = t, hits
            if hits <= allowed:
                break
    return best


@njit(nogil=True, cache=True)
def _stamp(cells, step, g, faces, cracks, noise, number):
    """Write a particle into the free cells: its number, negative in its slits."""
    nz, ny, nx = cells.shape
    reach = g[BOUND]
    low = (int(np.floor((g[0] - reach) / step[0])), int(np.floor((g[1] - reach) / step[1])))
    for k in range(low[0], min(int(np.ceil((g[0] + reach) / step[0])), low[0] + nz)):
        dz = np.float32((k + 0.5) * step[0] - g[0])
        for j in range(low[1], min(int(np.ceil((g[1] + reach) / step[1])), low[1] + ny)):
            dy = np.float32((j + 0.5) * step[1] - g[1])
            first = int(np.floor((g[2] - reach) / step[2]))
            for i in range(first, min(int(np.ceil((g[2] + reach) / step[2])), first + nx)):
                dx = np.float32((i + 0.5) * step[2] - g[2])
                if cells[k % nz, j % ny, i % nx] == 0:
                    f, slit = level(g, faces, cracks, noise, dz, dy, dx)
                    if f < 1:
                        cells[k % nz, j % ny, i % nx] = -number if slit else number
