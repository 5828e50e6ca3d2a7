"""Figures of systems side by side: baselines as in the paper's Fig. 2, and where segmentations fail."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from batseg.phases import COLOURS, PHASES
from batseg.report.figures import phase_legend, show_image, show_labels


def baseline_figure(
    image: np.ndarray,
    labels: Mapping[str, np.ndarray],
    histogram: tuple[np.ndarray, np.ndarray],
    centres: Sequence[float],
    boundaries: Sequence[float],
) -> Figure:
    """A slice, its labels by each method, and the grey value histogram (counts, edges) in the colours of its clusters.

    image and labels are slices (row, column). Source: paper, Fig. 2.
    """
    figure, axes = plt.subplot_mosaic(
        [["image", *labels], ["histogram"] * (1 + len(labels))],
        figsize=(2.4 * (1 + len(labels)), 4.6),
        height_ratios=[2.4, 1.6],
        layout="constrained",
    )
    show_image(axes["image"], image, "tomogram")
    for name, shown in labels.items():
        show_labels(axes[name], shown, name)
    counts, edges = histogram
    middles = (edges[1:] + edges[:-1]) / 2
    cluster = np.searchsorted(boundaries, middles)
    share = counts / counts.sum()
    for code, (phase, centre) in enumerate(zip(PHASES, centres)):
        mine = cluster == code
        axes["histogram"].bar(middles[mine], share[mine], np.diff(edges)[mine], color=COLOURS[phase])
        axes["histogram"].axvline(centre, color=COLOURS[phase], linestyle=":", linewidth=1)
    axes["histogram"].set(xlabel="grey value", ylabel="share of voxels", title="k-means clusters")
    phase_legend(figure)
    return figure


def failure_figure(tables: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Confusion shares of every system, and graphite called pore against depth below the surface."""
    systems = list(dict.fromkeys(row["system"] for row in tables["confusion"]))
    columns = (*PHASES, "open") if any(row["open"] > 0 for row in tables["confusion"]) else PHASES
    wide = max(len(systems), 2)
    figure, axes = plt.subplot_mosaic(
        [[*systems, *["."] * (wide - len(systems))], ["depth"] * wide], figsize=(2.3 * wide, 5.0), layout="constrained"
    )
    for system in systems:
        shares = np.array([[row[key] for key in columns] for row in tables["confusion"] if row["system"] == system])
        axes[system].imshow(shares, cmap="Greys", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(shares):
            axes[system].text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.5 else "black")
        axes[system].set_xticks(range(len(columns)), columns, rotation=40, ha="right")
        axes[system].set_yticks(range(len(PHASES)), PHASES if system == systems[0] else [""] * len(PHASES))
        axes[system].set_title(system)
    axes[systems[0]].set_ylabel("truth")
    for system in systems:
        rows = [row for row in tables["depth"] if row["system"] == system]
        depth, share = zip(*((row["depth"], row["graphite_called_pore"]) for row in rows))
        axes["depth"].plot(depth, share, label=system, linewidth=1.4)
    axes["depth"].set(xlabel="depth below graphite's surface [voxel]", ylabel="graphite called pore", ylim=(0, None))
    axes["depth"].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
