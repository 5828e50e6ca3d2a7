"""One direction: the windows go through the network, a band of planes collects them, finished planes come out."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from batseg.inference.fusion import Fusion, axis_weights
from batseg.inference.windows import Grid, Span, axis_order


def sweep(
    forward: Callable[[torch.Tensor], torch.Tensor],
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
    band = None
    for thin, following in zip(thin_spans, [*thin_spans[1:], None]):
        for batch in chunks(tiles, batch_size):
            inside = [tile for tile in batch if mask is None or read(mask, grid, (thin, *tile)).any()]
            if inside:
                windows = np.stack([read(image, grid, (thin, *tile)) for tile in inside])
                windows = windows if image.ndim == 4 else windows[:, None]
                terms = fusion.window_term(forward(torch.from_numpy(windows.astype(np.float32, copy=False))))
                if band is None:
                    band = terms.new_zeros(terms.shape[1], depth, last - first, grid.lengths[2])
                for tile, term in zip(inside, terms):
                    add(band, weighted(term, (thin, *tile), weights), (thin, *tile), first, last)
            done(len(batch))
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


def kept_weights(span: Span, sigma: float | None) -> torch.Tensor:
    """Weights of the kept part of a window along one axis."""
    return axis_weights(span.length, sigma)[span.keep_start - span.start : span.keep_stop - span.start]


def weight_sums(weights: dict[Span, torch.Tensor], length: int) -> torch.Tensor:
    """Sum of the weights of all windows along an axis."""
    sums = torch.zeros(length)
    for span, weight in weights.items():
        sums[span.keep_start : span.keep_stop] += weight
    return sums


def weighted(term: torch.Tensor, window: tuple[Span, Span, Span], weights: list[dict]) -> torch.Tensor:
    """The kept part of a window's term (phase, thin, a, b), weighted along each axis."""
    for axis, span in enumerate(window, start=1):
        term = term.narrow(axis, span.keep_start - span.start, span.keep_stop - span.keep_start)
        weight = weights[axis - 1][span].to(term.device)
        if not bool((weight == 1).all()):
            term = term * weight.view(-1, *(1,) * (3 - axis))
    return term


def add(band: torch.Tensor, term: torch.Tensor, window: tuple[Span, Span, Span], first: int, last: int) -> None:
    """Add a window's kept part to the band, whose plane 0 is the window's first and whose rows are [first, last)."""
    _, a, b = window
    low, high = max(a.keep_start, first), min(a.keep_stop, last)
    part = term[:, :, low - a.keep_start : high - a.keep_start]
    band[:, : part.shape[1], low - first : high - first, b.keep_start : b.keep_stop] += part


def chunks(items: list, size: int) -> Iterator[list]:
    """The items in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
