"""One direction: the windows go through the network, a band of planes collects them, finished planes come out."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from batseg.inference.forward import Forward
from batseg.inference.fusion import Fusion, axis_weights
from batseg.inference.windows import Grid, Span, axis_order


def sweep(
    forward: Forward,
    image: np.ndarray,
    grid: Grid,
    fusion: Fusion,
    mask: np.ndarray | None = None,
    batch_size: int = 1,
    rows: tuple[int, int] | None = None,
    first_plane: int = 0,
    done: Callable[[int], None] = lambda windows: None,
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (first plane, last plane + 1, probabilities (phase, plane, a, b)) along the grid's thin axis, in order.

    `image` is (z, y, x) or (channel, z, y, x), in memory or chunked on disk. Only the band of planes that windows still
    add to is held. `rows` = [first, last) restricts the result along axis a and `first_plane` along the thin axis; the
    windows stay those of the whole grid and are added in the same order, so the values are the same to the bit.
    Windows that hold no voxel of `mask` are skipped; None stands for planes without any window.
    """
    thin_spans, a_spans, b_spans = grid.spans
    first, last = rows or (0, grid.lengths[1])
    weights = [dict(zip(spans, (kept_weights(span, fusion.sigma) for span in spans))) for spans in grid.spans]
    sums = [weight_sums(weight, length) for weight, length in zip(weights, grid.lengths)]
    thin_spans = [span for span in thin_spans if span.keep_stop > first_plane]
    a_spans = [span for span in a_spans if span.keep_start < last and span.keep_stop > first]
    tiles = [(a, b) for a in a_spans for b in b_spans]
    depth = max(span.keep_stop - span.keep_start for span in thin_spans)
    around = (hull(a_spans), hull(b_spans))
    band = None
    for thin, following in zip(thin_spans, [*thin_spans[1:], None]):
        inside = None if mask is None else read(mask, grid, (thin, *around))
        seen = [tile for tile in tiles if inside is None or inside[within(tile, around)].any()]
        if seen:
            slab = torch.from_numpy(np.ascontiguousarray(read(image, grid, (thin, *around)), np.float32))
            slab = slab.to(forward.device) if image.ndim == 4 else slab[None].to(forward.device)
        for batch in chunks(seen, batch_size):
            terms = fusion.window_term(forward(torch.stack([slab[within(tile, around)] for tile in batch])))
            if band is None:
                band = terms.new_zeros(terms.shape[1], depth, last - first, grid.lengths[2])
            for tile, term in zip(batch, terms):
                add(band, weighted(term, (thin, *tile), weights if fusion.sigma else None), tile, first, last)
            done(len(batch))
        done(len(tiles) - len(seen))
        end = following.keep_start if following else grid.lengths[0]
        if band is None:
            yield thin.keep_start, end, None
            continue
        skip, count = max(0, first_plane - thin.keep_start), end - thin.keep_start
        if skip < count:
            start = thin.keep_start + skip
            norm = sums[0][start:end, None, None] * sums[1][first:last, None] * sums[2]
            yield start, end, fusion.finish(band[:, skip:count] / norm.to(band.device), 0)
        kept = band[:, count:].clone()
        band[:, : kept.shape[1]] = kept
        band[:, kept.shape[1] :] = 0


def read(volume: np.ndarray, grid: Grid, window: tuple[Span, Span, Span]) -> np.ndarray:
    """A window (..., thin, a, b) of a volume (..., z, y, x), mirrored where it reaches beyond the volume."""
    order = axis_order(grid.direction)
    index, pad = [None] * 3, [None] * 3
    for axis, span, length in zip(order, window, grid.lengths):
        index[axis] = slice(span.start, min(span.stop, length))
        pad[axis] = (0, max(0, span.stop - length))
    leading = volume.ndim - 3
    part = np.asarray(volume[(slice(None),) * leading + tuple(index)])
    if any(after for _, after in pad):
        part = np.pad(part, [(0, 0)] * leading + pad, mode="symmetric")
    return part.transpose(*range(leading), *(leading + axis for axis in order))


def hull(spans: Sequence[Span]) -> Span:
    """What all the spans of an axis read together."""
    start, stop = min(span.start for span in spans), max(span.stop for span in spans)
    return Span(start, stop, start, stop)


def within(tile: tuple[Span, Span], around: tuple[Span, Span]) -> tuple:
    """Where a tile lies in the slab (..., thin, a, b) that was read around all tiles."""
    return (..., *(slice(span.start - outer.start, span.stop - outer.start) for span, outer in zip(tile, around)))


def kept_weights(span: Span, sigma: float | None) -> torch.Tensor:
    """Weights of the kept part of a window along one axis."""
    return axis_weights(span.length, sigma)[span.keep_start - span.start : span.keep_stop - span.start]


def weight_sums(weights: dict[Span, torch.Tensor], length: int) -> torch.Tensor:
    """Sum of the weights of all windows along an axis."""
    sums = torch.zeros(length)
    for span, weight in weights.items():
        sums[span.keep_start : span.keep_stop] += weight
    return sums


def weighted(term: torch.Tensor, window: tuple[Span, Span, Span], weights: list[dict] | None) -> torch.Tensor:
    """The kept part of a window's term (phase, thin, a, b), weighted along each axis (not at all with None)."""
    for axis, span in enumerate(window, start=1):
        term = term.narrow(axis, span.keep_start - span.start, span.keep_stop - span.keep_start)
        if weights is not None:
            term = term * weights[axis - 1][span].to(term.device).view(-1, *(1,) * (3 - axis))
    return term


def add(band: torch.Tensor, part: torch.Tensor, tile: tuple[Span, Span], first: int, last: int) -> None:
    """Add a window's kept part to the band, whose plane 0 is the window's first and whose rows are [first, last)."""
    a, b = tile
    low, high = max(a.keep_start, first), min(a.keep_stop, last)
    part = part[:, :, low - a.keep_start : high - a.keep_start]
    band[:, : part.shape[1], low - first : high - first, b.keep_start : b.keep_stop] += part


def chunks(items: list, size: int) -> Iterator[list]:
    """The items in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
