"""Figures in one look: phase colours, slices of images and labels, PNG and SVG files."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from batseg.phases import COLOURS, PHASES
from batseg.volumes import replacing

PHASE_CMAP = ListedColormap([COLOURS[phase] for phase in PHASES], name="phases").with_extremes(over="#ffffff")
_PHASE_NORM = BoundaryNorm(np.arange(len(PHASES) + 1) - 0.5, len(PHASES))

plt.rcParams.update(
    {
        "figure.dpi": 100,
        "savefig.dpi": 140,
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "svg.hashsalt": "batseg",
    }
)


def show_image(axes: Axes, image: np.ndarray, title: str = "", percentiles: tuple[float, float] = (0.5, 99.5)) -> None:
    """A grey slice (row, column), clipped at the percentiles given."""
    low, high = np.percentile(image, percentiles)
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    _frame(axes, title)


def show_labels(axes: Axes, labels: np.ndarray, title: str = "") -> None:
    """A label slice (row, column) in the phases' colours; not labelled is white."""
    axes.imshow(labels, cmap=PHASE_CMAP, norm=_PHASE_NORM, interpolation="nearest")
    _frame(axes, title)


def phase_legend(figure: Figure) -> None:
    """The phases' colours, once, below the figure."""
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[phase]) for phase in PHASES]
    figure.legend(handles, PHASES, loc="outside lower center", ncols=len(PHASES))


def orthogonal_slices(
    image: np.ndarray, labels: dict[str, np.ndarray], centre: tuple[int, int, int] | None = None
) -> Figure:
    """Three central orthogonal slices (rows: xy, xz, yz) of an image and of named label volumes, all (z, y, x)."""
    z, y, x = centre or tuple(length // 2 for length in image.shape)
    cuts = {"xy": np.s_[z], "xz": np.s_[:, y], "yz": np.s_[:, :, x]}
    heights = [image[cut].shape[0] for cut in cuts.values()]
    width = 2.2 * (1 + len(labels))
    scale = width / (1 + len(labels)) / max(image.shape[1:])
    figure, rows = plt.subplots(
        len(cuts),
        1 + len(labels),
        figsize=(width, scale * sum(heights) + 1.2),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for index, (row, (name, cut)) in enumerate(zip(rows, cuts.items())):
        first = index == 0
        show_image(row[0], image[cut], "image" if first else "")
        row[0].set_ylabel(name)
        for axes, (title, volume) in zip(row[1:], labels.items()):
            show_labels(axes, volume[cut], title if first else "")
    phase_legend(figure)
    return figure


def curves(series: dict[str, tuple[np.ndarray, np.ndarray]], x_label: str, y_label: str) -> Figure:
    """Named curves (x, y) in one pair of axes; NaN points are left out."""
    figure, axes = plt.subplots(figsize=(6.0, 3.0), layout="constrained")
    for name, (x, y) in series.items():
        x, y = np.asarray(x, float), np.asarray(y, float)
        known = np.isfinite(y)
        axes.plot(x[known], y[known], label=name, linewidth=1.4)
    axes.set(xlabel=x_label, ylabel=y_label)
    if series:
        axes.legend()
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write the figure as PNG and as SVG beside it, whole or not at all, and close it. Returns the PNG's path."""
    path = Path(path).with_suffix(".png")
    for target in (path, path.with_suffix(".svg")):
        with replacing(target) as draft:
            figure.savefig(draft, metadata={"Date": None} if target.suffix == ".svg" else None)
    plt.close(figure)
    return path


def _frame(axes: Axes, title: str) -> None:
    axes.set(xticks=[], yticks=[], title=title)
    for spine in axes.spines.values():
        spine.set_visible(False)
