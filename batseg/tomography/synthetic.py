"""Labels to simulated tomograms: put a structure into a cylinder, scan it, reconstruct it as measured data are."""

from collections.abc import Mapping
from copy import deepcopy

import numpy as np

from batseg.phases import NOT_LABELLED
from batseg.tomography.exchange import Scan
from batseg.tomography.reconstruction import examine, reconstruct
from batseg.tomography.scan import ScanConditions, simulate_pxct, simulate_scan
from batseg.volumes import Volume


def cylinder_mask(columns: int, diameter: float) -> np.ndarray:
    """Disc (columns, columns) of a diameter in pixels around the grid's centre, bool."""
    x = np.arange(columns) - (columns - 1) / 2
    return x[:, None] ** 2 + x**2 <= (diameter / 2) ** 2


def turn_cylinder(labels: np.ndarray, diameter: float, columns: int) -> np.ndarray:
    """A cylinder (z, columns, columns) turned from a block: its material inside, 255 outside.

    Where the block is narrower than the cylinder, it goes on as its mirror image.
    """
    if not 2 <= diameter <= columns:
        raise ValueError(f"a cylinder of {diameter:g} pixels does not fit {columns} columns")
    turned = _widened(labels, columns)
    turned[:, ~cylinder_mask(columns, diameter)] = NOT_LABELLED
    return turned


def embed(labels: np.ndarray, margin: int = 8) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
    """A block (z, y, x) inside the smallest upright cylinder that holds it, and where it lies in there.

    The block goes on as its mirror image, so that path lengths, noise and edges match those of a real sample;
    `margin` columns of air stay on either side.
    """
    height, width = labels.shape[1:]
    diameter = float(np.hypot(height, width)) + 2
    columns = int(np.ceil(diameter)) + 2 * margin
    columns += (columns - max(height, width)) % 2
    start = [(columns - length) // 2 for length in (height, width)]
    inner = (slice(None), slice(start[0], start[0] + height), slice(start[1], start[1] + width))
    return turn_cylinder(labels, diameter, columns), inner


def _widened(labels: np.ndarray, columns: int) -> np.ndarray:
    """Central columns x columns of the labels, mirrored outwards where they are narrower."""
    for axis in (1, 2):
        extra = columns - labels.shape[axis]
        if extra > 0:
            pads = [(0, 0)] * 3
            pads[axis] = (extra // 2, extra - extra // 2)
            labels = np.pad(labels, pads, mode="symmetric")
        elif extra < 0:
            first = -extra // 2
            labels = labels.take(np.arange(first, first + columns), axis=axis)
    return np.array(labels, np.uint8)


def simulate_tomogram(
    labels: np.ndarray,
    voxel_nm: float,
    conditions: ScanConditions,
    rng: np.random.Generator,
    images: Mapping[str, Mapping] | None = None,
    threads: int = 0,
    pxct: bool = False,
) -> tuple[dict[str, Volume], np.ndarray, Scan]:
    """Simulated tomograms (z, y, x) of a structure, the labels that belong to them, and the raw scan.

    Labels with voxels outside (255) are a whole cylinder and are scanned as they are; labels without are a block cut
    from something larger: it is embedded in a cylinder, and image and labels come back as the block alone.
    `images` are the reconstructions wanted, {name: settings of `reconstruct`, the same as for measured scans}; by
    default one called "image" with no setting changed. `pxct` adds "density", the electron density of the material.
    """
    inner = (slice(None),) * 3
    scanned = labels
    if not (labels == NOT_LABELLED).any():
        scanned, inner = embed(labels)
    tomograms = {}
    if pxct:
        density = simulate_pxct(scanned, voxel_nm, conditions, deepcopy(rng))
        described = {"units": "electrons per cubic angstrom", "simulated": conditions.record()}
        tomograms["density"] = Volume(np.ascontiguousarray(density[inner]), voxel_nm, described)
    scan = simulate_scan(scanned, voxel_nm, conditions, rng, threads=threads)
    found = examine(scan)
    for name, settings in (images or {"image": {}}).items():
        volume = reconstruct(scan, found, **settings)
        image = np.ascontiguousarray(np.asarray(volume.array, np.float32)[inner])
        tomograms[name] = Volume(image, voxel_nm, {**volume.provenance, "simulated": conditions.record()})
    return tomograms, labels, scan
