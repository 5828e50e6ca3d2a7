"""Table 2, the solver's bias and the error budget as Markdown, from the tables of the analysis."""

import numpy as np

from batseg.phases import PHASES
from batseg.report.microstructure import CONDUCTORS, NAMES, Rows, mean_and_sd, state_name, table_2
from batseg.report.table import markdown


def table_2_text(rows: Rows) -> str:
    """Table 2 as Markdown, ours and the paper's."""
    shown = [
        {
            "quantity": f"{NAMES[row['quantity']]}, {CONDUCTORS[row['conductor']]}",
            "state": state_name(row["cycles"]),
            "ours": f"{row['mean']:.4f} ± {row['standard_deviation']:.4f} (n = {row['samples']})",
            "paper": f"{row['paper_mean']:.4f} ± {row['paper_standard_deviation']:.4f}",
        }
        for row in table_2(rows)
    ]
    return "## Table 2, through plane: mean ± standard deviation over the samples of a state\n\n" + markdown(shown)


def solver_bias(rows: Rows) -> str:
    """What the paper's halved voxels and tolerance change, from rows solved both ways; empty if they were not."""
    through = [row for row in rows if row["through_plane"]]
    finest = (min(row["downscale"] for row in through), min(row["tolerance"] for row in through))
    exact = {
        (row["sample"], row["conductor"]): row for row in through if (row["downscale"], row["tolerance"]) == finest
    }
    shown = []
    for setting in sorted({(row["downscale"], row["tolerance"]) for row in through} - {finest}):
        for conductor in CONDUCTORS:
            relative = [
                row["D_rel"] / exact[row["sample"], conductor]["D_rel"] - 1
                for row in through
                if (row["downscale"], row["tolerance"]) == setting and row["conductor"] == conductor
            ]
            mean, spread = mean_and_sd(relative)
            shown.append(
                {"conductor": conductor, "downscale": f"{setting[0]:g}", "tolerance": f"{setting[1]:g}"}
                | {"bias of D_rel": f"{100 * mean:+.2f} % ± {100 * spread:.2f} %"}
            )
    if not shown:
        return ""
    reference = f"downscale {finest[0]:g}, tolerance {finest[1]:g}"
    return f"## Bias of the solver's settings, against {reference}\n\n" + markdown(shown)


def error_budget(variances: Rows, measured: list[str]) -> str:
    """Markdown: how much of the scatter among samples the segmentation makes, for the descriptors named in `measured`.

    Empty where no label realisations were drawn.
    """
    shown = [
        {
            "descriptor": row["quantity"],
            "sd within states": f"{np.sqrt(row['variance_within_states']):.4g}",
            "of it segmentation": f"{np.sqrt(row['segmentation_variance']):.4g}",
            "of it sampling": f"{np.sqrt(row['sampling_variance']):.4g}",
        }
        for row in variances
        if np.isfinite(row["segmentation_variance"]) and any(row["quantity"] in text for text in measured)
    ]
    if not shown:
        return ""
    return (
        "## Error budget\n\nStandard deviations: of label realisations drawn from the probabilities, and among the "
        "samples of a state.\n\n" + markdown(shown)
    )


def representativity(rows: Rows) -> str:
    """Markdown: how well the volumes represent the electrode, from the composition table (integral range)."""
    shown = []
    for phase in PHASES:
        own = [row for row in rows if row["phase"] == phase]
        columns = ("volume_fraction", "standard_error", "labelled_volume_um3", "volume_for_5_percent_error_um3")
        fraction, error, volume, needed = (mean_and_sd([row[column] for row in own])[0] for column in columns)
        shown.append(
            {"phase": phase, "volume fraction": f"{fraction:.3f}"}
            | {"its standard error in one sample": f"{error:.3f}", "labelled volume [µm³]": f"{volume:.0f}"}
            | {"volume for 5 % error [µm³]": f"{needed:.0f}"}
        )
    return "## How representative is one sample? (means over samples, from the integral range)\n\n" + markdown(shown)
