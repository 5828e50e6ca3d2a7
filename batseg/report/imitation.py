"""Measured beside imitated tomograms: slices, histogram, power spectrum, Fourier shell correlation."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from batseg.report.figures import show_image


def imitation_figure(
    slices: Mapping[str, np.ndarray],
    greys: Mapping[str, np.ndarray],
    spectra: Mapping[str, tuple[np.ndarray, np.ndarray]],
    correlations: Mapping[str, tuple[np.ndarray, np.ndarray]],
    title: str = "",
    unit: str = "1/cm",
) -> Figure:
    """One row of slices, one of curves; keys name the curves (measured, simulated).

    `greys` are grey values inside the sample, `spectra` (frequency 1/pixel, power), `correlations` (frequency, FSC),
    empty where there are no half-sets.
    """
    figure, axes = plt.subplot_mosaic(
        [list("aaabbb"), list("ccddee")], figsize=(10, 8), layout="constrained", height_ratios=(1.6, 1)
    )
    low, high = np.percentile(np.concatenate([each.ravel() for each in slices.values()]), (0.5, 99.7))
    for key, (name, image) in zip("ab", slices.items()):
        show_image(axes[key], np.clip(image, low, high), name)
    edges = np.linspace(*np.percentile(np.concatenate(list(greys.values())), (0.1, 99.9)), 80)
    for name, values in greys.items():
        axes["c"].hist(values, edges, density=True, histtype="step", label=name)
    axes["c"].set(xlabel=f"grey value, {unit}", ylabel="density", title="histogram")
    for name, (frequency, power) in spectra.items():
        axes["d"].semilogy(frequency, power, label=name)
    axes["d"].set(xlabel="frequency, 1/pixel", title="power spectrum")
    for name, (frequency, correlation) in correlations.items():
        axes["e"].plot(frequency, correlation, label=name)
    if correlations:
        axes["e"].axhline(0.143, color="0.7", lw=0.8)
        axes["e"].set(xlabel="frequency, 1/pixel", ylim=(-0.1, 1.05), title="FSC of odd and even projections")
    else:
        axes["e"].axis("off")
    axes["c"].legend()
    figure.suptitle(title)
    return figure


def gallery(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], across: int = 7) -> Figure:
    """Measured slices with the imitation below each, named; each pair shares its grey scale."""
    bands = -(-len(pairs) // across)
    columns = min(across, len(pairs))
    figure, axes = plt.subplots(
        2 * bands, columns, figsize=(1.9 * columns, 3.9 * bands), layout="constrained", squeeze=False
    )
    for each in axes.ravel():
        each.axis("off")
    for index, (name, (measured, simulated)) in enumerate(pairs.items()):
        row, column = 2 * (index // across), index % across
        low, high = np.percentile(measured, (0.5, 99.7))
        show_image(axes[row, column], np.clip(measured, low, high), name)
        show_image(axes[row + 1, column], np.clip(simulated, low, high), "imitated")
    return figure
