"""Figures 7a, 7b, 8d and 8e, Table 2 and the size distributions, drawn from the tables of the analysis alone."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from batseg.phases import COLOURS, NOMINAL_FRACTIONS, PHASES
from batseg.report.figures import save_figure

Rows = list[dict]

PAPER_TABLE_2 = {
    ("D_rel", "pore"): {0: (0.1492, 0.0369), 2: (0.1277, 0.0287), 5: (0.1351, 0.0292), 8: (0.1435, 0.0224)},
    ("D_rel", "pore+cbd"): {0: (0.2098, 0.0445), 2: (0.1853, 0.0316), 5: (0.1810, 0.0308), 8: (0.2004, 0.0307)},
    ("epsilon", "pore"): {0: (0.5052, 0.0757), 2: (0.4658, 0.0486), 5: (0.4752, 0.0467), 8: (0.5004, 0.0409)},
    ("epsilon", "pore+cbd"): {0: (0.5847, 0.0825), 2: (0.5458, 0.0446), 5: (0.5400, 0.0405), 8: (0.5788, 0.0462)},
    ("tau_factor", "pore"): {0: (3.3465, 0.3656), 2: (3.6076, 0.5970), 5: (3.4711, 0.4273), 8: (3.4092, 0.2334)},
    ("tau_factor", "pore+cbd"): {0: (2.7651, 0.2209), 2: (2.9287, 0.4523), 5: (2.9587, 0.3465), 8: (2.8558, 0.2261)},
}
"""Mean and standard deviation by number of cycles; conductor pore = "including CBD". Source: paper, Table 2."""

NAMES = {"D_rel": "effective transport δ", "epsilon": "porosity ε", "tau_factor": "tortuosity τ = ε/δ"}
CONDUCTORS = {"pore": "including CBD", "pore+cbd": "neglecting CBD"}


def read_rows(path: str | Path) -> Rows:
    """Rows of a CSV table; numbers become floats (nan included), True and False truth values."""
    with open(path, newline="") as file:
        return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> object:
    if text in ("True", "False"):
        return text == "True"
    try:
        return float(text)
    except ValueError:
        return text


def draw_figures(folder: str | Path, out: str | Path) -> list[Path]:
    """Draw every figure whose table lies in `folder` into `out`, as PNG and SVG; the PNG paths."""
    drawn = {
        "fig7a_composition": ("composition", composition),
        "fig7b_coverage": ("coverage", coverage),
        "fig8d_shells_graphite": ("shells_by_state", lambda rows: shells(rows, "graphite")),
        "fig8e_shells_silicon": ("shells_by_state", lambda rows: shells(rows, "silicon")),
        "table2_transport": ("transport", transport_table),
        "size_distributions": ("size_distributions", size_distributions),
        "convergence": ("convergence", convergence),
    }
    paths = []
    for name, (table, draw) in drawn.items():
        file = Path(folder) / f"{table}.csv"
        if file.exists():
            paths.append(save_figure(draw(read_rows(file)), Path(out) / name))
    return paths


def states(rows: Rows) -> list[float]:
    """Numbers of cycles in the rows, rising; NaN (unknown) last and once."""
    known = sorted({row["cycles"] for row in rows if np.isfinite(row["cycles"])})
    return known + ([float("nan")] if any(np.isnan(row["cycles"]) for row in rows) else [])


def state_name(cycles: float) -> str:
    if np.isnan(cycles):
        return "sample"
    return "pristine" if cycles == 0 else f"{cycles:g} cycles"


def of_state(rows: Rows, cycles: float) -> Rows:
    return [row for row in rows if row["cycles"] == cycles or (np.isnan(cycles) and np.isnan(row["cycles"]))]


def mean_and_sd(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation of the finite values; NaN where there are too few."""
    known = np.array([value for value in values if np.isfinite(value)])
    return (
        float(known.mean()) if known.size else float("nan"),
        float(known.std(ddof=1)) if known.size > 1 else float("nan"),
    )


