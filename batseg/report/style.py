"""Basic, stylised and real structures side by side, in 2D and 3D (paper, Fig. 5c-d)."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from batseg.phases import CBD, COLOURS, NOT_LABELLED, PHASES, SILICON
from batseg.report.figures import phase_legend, show_labels


def style_figure(volumes: Mapping[str, np.ndarray]) -> Figure:
    """A column for each named label volume (z, y, x): a slice across z, one across y, binder and silicon in 3D.

    All are cut to the same size about their centres.
    """
    shape = np.min([volume.shape for volume in volumes.values()], axis=0)
    depth, height, width = shape
    rows = (height, depth, height + depth // 2)  # pixels; the relief is sheared by half its depth
    figure, grid = plt.subplots(
        3, len(volumes), figsize=(2.7 * len(volumes), 2.7 * sum(rows) / width + 0.8),
        height_ratios=rows, squeeze=False, layout="constrained",
    )  # fmt: skip
    for column, (name, volume) in zip(grid.T, volumes.items()):
        starts = (np.array(volume.shape) - shape) // 2
        cut = volume[tuple(slice(start, start + side) for start, side in zip(starts, shape))]
        show_labels(column[0], cut[depth // 2], name)
        show_labels(column[1], cut[:, height // 2])
        column[2].imshow(relief(cut), interpolation="nearest")
        column[2].set_axis_off()
    phase_legend(figure)
    return figure


def relief(labels: np.ndarray, phases: Sequence[int] = (SILICON, CBD)) -> np.ndarray:
    """RGB picture (row, column, 3) of a block (z, y, x) seen obliquely along z: `phases` alone, darker is deeper."""
    depth, height, width = labels.shape
    sheared = np.full((depth, height + depth // 2, width + depth // 2), NOT_LABELLED, np.uint8)
    for z, layer in enumerate(labels):
        sheared[z, z // 2 : z // 2 + height, z // 2 : z // 2 + width] = layer
    hit = np.isin(sheared, phases)
    first = hit.argmax(axis=0)
    seen = np.take_along_axis(sheared, first[None], axis=0)[0]
    picture = np.ones((*first.shape, 3))
    for phase in phases:
        here = hit.any(axis=0) & (seen == phase)
        picture[here] = np.array(to_rgb(COLOURS[PHASES[phase]])) * (1 - 0.75 * first[here] / depth)[:, None]
    return picture
