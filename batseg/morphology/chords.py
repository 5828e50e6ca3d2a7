"""Chord lengths: the runs of a phase along the grid axes."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def _chords(mask, valid, lengths):
    """Lengths of the runs of `mask` along the last axis that end at labelled voxels on both sides; returns how many."""
    found = 0
    rows, width = mask.shape
    for row in range(rows):
        run = 0
        closed = False  # the run began after a labelled voxel of another phase
        for x in range(width):
            if valid[row, x] and mask[row, x]:
                run += 1
            else:
                if run > 0 and closed and valid[row, x]:
                    lengths[found] = run
                    found += 1
                run = 0
                closed = valid[row, x]
    return found


def chord_lengths(mask: np.ndarray, axis: int, voxel_nm: float = 1.0, valid: np.ndarray | None = None) -> np.ndarray:
    """Lengths in nm of all complete chords of a mask along one axis (0 = z); empty where there is none.

    A chord cut by the volume's border or by a not labelled voxel has no known length and is left out, which makes
    the sample a little shorter than the truth where chords are not short against the volume.
    Source: Torquato & Lu, Phys. Rev. E 47 (1993).
    """
    mask = np.asarray(mask, bool)
    if mask.ndim != 3 or axis not in (0, 1, 2):
        raise ValueError(f"chords need a volume and an axis 0, 1 or 2, got shape {mask.shape} and axis {axis}")
    valid = np.ones(mask.shape, bool) if valid is None else np.asarray(valid, bool)
    rows = np.ascontiguousarray(np.moveaxis(mask, axis, -1)).reshape(-1, mask.shape[axis])
    allowed = np.ascontiguousarray(np.moveaxis(valid, axis, -1)).reshape(rows.shape)
    lengths = np.empty(rows.size // 2 + 1, np.int32)
    found = _chords(rows, allowed, lengths)
    return lengths[:found] * float(voxel_nm)
