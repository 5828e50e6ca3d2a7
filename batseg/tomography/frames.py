"""Corrected frames of a scan, row by row or reduced, and averaging over pixels of any size."""

import numpy as np

from batseg.tomography import corrections
from batseg.tomography.alignment import bin_frames
from batseg.tomography.exchange import Scan

REDUCED_COLUMNS = 512


def relative_frames(scan: Scan, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """Projections and flats over the mean flat, the mean flat and counts of what was mended, of some rows."""
    rows = slice(top, bottom)
    data = np.asarray(scan.data[:, rows])
    white, dark = np.asarray(scan.white[:, rows]), np.asarray(scan.dark[:, rows])
    corrections.require_usable_counts(data, white, dark, scan.name)
    bad = corrections.find_bad_pixels(data, white, dark)
    level = dark.mean(axis=0, dtype=np.float32)
    flat = corrections.fill_bad_pixels(corrections.flat_field(white, dark)[None], bad)[0]
    relative = corrections.fill_bad_pixels(data - level, bad) / flat
    white = corrections.fill_bad_pixels(white - level, bad) / flat
    zingers = corrections.remove_zingers(relative)
    corrections.remove_zingers(white)
    if len(white) < 3 and scan.white_after is not None and 0 < np.sum(scan.white_after) < len(white):
        after = np.asarray(scan.white_after, bool)  # too few flats for modes: follow them in time
        first, last = white[~after].mean(axis=0), white[after].mean(axis=0)
        relative /= first + np.linspace(0, 1, len(relative), dtype=np.float32)[:, None, None] * (last - first)
    return relative, white, flat, {"bad_pixels": int(bad.sum()), "zingers": zingers}


def reduced_frames(scan: Scan, reduction: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """Relative projections, relative flats and mean flat of the whole scan, binned by area."""
    if reduction == 1 and scan.shape[1] <= REDUCED_COLUMNS:
        return relative_frames(scan, 0, scan.shape[1])
    step = reduction * max(1, 128 // reduction)
    parts, mended = [], {"bad_pixels": 0, "zingers": 0}
    for top in range(0, scan.shape[1] // reduction * reduction, step):
        bottom = min(top + step, scan.shape[1] // reduction * reduction)
        relative, white, flat, counts = relative_frames(scan, top, bottom)
        parts.append([bin_frames(frames, reduction) for frames in (relative, white, flat[None])])
        mended = {key: mended[key] + counts[key] for key in mended}
    relative, white, flat = (np.concatenate(kind, axis=1) for kind in zip(*parts))
    return relative, white, flat[0], mended


def area_weights(length: int, binning: float) -> np.ndarray:
    """Matrix (int(length / binning), length) that averages `binning` pixels, edge pixels by the part they share.

    The box is the anti-aliasing filter of a detector with larger pixels; the mean is kept.
    """
    count = int(length / binning + 1e-9)
    edges = np.arange(count + 1) * binning
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(overlap, 0) / binning).astype(np.float32)
