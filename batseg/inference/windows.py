"""Where a network looks: overlapping windows or whole planes, for each of the three directions. Source: paper, Fig. 6a.

A direction is the axis along which a window is thin. Shapes are given thin-first, (thin, a, b), as the network sees
them: direction z looks at (z, y, x), y at (y, z, x), x at (x, z, y).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from batseg.volumes import InputError

log = logging.getLogger(__name__)
AXES = "zyx"
MULTIPLE = 8  # three poolings by two


@dataclass(frozen=True)
class Span:
    """A window along one axis: what is read, [start, stop), and the part of it that is kept.

    A read span may reach beyond the volume, which is then mirrored at its border.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Grid:
    """All windows of one direction: the product of the spans along (thin, a, b)."""

    direction: str
    spans: tuple[tuple[Span, ...], tuple[Span, ...], tuple[Span, ...]]
    lengths: tuple[int, int, int]

    @property
    def window(self) -> tuple[int, int, int]:
        return tuple(spans[0].length for spans in self.spans)

    def __len__(self) -> int:
        thin, a, b = self.spans
        return len(thin) * len(a) * len(b)


def axis_order(direction: str) -> tuple[int, int, int]:
    """Axes of (z, y, x) in the order (thin, a, b) of a direction."""
    if direction not in tuple(AXES):
        raise ValueError(f"direction {direction!r}: expected one of z, y, x")
    thin = AXES.index(direction)
    return (thin, *(axis for axis in range(3) if axis != thin))


def window_starts(length: int, window: int, overlap: float = 0.5) -> list[int]:
    """First voxels of the windows that cover `length`; the last window is shifted inwards to end at the border."""
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap {overlap}: expected 0 <= overlap < 1")
    if window > length:
        raise InputError(f"window {window} is longer than the volume's {length}")
    step = max(1, int(window * (1 - overlap)))
    return [*range(0, length - window, step), length - window]


def overlapping_spans(length: int, window: int, overlap: float) -> tuple[Span, ...]:
    """Windows that are kept whole and overlap."""
    return tuple(Span(start, start + window, start, start + window) for start in window_starts(length, window, overlap))


