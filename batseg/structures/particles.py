"""Single particles: sizes, orientations and level functions of rough, cracked, layered polyhedra and ellipsoids.

A particle is the set f(x) < 1 of a level function f that grows outwards, so that one common threshold a little above
or below 1 lets all particles of a phase grow or shrink together until their volume fraction is met.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from batseg.structures.fields import sample
from batseg.structures.recipe import Orientation, Particles, Shape, Size

MOST_FACES, MOST_CRACKS, OUTSIDE = 40, 6, 9.0
CENTRE, AXES, SEMI, NOISE_SHIFT = 0, 3, 12, 20
ANGULARITY, IRREGULARITY, IRREGULARITY_SCALE, ROUGHNESS, ROUGHNESS_SCALE = 15, 16, 17, 18, 19
FACES, SPACING, SLIT, BEND, CLOSED, WAVES, CRACKS, BOUND, ONION, COLUMNS = 23, 24, 25, 26, 27, 28, 29, 30, 31, 32
"""Columns of `Shapes.geometry`; AXES holds the three axes (long, middle, short) as unit vectors (z, y, x)."""


@dataclass
class Shapes:
    """n particles, lengths in voxels: geometry (n, COLUMNS), faces (n, MOST_FACES, 3) as normals over their distance
    in the frame of the unit ball, cracks (n, MOST_CRACKS, 6) as normal, offset, half width and waviness."""

    geometry: np.ndarray
    faces: np.ndarray
    cracks: np.ndarray
    volumes: np.ndarray  # asked volume in voxels

    def __len__(self) -> int:
        return len(self.geometry)

    @classmethod
    def none(cls) -> "Shapes":
        empty = (np.zeros((0, *tail), np.float32) for tail in ((COLUMNS,), (MOST_FACES, 3), (MOST_CRACKS, 6)))
        return cls(*empty, np.zeros(0))

    def take(self, order: np.ndarray) -> "Shapes":
        return Shapes(self.geometry[order], self.faces[order], self.cracks[order], self.volumes[order])


def join(*shapes: Shapes) -> Shapes:
    """Several sets of particles as one."""
    parts = [[getattr(each, name) for each in shapes] for name in ("geometry", "faces", "cracks", "volumes")]
    return Shapes(*(np.concatenate(part) for part in parts))


def draw_diameters(size: Size, voxels: float, voxel_nm: float, rng: np.random.Generator) -> np.ndarray:
    """Diameters in voxels of balls that fill `voxels` together, from the truncated distribution; at least one.

    The distribution is given by volume, so diameters are drawn by number with weights 1/d³: log-normal again, with
    its median shifted by -3 spread².
    """
    low, high = np.log(size.min_nm), np.log(size.max_nm)
    centre = np.log(size.median_nm) - 3 * size.log_spread**2
    grid = np.linspace(low, high, 2001)
    density = np.exp(-0.5 * ((grid - centre) / max(size.log_spread, 1e-3)) ** 2)
    if density.sum() == 0 or high - low < 1e-9:
        density = (np.abs(grid - np.log(size.median_nm)) <= (high - low) / 2000).astype(float)
    cumulative = np.cumsum(density) / density.sum()
    drawn, filled = [], 0.0
    while filled < voxels or not drawn:
        d = np.exp(np.interp(rng.random(256), cumulative, grid)) / voxel_nm
        drawn.append(d)
        filled += np.pi / 6 * (d**3).sum()
    d = np.concatenate(drawn)
    return d[: max(1, int(np.searchsorted(np.cumsum(np.pi / 6 * d**3), voxels)) + 1)]


def draw_axes(orientation: Orientation, count: int, rng: np.random.Generator) -> np.ndarray:
    """Axes (count, 3, 3): rows long, middle, short; the short one from a Watson distribution about the given axis."""
    kappa = orientation.concentration
    t = np.linspace(0, 1, 2001)
    weight = np.exp(kappa * (t**2 - 1))
    cosine = np.interp(rng.random(count), np.cumsum(weight) / weight.sum(), t) * rng.choice([-1, 1], count)
    angle = rng.uniform(0, 2 * np.pi, count)
    sine = np.sqrt(1 - cosine**2)
    short = np.stack([cosine, sine * np.cos(angle), sine * np.sin(angle)], axis=1)
    short = np.roll(short, "zyx".index(orientation.axis), axis=1)
    long = np.cross(short, rng.standard_normal((count, 3)))
    long /= np.linalg.norm(long, axis=1, keepdims=True)
    return np.stack([long, np.cross(short, long), short], axis=1)


def draw_shapes(kind: Particles, diameters: np.ndarray, voxel_nm: float, rng: np.random.Generator) -> Shapes:
    """One particle for each diameter (voxels), of the shapes, orientations and inner slits of a recipe."""
    count = len(diameters)
    shape = kind.shape
    geometry = np.zeros((count, COLUMNS), np.float32)
    geometry[:, AXES : AXES + 9] = draw_axes(kind.orientation, count, rng).reshape(count, 9)
    flatness = np.clip(shape.flatness + shape.flatness_spread * rng.standard_normal(count), 0.05, 1)
    elongation = np.clip(shape.elongation + shape.elongation_spread * rng.standard_normal(count), 0.05, 1)
    ratio = np.stack([np.ones(count), elongation, flatness * (1 + elongation) / 2], axis=1)
    faces = _draw_faces(shape, count, rng)
    reach = _polyhedron_volume(faces, shape, rng)
    radius = np.cbrt(diameters**3 / 8 / reach / ratio.prod(axis=1))
    geometry[:, SEMI : SEMI + 3] = radius[:, None] * ratio
    geometry[:, ANGULARITY], geometry[:, FACES] = shape.angularity, shape.faces
    geometry[:, IRREGULARITY], geometry[:, IRREGULARITY_SCALE] = shape.irregularity, 2 / shape.irregularity_length
    geometry[:, ROUGHNESS] = shape.roughness_nm / voxel_nm
    geometry[:, ROUGHNESS_SCALE] = 2 * voxel_nm / shape.roughness_length_nm
    geometry[:, NOISE_SHIFT : NOISE_SHIFT + 3] = rng.uniform(0, 64, (count, 3))
    geometry[:, BOUND] = 1.45 * geometry[:, SEMI : SEMI + 3].max(axis=1)
    _draw_layers(kind, geometry, voxel_nm, rng)
    cracks = _draw_cracks(kind, geometry, voxel_nm, rng)
    return Shapes(geometry, faces, cracks, np.pi / 6 * diameters**3)


def _draw_faces(shape: Shape, count: int, rng: np.random.Generator) -> np.ndarray:
    normals = rng.standard_normal((count, MOST_FACES, 3))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    return (normals / rng.uniform(0.6, 1.0, (count, MOST_FACES, 1))).astype(np.float32)


def _polyhedron_volume(faces: np.ndarray, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Volume of each particle in the frame of its unit ball, over that of the ball."""
    directions = rng.standard_normal((400, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    volumes = np.empty(len(faces))
    for start in range(0, len(faces), 512):
        support = np.einsum("nfi,di->nfd", faces[start : start + 512, : shape.faces], directions).max(axis=1)
        level = (1 - shape.angularity) + shape.angularity * support
        volumes[start : start + 512] = (1 / np.maximum(level, 0.7) ** 3).mean(axis=1)
    return volumes


def _draw_layers(kind: Particles, geometry: np.ndarray, voxel_nm: float, rng: np.random.Generator) -> None:
    layers, count = kind.layers, len(geometry)
    layered = rng.random(count) < layers.share
    thickness = geometry[:, SEMI + 2]
    geometry[:, SPACING] = np.where(layered, layers.spacing_nm / voxel_nm * rng.uniform(0.7, 1.3, count), 0)
    geometry[:, SLIT] = layers.slit_nm / voxel_nm * rng.uniform(0.7, 1.3, count)
    geometry[:, BEND] = layers.bend * rng.uniform(-1, 1, count) * thickness
    geometry[:, CLOSED] = 1 - 2 * layers.open
    geometry[:, WAVES] = layers.waviness * thickness
    geometry[:, ONION] = rng.random(count) < layers.onion


def _draw_cracks(kind: Particles, geometry: np.ndarray, voxel_nm: float, rng: np.random.Generator) -> np.ndarray:
    rule, count = kind.cracks, len(geometry)
    cracks = np.zeros((count, MOST_CRACKS, 6), np.float32)
    normals = np.array([0, 0, 1.0]) * (1 - rule.tilt) + rule.tilt * rng.standard_normal((count, MOST_CRACKS, 3))
    cracks[:, :, :3] = normals / np.linalg.norm(normals, axis=2, keepdims=True)
    along = np.abs(np.einsum("nki,ni->nk", cracks[:, :, :3], geometry[:, SEMI : SEMI + 3]))
    cracks[:, :, 3] = rng.uniform(-0.7, 0.7, (count, MOST_CRACKS)) * along
    cracks[:, :, 4] = rule.width_nm / voxel_nm / 2 * rng.uniform(0.6, 1.4, (count, MOST_CRACKS))
    cracks[:, :, 5] = rule.waviness * geometry[:, SEMI : SEMI + 3].mean(axis=1)[:, None]
    cracked = (rng.random(count) < rule.share) & (geometry[:, SPACING] == 0)
    geometry[:, CRACKS] = np.where(cracked, np.clip(1 + rng.poisson(max(rule.count - 1, 0), count), 1, MOST_CRACKS), 0)
    return cracks


@njit(nogil=True, cache=True)
def level(g, faces, cracks, noise, dz, dy, dx):
    """(f, slit) at the offset d from the centre: the level function and whether the point lies in an inner slit."""
    x = g[AXES] * dz + g[AXES + 1] * dy + g[AXES + 2] * dx
    y = g[AXES + 3] * dz + g[AXES + 4] * dy + g[AXES + 5] * dx
    z = g[AXES + 6] * dz + g[AXES + 7] * dy + g[AXES + 8] * dx
    u, v, w = x / g[SEMI], y / g[SEMI + 1], z / g[SEMI + 2]
    squared = u * u + v * v + w * w
    if squared > 2.1:
        return OUTSIDE, False
    radius = np.sqrt(squared)
    f = radius
    if g[ANGULARITY] > 0:
        support = np.float32(0)
        for k in range(int(g[FACES])):
            support = max(support, faces[k, 0] * u + faces[k, 1] * v + faces[k, 2] * w)
        f += g[ANGULARITY] * (support - radius)
    s0, s1, s2 = g[NOISE_SHIFT], g[NOISE_SHIFT + 1], g[NOISE_SHIFT + 2]
    if g[IRREGULARITY] > 0:
        k = g[IRREGULARITY_SCALE]
        f += g[IRREGULARITY] * min(radius, 1) * sample(noise, u * k + s0, v * k + s1, w * k + s2)
    if f > 1.5:
        return OUTSIDE, False
    if g[ROUGHNESS] > 0 and f > 0.4:
        k = g[ROUGHNESS_SCALE]
        local = np.sqrt(dz * dz + dy * dy + dx * dx) / f
        rough = sample(noise, dz * k + s1, dy * k + s2, dx * k + s0)
        rough += 0.5 * sample(noise, 2.3 * dz * k + s2, 2.3 * dy * k + s0, 2.3 * dx * k + s1)
        f += g[ROUGHNESS] / max(local, np.float32(1)) * 0.9 * rough
    if f > 1.4:
        return OUTSIDE, False
    return max(f, np.float32(0)), _in_slit(g, cracks, noise, f, x, y, z, u, v)


@njit(nogil=True, cache=True)
def _in_slit(g, cracks, noise, f, x, y, z, u, v):
    s0, s1, s2 = g[NOISE_SHIFT], g[NOISE_SHIFT + 1], g[NOISE_SHIFT + 2]
    radius = (g[SEMI] + g[SEMI + 1] + g[SEMI + 2]) / 3
    k = 2.5 / radius
    if g[SPACING] > 0:
        wave = g[WAVES] * sample(noise, x * k + s0, y * k + s1, 0.3 * z * k + s2)
        if g[ONION] > 0:
            t = (f * g[SEMI + 2] + wave) / g[SPACING] + 10 + s0
        else:
            t = (z + g[BEND] * (u * u + v * v) + wave) / g[SPACING] + 10 + s0
        number = np.floor(t)
        if (t - number) * g[SPACING] < g[SLIT]:
            return sample(noise, x * k * 0.7 + s1, y * k * 0.7 + s2, 7.3 * number + s0) > g[CLOSED] * 1.3
        return False
    for c in range(int(g[CRACKS])):
        wave = cracks[c, 5] * sample(noise, x * k + s2 + 9 * c, y * k + s0, z * k + s1)
        t = cracks[c, 0] * x + cracks[c, 1] * y + cracks[c, 2] * z - cracks[c, 3] + wave
        if abs(t) < 2.5 * cracks[c, 4]:
            opening = 0.9 + 0.8 * sample(noise, x * k + s1, y * k + s2 + 11 * c, z * k + s0)
            if abs(t) < cracks[c, 4] * min(max(opening, np.float32(0)), np.float32(2.5)):
                return True
    return False