def composition(rows: Rows) -> Figure:
    """Volume fractions per state, samples as dots, mean and standard deviation; dashed: the recipe (Fig. 7a)."""
    figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
    groups = states(rows)
    for place, phase in enumerate(PHASES):
        own = [[row["volume_fraction"] for row in of_state(rows, cycles) if row["phase"] == phase] for cycles in groups]
        _grouped_bars(axes, place, [_shade(COLOURS[phase], i, len(groups)) for i in range(len(groups))], own)
        axes.hlines(NOMINAL_FRACTIONS[phase], place - 0.45, place + 0.45, colors="black", linestyles="dashed", lw=0.9)
    axes.set(xticks=range(len(PHASES)), xticklabels=PHASES, ylabel="volume fraction", ylim=(0, None))
    axes.set_title("bars light to dark: " + ", ".join(map(state_name, groups)) + "; dashed: recipe", loc="left")
    return figure


def coverage(rows: Rows) -> Figure:
    """Surface coverage of graphite and silicon, stacked, per state (Fig. 7b)."""
    figure, both = plt.subplots(1, 2, figsize=(6.4, 3.0), layout="constrained", sharey=True)
    groups = states(rows)
    chosen = [row for row in rows if row["method"] == "crofton13" and row["denominator"] == "all contacts"]
    for axes, phase in zip(both, ("graphite", "silicon")):
        bottom = np.zeros(len(groups))
        for neighbour in [name for name in PHASES if name != phase]:
            own = [
                mean_and_sd(
                    [
                        row["coverage"]
                        for row in of_state(chosen, cycles)
                        if (row["phase"], row["neighbour"]) == (phase, neighbour)
                    ]
                )
                for cycles in groups
            ]
            mean, spread = np.nan_to_num(np.array(own).T)
            axes.bar(range(len(groups)), mean, 0.7, bottom, color=COLOURS[neighbour], label=neighbour, yerr=spread)
            bottom += mean
        axes.set(xticks=range(len(groups)), title=phase, ylim=(0, 1.05))
        axes.set_xticklabels([state_name(cycles) for cycles in groups], rotation=20)
    both[0].set_ylabel("share of the surface")
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[phase]) for phase in PHASES]
    figure.legend(handles, PHASES, loc="outside lower center", ncols=4)
    return figure


def shells(rows: Rows, phase: str, rule: str = "excluded") -> Figure:
    """CBD content by distance from a phase, one curve per state with its standard deviation (Fig. 8d, e)."""
    figure, axes = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
    groups = states(rows)
    for i, cycles in enumerate(groups):
        own = [row for row in of_state(rows, cycles) if (row["phase"], row["rule"]) == (phase, rule)]
        middle = np.array([(row["distance_from_nm"] + row["distance_to_nm"]) / 2 for row in own])
        mean = np.array([row["cbd_content_mean"] for row in own])
        spread = np.nan_to_num(np.array([row["cbd_content_sd"] for row in own]))
        colour = _shade(COLOURS["cbd"], i, len(groups))
        axes.plot(middle, mean, "o-", markersize=3, color=colour, label=state_name(cycles))
        axes.fill_between(middle, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel=f"distance from {phase} [nm]", ylabel="CBD content of the shell", ylim=(0, None))
    axes.set_title(f"around {phase}", color=COLOURS[phase], loc="left", fontweight="bold")
    axes.legend()
    return figure


def table_2(rows: Rows) -> Rows:
    """Table 2 from transport rows: mean and standard deviation through plane, per state, with the paper's beside."""
    chosen = first_setting(rows)
    table = []
    for (quantity, conductor), paper in PAPER_TABLE_2.items():
        for cycles in states(chosen):
            own = [row[quantity] for row in of_state(chosen, cycles) if row["conductor"] == conductor]
            mean, spread = mean_and_sd(own)
            reported = paper.get(cycles, (float("nan"),) * 2)
            table.append(
                {"quantity": quantity, "conductor": conductor, "cycles": cycles, "samples": len(own)}
                | {"mean": mean, "standard_deviation": spread}
                | {"paper_mean": reported[0], "paper_standard_deviation": reported[1]}
            )
    return table


