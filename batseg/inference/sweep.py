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
    done: Callable[[int], None] = lambda windows: None,
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (first plane, last plane + 1, probabilities (phase, plane, a, b)) along the grid's thin axis, in order.

    `image` is (z, y, x) or (channel, z, y, x), in memory or chunked on disk. Only the band of planes that windows still
    add to is held. `rows` = [first, last) restricts the result along axis a; the windows stay those of the whole grid,
    so the values are the same. Windows that hold no voxel of `mask` are skipped; probabilities there are zero.
    """
    thin_spans, a_spans, b_spans = grid.spans
    first, last = rows or (0, grid.lengths[1])
    a_spans = tuple(span for span in a_spans if span.keep_start < last and span.keep_stop > first)
    tiles = [(a, b) for a in a_spans for b in b_spans]
    weights = [[span_weights(span, fusion.sigma) for span in spans] for spans in (thin_spans, a_spans, b_spans)]
    sums = [
        weight_sums(spans, weight, length)
        for spans, weight, length in zip((thin_spans, a_spans, b_spans), weights, grid.lengths)
    ]
    weight_of = [dict(zip(spans, weight)) for spans, weight in zip((thin_spans, a_spans, b_spans), weights)]
    band = None
    for index, thin in enumerate(thin_spans):
        for batch in chunks(tiles, batch_size):
            inside = [tile for tile in batch if mask is None or read(mask, grid, (thin, *tile)).any()]
            if inside:
                windows = np.stack([read(image, grid, (thin, *tile)) for tile in inside])
                if image.ndim == 3:
                    windows = windows[:, None]
                terms = fusion.window_term(forward(torch.from_numpy(windows.astype(np.float32, copy=False))))
                if band is None:
                    depth = max(span.keep_stop - span.keep_start for span in thin_spans)
                    band = terms.new_zeros(terms.shape[1], depth, last - first, grid.lengths[2])
                for tile, term in zip(inside, terms):
                    add(band, term, (thin, *tile), weight_of, thin.keep_start, first, last)
            done(len(batch))
        finished = thin_spans[index + 1].keep_start if index + 1 < len(thin_spans) else grid.lengths[0]
        count = finished - thin.keep_start
        if band is None:
            yield thin.keep_start, finished, None
            continue
        norm = (
            sums[0][thin.keep_start : finished, None, None] * sums[1][first:last, None] * sums[2][None, None, :]
        ).to(band.device)
        yield thin.keep_start, finished, fusion.finish(band[:, :count] / norm, 0)
        rest = band[:, count:].clone()
        band.zero_()
        band[:, : rest.shape[1]] = rest


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


def span_weights(span: Span, sigma: float | None) -> torch.Tensor:
    return axis_weights(span.length, sigma)[span.keep_start - span.start : span.keep_stop - span.start]


def weight_sums(spans: tuple[Span, ...], weights: list[torch.Tensor], length: int) -> torch.Tensor:
    """Sum of the weights of all spans along an axis; one where no span reaches."""
    sums = torch.zeros(length)
    for span, weight in zip(spans, weights):
        sums[span.keep_start : span.keep_stop] += weight
    return torch.where(sums > 0, sums, torch.ones(()))


def add(
    band: torch.Tensor,
    term: torch.Tensor,
    window: tuple[Span, Span, Span],
    weight_of: list[dict],
    top: int,
    first: int,
    last: int,
) -> None:
    """Add one window's weighted term (phase, thin, a, b) to the band, cropped to the kept part and to [first, last)."""
    for axis, span in enumerate(window):
        weight = weight_of[axis][span].to(term.device)
        if not bool((weight == 1).all()):
            shape = [1] * 4
            shape[axis + 1] = -1
            term = term.narrow(axis + 1, span.keep_start - span.start, span.keep_stop - span.keep_start)
            term = term * weight.view(shape)
        else:
            term = term.narrow(axis + 1, span.keep_start - span.start, span.keep_stop - span.keep_start)
    thin, a, b = window
    low, high = max(a.keep_start, first), min(a.keep_stop, last)
    term = term[:, :, low - a.keep_start : high - a.keep_start]
    planes = slice(thin.keep_start - top, thin.keep_stop - top)
    band[:, planes, low - first : high - first, b.keep_start : b.keep_stop] += term


def chunks(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
