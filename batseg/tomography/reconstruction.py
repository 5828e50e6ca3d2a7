"""Raw scan to tomogram: corrections, rotation axis, retrieval, filtered back-projection.

Frame: slice k is detector row k; the in-plane grid is columns x columns with the rotation axis through its centre,
index ((columns-1)/2, (columns-1)/2); orientation as in `projection`.
"""

import numpy as np

from batseg.tomography.centre import mirrored_pair_axis
from batseg.tomography.exchange import Scan
from batseg.tomography.projection import ParallelBeam
from batseg.volumes import Volume


def line_integrals(scan: Scan) -> np.ndarray:
    """Sinograms (row, angle, column) of -log transmission, flats interpolated in time between before and after."""
    dark = scan.dark.mean(axis=0, dtype=np.float32)
    after = np.zeros(len(scan.white), bool) if scan.white_after is None else scan.white_after.astype(bool)
    before = scan.white[~after] if (~after).any() else scan.white
    first = before.mean(axis=0, dtype=np.float32) - dark
    last = scan.white[after].mean(axis=0, dtype=np.float32) - dark if after.any() else first
    time = np.linspace(0, 1, len(scan.data), dtype=np.float32)[:, None, None]
    beam = np.maximum(first + time * (last - first), 1)
    transmission = (np.asarray(scan.data[:], np.float32) - dark) / beam
    return -np.log(np.clip(transmission, 1e-3, None)).transpose(1, 0, 2)


def reconstruct(scan: Scan, axis: float | None = None, filter: str = "ram-lak") -> Volume:
    """Tomogram (row, columns, columns) in 1/cm (1/pixel where the pixel is unknown)."""
    sinograms = line_integrals(scan)
    axis = mirrored_pair_axis(sinograms, scan.angles_rad) if axis is None else axis
    slices = ParallelBeam(scan.shape[2], scan.angles_rad, axis).fbp(sinograms, filter)
    per_pixel = 1.0 if scan.pixel_nm is None else 1e7 / scan.pixel_nm
    return Volume(slices * np.float32(per_pixel), scan.pixel_nm, {"scan": scan.name, "axis_column": float(axis)})
