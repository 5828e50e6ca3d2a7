"""Particles of a phase: instances, their size, shape, orientation and surface."""

import cc3d
import edt
import numpy as np
from numba import njit
from skimage.segmentation import watershed

from batseg.morphology.interfaces import instance_contact_areas
from batseg.phases import NOT_LABELLED, PHASES


def find_instances(mask: np.ndarray, split_voxels: float | None = None, connectivity: int = 26) -> np.ndarray:
    """Number the particles of a mask: connected components, int32, 0 = background.

    With `split_voxels`, components are cut at necks by a watershed of the distance map: two maxima are two particles
    if the distance drops by more than that many voxels between them (an h-maxima criterion; 1 is a good start).
    """
    mask = np.ascontiguousarray(mask, bool)
    if split_voxels is None:
        return cc3d.connected_components(mask, connectivity=connectivity, out_dtype=np.uint32).astype(np.int32)
    distance = edt.edt(mask.view(np.uint8), black_border=False, parallel=0)
    distance[~np.isfinite(distance)] = max(mask.shape)
    basins = watershed(-distance, mask=mask).astype(np.int32)
    return _merge_shallow(basins, distance, float(split_voxels))


def _merge_shallow(basins: np.ndarray, distance: np.ndarray, depth: float) -> np.ndarray:
    """Join basins across every pass that lies less than `depth` below the lower of their two peaks, highest first."""
    count = int(basins.max(initial=0))
    peak = np.zeros(count + 1, np.float32)
    np.maximum.at(peak, basins.ravel(), distance.ravel())
    keys, heights = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for axis in range(3):
        here, there = _shifted(basins, axis)
        touching = (here != there) & (here > 0) & (there > 0)
        low, high = np.sort(np.stack([here[touching], there[touching]]).astype(np.int64), axis=0)
        keys.append(low * (count + 1) + high)
        heights.append(np.minimum(*_shifted(distance, axis))[touching])
    pairs, member = np.unique(np.concatenate(keys), return_inverse=True)
    saddles = np.zeros(len(pairs), np.float32)  # the highest pass between two basins
    np.maximum.at(saddles, member, np.concatenate(heights))
    parent = np.arange(count + 1)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i in np.argsort(-saddles, kind="stable"):
        a, b, saddle = root(pairs[i] // (count + 1)), root(pairs[i] % (count + 1)), saddles[i]
        if a != b and min(peak[a], peak[b]) - saddle < depth:
            low, high = (a, b) if peak[a] < peak[b] else (b, a)
            parent[low] = high
    _, numbers = np.unique([root(i) for i in range(count + 1)], return_inverse=True)
    return numbers.astype(np.int32)[basins]


def _shifted(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    moved = np.moveaxis(array, axis, 0)
    return moved[:-1], moved[1:]


@njit(nogil=True, cache=True)
def _moments(instances, sums):
    """sums[i] += (1, z, y, x, zz, yy, xx, zy, zx, yx) over the voxels of instance i."""
    depth, height, width = instances.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                row = sums[instances[z, y, x]]
                row[0] += 1.0
                row[1] += z
                row[2] += y
                row[3] += x
                row[4] += z * z
                row[5] += y * y
                row[6] += x * x
                row[7] += z * y
                row[8] += z * x
                row[9] += y * x


def particles(
    labels: np.ndarray,
    phase: int,
    voxel_nm: float = 1.0,
    instances: np.ndarray | None = None,
    split_voxels: float | None = None,
) -> dict[str, np.ndarray]:
    """Table of the particles of a phase, one array per column, one row per particle.

    particle (number in the instance volume), volume_nm3, diameter_nm (of the ball of equal volume), surface_nm2
    (13-direction Crofton, inside the volume), sphericity (surface of that ball over the surface), length_nm, width_nm,
    height_nm (axes of the ellipsoid with the same second moments), elongation (width / length), flatness (height /
    width), axis_z, axis_y, axis_x (unit vector of the shortest axis, the normal of a flake), tilt_deg (its angle to
    z, 0 to 90), centre_z_nm, centre_y_nm, centre_x_nm, touches_border (it is cut by the volume or by the labelled
    region, so its size is a lower bound), and contact_<phase> (share of the surface). Empty arrays if the phase is
    absent. `instances` (int, 0 = none) names the particles; otherwise `find_instances(..., split_voxels)` does.
    """
    if instances is None:
        instances = find_instances(labels == phase, split_voxels)
    instances = np.where(labels == phase, instances, 0).astype(np.int32)
    sums = np.zeros((int(instances.max(initial=0)) + 1, 10))
    _moments(instances, sums)
    numbers = np.flatnonzero(sums[:, 0] > 0)
    numbers = numbers[numbers > 0]
    sums = sums[numbers]
    voxels = sums[:, 0]
    centre = sums[:, 1:4] / voxels[:, None]
    variance, vectors = np.linalg.eigh(_covariances(sums, centre)) if len(voxels) else (np.zeros((0, 3)), None)
    # A solid ellipsoid of semi-axis a has variance a²/5 along it.
    axes = 2 * np.sqrt(5 * np.maximum(variance, 0.0))[:, ::-1] * voxel_nm
    normal = vectors[:, :, 0] if vectors is not None else np.zeros((0, 3))
    normal = normal * np.where(normal[:, :1] < 0, -1.0, 1.0)
    contacts = instance_contact_areas(instances, labels, voxel_nm)[numbers]
    surface = contacts.sum(axis=1)
    volume = voxels * voxel_nm**3
    diameter = np.cbrt(6 * volume / np.pi)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(surface[:, None] > 0, contacts / surface[:, None], np.nan)
        sphericity = np.where(surface > 0, np.pi * diameter**2 / surface, np.nan)
    table = {
        "particle": numbers,
        "volume_nm3": volume,
        "diameter_nm": diameter,
        "surface_nm2": surface,
        "sphericity": sphericity,
        "length_nm": axes[:, 0],
        "width_nm": axes[:, 1],
        "height_nm": axes[:, 2],
        "elongation": axes[:, 1] / axes[:, 0],
        "flatness": axes[:, 2] / axes[:, 1],
        "tilt_deg": np.degrees(np.arccos(np.clip(normal[:, 0], 0.0, 1.0))),
        "touches_border": _touching_border(instances, labels)[numbers],
    }
    table |= {f"axis_{name}": normal[:, i] for i, name in enumerate("zyx")}
    table |= {f"centre_{name}_nm": (centre[:, i] + 0.5) * voxel_nm for i, name in enumerate("zyx")}
    return table | {f"contact_{name}": shares[:, code] for code, name in enumerate(PHASES)}


def _covariances(sums: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Second central moments (n, 3, 3) in voxel², each voxel taken as a cube (variance 1/12 of its own)."""
    z, y, x = centre.T
    means = sums[:, 4:] / sums[:, :1]
    zz, yy, xx = means[:, 0] - z * z + 1 / 12, means[:, 1] - y * y + 1 / 12, means[:, 2] - x * x + 1 / 12
    zy, zx, yx = means[:, 3] - z * y, means[:, 4] - z * x, means[:, 5] - y * x
    return np.stack([zz, zy, zx, zy, yy, yx, zx, yx, xx], axis=1).reshape(-1, 3, 3)


def _touching_border(instances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each instance touches the volume's border or a not labelled voxel by a face, (instances + 1,)."""
    touching = np.zeros(int(instances.max(initial=0)) + 1, bool)
    for axis in range(3):
        moved = np.moveaxis(instances, axis, 0)
        touching[moved[0]] = touching[moved[-1]] = True
        unknown = np.moveaxis(labels, axis, 0) == NOT_LABELLED
        touching[moved[:-1][unknown[1:]]] = True
        touching[moved[1:][unknown[:-1]]] = True
    touching[0] = False
    return touching
