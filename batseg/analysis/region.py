"""Where a labelled volume can be measured: the largest box inside it, cubes cut from it, and smaller copies of it."""

from itertools import product

import numpy as np

from batseg.phases import NOT_LABELLED, PORE


def inscribed_box(labels: np.ndarray) -> tuple[slice, slice, slice]:
    """The largest box of labelled voxels, in slices; for a cylinder along z the prism of its inscribed square.

    All slices along z that hold at least half as many labels as the fullest count; a column (y, x) belongs to the box
    only if it is labelled in all of them. Raises ValueError if nothing is left.
    """
    valid = labels != NOT_LABELLED
    filled = valid.sum(axis=(1, 2))
    if not filled.any():
        raise ValueError("no voxel is labelled")
    rows = np.flatnonzero(filled >= filled.max() / 2)
    first, last = int(rows[0]), int(rows[-1]) + 1
    y, x = _largest_rectangle(valid[first:last].all(axis=0))
    return slice(first, last), y, x


def _largest_rectangle(mask: np.ndarray) -> tuple[slice, slice]:
    """The largest rectangle of ones in a mask (row, column): the widest run under a skyline, row after row."""
    height, width = mask.shape
    columns = np.zeros(width + 1, int)  # ones above and at this row; the last stays 0 and closes every run
    best, found = 0, (slice(0, 0), slice(0, 0))
    for row in range(height):
        columns[:width] = np.where(mask[row], columns[:width] + 1, 0)
        open_runs: list[tuple[int, int]] = []  # (start, height), heights rising
        for column, tall in enumerate(columns.tolist()):
            start = column
            while open_runs and open_runs[-1][1] >= tall:
                start, high = open_runs.pop()
                if high * (column - start) > best:
                    best = high * (column - start)
                    found = slice(row - high + 1, row + 1), slice(start, column)
            open_runs.append((start, tall))
    if best == 0:
        raise ValueError("no column of voxels is labelled through all slices: there is no box to measure transport in")
    return found


def cubes(labels: np.ndarray, edge: int) -> list[tuple[slice, slice, slice]]:
    """Adjacent cubes of `edge` voxels, fully labelled, centred in the inscribed box; empty if none fits."""
    box = inscribed_box(labels)
    counts = [(part.stop - part.start) // edge for part in box]
    starts = [part.start + (part.stop - part.start - n * edge) // 2 for part, n in zip(box, counts)]
    corners = product(*([start + i * edge for i in range(n)] for start, n in zip(starts, counts)))
    return [tuple(slice(corner, corner + edge) for corner in corners_of_one) for corners_of_one in corners]


def downscaled(labels: np.ndarray, factor: int) -> np.ndarray:
    """Labels at `factor` times the voxel size: the most frequent label of each block, the smaller code among equals.

    So a tie with pore becomes pore. Incomplete blocks at the far ends are dropped. Source: paper, Methods (volumes
    were halved before the transport simulation); the rule is ours, the paper names none.
    """
    if factor < 1 or min(labels.shape) < factor:
        raise ValueError(f"downscale must be 1 to {min(labels.shape)} for a volume {labels.shape}, got {factor}")
    if factor == 1:
        return labels
    kept = tuple(slice(0, length // factor * factor) for length in labels.shape)
    depth, height, width = (length // factor for length in labels.shape)
    blocks = labels[kept].reshape(depth, factor, height, factor, width, factor)
    best = np.full((depth, height, width), PORE, np.uint8)
    most = np.zeros(best.shape, np.int32)
    for code in (*range(4), NOT_LABELLED):
        count = (blocks == code).sum(axis=(1, 3, 5), dtype=np.int32)
        better = count > most
        best[better], most[better] = code, count[better]
    return best