def first_setting(rows: Rows) -> Rows:
    """Through-plane rows of the first downscale and tolerance in the table."""
    first = rows[0] if rows else {}
    keys = ("downscale", "tolerance")
    return [row for row in rows if row["through_plane"] and all(row[key] == first[key] for key in keys)]


def transport_table(rows: Rows) -> Figure:
    """Table 2 as a picture, the paper's numbers in brackets."""
    numbers = table_2(rows)
    groups = states(rows)
    text = []
    for quantity, conductor in PAPER_TABLE_2:
        own = [row for row in numbers if (row["quantity"], row["conductor"]) == (quantity, conductor)]
        text.append(
            [f"{NAMES[quantity]}, {CONDUCTORS[conductor]}"]
            + [
                f"{row['mean']:.3f} ± {row['standard_deviation']:.3f}\n"
                f"({row['paper_mean']:.3f} ± {row['paper_standard_deviation']:.3f})"
                for row in own
            ]
        )
    figure, axes = plt.subplots(figsize=(3.0 + 1.2 * len(groups), 3.6), layout="constrained")
    axes.axis("off")
    header = ["(paper in brackets)", *map(state_name, groups)]
    widths = [0.36] + [0.64 / len(groups)] * len(groups)
    table = axes.table(text, colLabels=header, colWidths=widths, bbox=(0, 0, 1, 1), edges="horizontal", cellLoc="left")
    table.auto_set_font_size(False)
    table.set_fontsize(7.5)
    return figure


def size_distributions(rows: Rows, method: str = "local thickness") -> Figure:
    """Pore and CBD radius distributions per state: volume share per bin, mean over samples."""
    figure, both = plt.subplots(1, 2, figsize=(6.8, 3.0), layout="constrained")
    groups = states(rows)
    for axes, phase in zip(both, ("pore", "cbd")):
        chosen = [row for row in rows if (row["phase"], row["method"]) == (phase, method)]
        sizes = sorted({row["size_nm"] for row in chosen})
        for i, cycles in enumerate(groups):
            own = of_state(chosen, cycles)
            count = len({row["sample"] for row in own}) or 1
            share = [sum(row["fraction"] for row in own if row["size_nm"] == size) / count for size in sizes]
            axes.plot(sizes, share, color=_shade(COLOURS[phase], i, len(groups)), label=state_name(cycles))
        axes.set(xlabel=f"{phase} radius ({method}) [nm]", title=phase, ylim=(0, None))
        axes.legend()
    both[0].set_ylabel("share of the volume")
    return figure


def convergence(rows: Rows) -> Figure:
    """Flux imbalance by iteration of every transport solution."""
    figure, axes = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
    keys = ("sample", "conductor", "direction", "downscale", "tolerance")
    for key in dict.fromkeys(tuple(row[name] for name in keys) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in keys) == key]
        axes.semilogy([row["iteration"] for row in own], [abs(row["flux_imbalance"]) for row in own], lw=0.8, alpha=0.6)
    axes.set(xlabel="iteration", ylabel="(largest - smallest flux) / mean")
    return figure


def _grouped_bars(axes: Axes, place: int, colours: list, values: list[list[float]]) -> None:
    width = 0.84 / len(values)
    for i, (colour, own) in enumerate(zip(colours, values)):
        mean, spread = mean_and_sd(own)
        x = place - 0.42 + (i + 0.5) * width
        axes.bar(x, mean, width * 0.9, color=colour, yerr=None if np.isnan(spread) else spread, capsize=2)
        axes.plot([x] * len(own), own, "o", markersize=2.5, color="white", markeredgecolor="black", markeredgewidth=0.5)


def _shade(colour: str, index: int, count: int) -> tuple[float, float, float]:
    """The colour, lighter for earlier states."""
    light = 0.65 * (1 - (index + 1) / count)
    return tuple(light + (1 - light) * channel for channel in to_rgb(colour))