def fit_window(
    window: Sequence[int], shape: Sequence[int], direction: str, window_fit: str = "error"
) -> tuple[int, int, int]:
    """The window (thin, a, b) of one direction in a volume (z, y, x).

    A window axis longer than the volume raises InputError, unless window_fit is "shrink": then it becomes the largest
    multiple of 8 that fits, and the log says so.
    """
    if window_fit not in ("error", "shrink"):
        raise ValueError(f"window_fit {window_fit!r}: expected 'error' or 'shrink'")
    lengths = [shape[axis] for axis in axis_order(direction)]
    if all(edge <= length for edge, length in zip(window, lengths)):
        return tuple(window)
    if window_fit == "error":
        raise InputError(
            f"window {tuple(window)} (thin, a, b) exceeds the volume {tuple(shape)} (z, y, x) in direction "
            f"{direction}; give a smaller window or window_fit=shrink"
        )
    fitted = tuple(min(edge, length // MULTIPLE * MULTIPLE) for edge, length in zip(window, lengths))
    if min(fitted) == 0:
        raise InputError(f"volume {tuple(shape)} is thinner than {MULTIPLE} voxels: no window fits")
    log.warning("window %s shrunk to %s in direction %s (window_fit=shrink)", tuple(window), fitted, direction)
    return fitted


def window_grid(
    shape: Sequence[int],
    window: Sequence[int],
    direction: str = "z",
    overlap: float = 0.5,
    window_fit: str = "error",
) -> Grid:
    """Half-overlapping windows of one direction: 775 for 768^3 with 48 x 256 x 256. Source: paper, Fig. 6a."""
    fitted = fit_window(window, shape, direction, window_fit)
    lengths = tuple(shape[axis] for axis in axis_order(direction))
    spans = tuple(overlapping_spans(length, edge, overlap) for length, edge in zip(lengths, fitted))
    return Grid(direction, spans, lengths)


def tiled_spans(length: int, tiles: int, halo: int) -> tuple[Span, ...]:
    """`tiles` neighbouring parts of an axis, each read with a halo on both sides; all are read at one length.

    The read length is a multiple of 8; one tile is the whole axis, mirrored at its end up to that multiple.
    """
    core = -(-length // tiles)
    core = core if tiles == 1 else -(-core // MULTIPLE) * MULTIPLE
    reach = core if tiles == 1 else core + 2 * halo
    reach = -(-reach // MULTIPLE) * MULTIPLE
    spans = []
    for keep_start in range(0, length, core):
        keep_stop = min(keep_start + core, length)
        start = min(keep_start - halo, length - reach) if tiles > 1 else 0
        start = max(0, start)
        spans.append(Span(start, start + reach, keep_start, keep_stop))
    return tuple(spans)


def plane_grid(
    shape: Sequence[int],
    thin: int,
    direction: str = "z",
    overlap: float = 0.5,
    halo: int = 24,
    window_fit: str = "error",
    max_voxels: float = float("inf"),
    max_rows: float = float("inf"),
) -> Grid:
    """Whole planes, overlapping along the thin axis only.

    Where `thin` planes hold more than `max_voxels`, or axis a is longer than `max_rows`, the plane is cut into tiles
    that are read with a halo and of which the core alone is kept; the cut with the least work is taken. Faster than
    `window_grid` as a voxel is seen twice per direction and not eight times.
    """
    lengths = tuple(shape[axis] for axis in axis_order(direction))
    thin = fit_window((thin, 1, 1), shape, direction, window_fit)[0]
    best = None
    for tiles_a in range(1, max(2, lengths[1] // MULTIPLE)):
        a = tiled_spans(lengths[1], tiles_a, halo)
        if a[0].keep_stop - a[0].keep_start > max_rows:
            continue
        for tiles_b in range(1, max(2, lengths[2] // MULTIPLE)):
            b = tiled_spans(lengths[2], tiles_b, halo)
            if thin * a[0].length * b[0].length <= max_voxels:
                work = len(a) * a[0].length * len(b) * b[0].length
                if best is None or work < best[0]:
                    best = (work, a, b)
                break
    if best is None:
        raise InputError(
            f"no tile of {thin} planes with halo {halo} fits; raise max_memory_gb or lower window[0], halo"
        )
    return Grid(direction, (overlapping_spans(lengths[0], thin, overlap), best[1], best[2]), lengths)


def make_grid(
    shape: Sequence[int],
    direction: str,
    window: Sequence[int],
    overlap: float = 0.5,
    windows: str = "windows",
    halo: int = 24,
    window_fit: str = "error",
    **limits: float,
) -> Grid:
    """The grid of one direction in either mode, "windows" or "planes" (whose tiles keep to the limits)."""
    if len(window) != 3 or min(window) < 1:
        raise InputError(f"window {tuple(window)}: expected three positive numbers (thin, a, b)")
    if windows == "windows":
        return window_grid(shape, window, direction, overlap, window_fit)
    if windows == "planes":
        return plane_grid(shape, window[0], direction, overlap, halo, window_fit, **limits)
    raise InputError(f"windows {windows!r}: expected 'windows' or 'planes'")


def row_blocks(grid: Grid, max_rows: float) -> list[tuple[int, int]]:
    """Axis a in blocks of at most `max_rows`, cut between tiles or, where windows overlap, at multiples of 8."""
    length = grid.lengths[1]
    starts = {span.keep_start for span in grid.spans[1]}
    tiled = all(a.keep_stop <= b.keep_start for a, b in zip(grid.spans[1], grid.spans[1][1:]))
    cuts = sorted(starts) if tiled else list(range(0, length, MULTIPLE))
    blocks, first = [], 0
    for cut, following in zip(cuts, [*cuts[1:], length]):
        if following - first > max_rows and cut > first:
            blocks.append((first, cut))
            first = cut
    return [*blocks, (first, length)]
