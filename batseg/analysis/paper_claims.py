"""The list of the paper's statements on microstructure, with the range in which we call each confirmed.

Where the paper gives a number without an error, the range about it is ours: 0.03 for a fraction (0.02 below 0.1), 10 %
for transport and radii; "does not change" means less than that over eight cycles.
"""

from batseg.analysis.claims import Claim, change_over_cycling, cycled_less_pristine, less, mean_of, ratio

FRACTION, SMALL_FRACTION, RELATIVE = 0.03, 0.02, 0.10


def _near(experiment: str, statement: str, place: str, name: str, number: float, states: str = "all") -> Claim:
    margin = RELATIVE * number if number > 1 else FRACTION if number > 0.1 else SMALL_FRACTION
    estimate = mean_of(name, states)
    measured = f"{name}, mean of {states} samples"
    return Claim(experiment, statement, place, f"{number:g}", measured, estimate, number - margin, number + margin)


def _unchanged(experiment: str, statement: str, place: str, name: str, relative: bool = False) -> Claim:
    margin = RELATIVE if relative else FRACTION
    measured = f"{name}, {'relative ' if relative else ''}change over 8 cycles"
    return Claim(experiment, statement, place, "0", measured, change_over_cycling(name, relative), -margin, margin)


FIG7 = "fig7_composition"
FIG8 = "fig8_shells"
TABLE2 = "table2_transport"
NOTE7 = "note7_sizes"


def _silicon_shells(rule: str) -> tuple[Claim, ...]:
    """The statements on Fig. 8e, with the paper's rule for overlapping shells ('') or ours (' nearest')."""
    note = " (shells given to the nearest phase)" if rule else ""
    first, near, outer = (
        f"cbd_in_{part} silicon{rule}" for part in ("first_shell", "shells_near_300nm", "outer_shells")
    )
    place = "Fig. 8e"
    return (
        _near(FIG8, f"The first shell around pristine silicon holds 50 % CBD{note}", place, first, 0.50, "pristine"),
        Claim(
            FIG8,
            f"CBD in the first shell around silicon decreases upon cycling, to 40 %{note}",
            place,
            "-0.10",
            f"{first}, cycled less pristine",
            cycled_less_pristine(first),
            high=0.0,
        ),
        Claim(
            FIG8,
            f"In pristine samples CBD decreases with the distance from silicon{note}",
            place,
            "< 0",
            f"{outer} less {first}, same sample, pristine",
            less(outer, first, "pristine"),
            high=0.0,
        ),
        _near(FIG8, f"There it converges to around 20 %{note}", place, outer, 0.20, "pristine"),
        Claim(
            FIG8,
            f"In cycled samples CBD has a minimum near 300 nm from silicon and rises again: a gap{note}",
            place,
            "> 0",
            f"{outer} less {near}, same sample, cycled",
            less(outer, near, "cycled"),
            low=0.0,
        ),
    )


CLAIMS = (
    *(
        _near(
            FIG7, f"{phase} fills {number:.0%} of the electrode (recipe)", "Fig. 7a", f"volume_fraction {phase}", number
        )
        for phase, number in {"pore": 0.51, "graphite": 0.35, "silicon": 0.06, "cbd": 0.08}.items()
    ),
    _near(FIG7, "CBD takes 17 % of the pore space (read as CBD / pore)", "text on Fig. 8e", "cbd_share_of_pore", 0.17),
    _near(
        FIG7,
        "CBD takes 17 % of the pore space (read as CBD / (pore + CBD))",
        "text on Fig. 8e",
        "cbd_share_of_pore_and_cbd",
        0.17,
    ),
    _near(FIG7, "97 % of the graphite surface is in contact with pore", "Fig. 7b", "coverage graphite by pore", 0.97),
    _near(FIG7, "3 % of the graphite surface is covered by CBD", "Fig. 7b", "coverage graphite by cbd", 0.03),
    _unchanged(FIG7, "The coverage of graphite does not change with cycling", "Fig. 7b", "coverage graphite by cbd"),
    _near(
        FIG7,
        "53 % of the pristine silicon surface is in contact with pore",
        "Fig. 7b",
        "coverage silicon by pore",
        0.53,
        "pristine",
    ),
    _near(
        FIG7,
        "46 % of the pristine silicon surface is covered by CBD",
        "Fig. 7b",
        "coverage silicon by cbd",
        0.46,
        "pristine",
    ),
    Claim(
        FIG7,
        "CBD leaves the silicon surface with cycling",
        "Fig. 7b",
        "-0.12",
        "coverage silicon by cbd, cycled less pristine",
        cycled_less_pristine("coverage silicon by cbd"),
        high=0.0,
    ),
    Claim(
        FIG7,
        "It does so within the first two cycles: pore contact of silicon rises from 53 % to 65 %",
        "Fig. 7b",
        "+0.12",
        "coverage silicon by pore, 2 cycles less pristine",
        cycled_less_pristine("coverage silicon by pore", 2.0),
        low=0.0,
    ),
    Claim(
        FIG8,
        "The first shell around graphite matches the coverage",
        "Fig. 8d",
        "0",
        "cbd_in_first_shell graphite less coverage by CBD, same sample",
        less("cbd_in_first_shell graphite", "coverage graphite by cbd"),
        -FRACTION,
        FRACTION,
    ),
    Claim(
        FIG8,
        "CBD increases in the shells after the first around graphite",
        "Fig. 8d",
        "> 0",
        "shells near 300 nm less first shell, same sample",
        less("cbd_in_shells_near_300nm graphite", "cbd_in_first_shell graphite"),
        low=0.0,
    ),
    _unchanged(FIG8, "Cycling does not change CBD near the graphite surface", "Fig. 8d", "cbd_in_first_shell graphite"),
    Claim(
        FIG8,
        "Cycling compresses CBD towards the middle of the pores",
        "Fig. 8d",
        "> 0",
        "cbd_in_shells_near_300nm graphite, cycled less pristine",
        cycled_less_pristine("cbd_in_shells_near_300nm graphite"),
        low=0.0,
    ),
    *_silicon_shells(""),
    *_silicon_shells(" nearest"),
    Claim(
        TABLE2,
        "The effective transport coefficient is 0.14",
        "text, Table 2",
        "0.14",
        "D_rel pore, mean of all samples",
        mean_of("D_rel pore"),
        0.14 * (1 - RELATIVE),
        0.14 * (1 + RELATIVE),
    ),
    Claim(
        TABLE2,
        "Neglecting CBD it is 0.19",
        "text, Table 2",
        "0.19",
        "D_rel pore+cbd, mean of all samples",
        mean_of("D_rel pore+cbd"),
        0.19 * (1 - RELATIVE),
        0.19 * (1 + RELATIVE),
    ),
    Claim(
        TABLE2,
        "CBD decreases the effective transport by 27 %",
        "text",
        "-0.27",
        "D_rel pore / D_rel pore+cbd - 1, same sample",
        ratio("D_rel pore", "D_rel pore+cbd"),
        -0.27 - RELATIVE / 2,
        -0.27 + RELATIVE / 2,
    ),
    Claim(
        TABLE2,
        "The decrease is caused by less porosity",
        "text, Table 2",
        "< 0",
        "epsilon pore / epsilon pore+cbd - 1, same sample",
        ratio("epsilon pore", "epsilon pore+cbd"),
        high=0.0,
    ),
    Claim(
        TABLE2,
        "and by more tortuosity",
        "text, Table 2",
        "> 0",
        "tau_factor pore / tau_factor pore+cbd - 1, same sample",
        ratio("tau_factor pore", "tau_factor pore+cbd"),
        low=0.0,
    ),
    _unchanged(TABLE2, "Transport stays constant as a function of cycling", "text, Table 2", "D_rel pore", True),
    _unchanged(TABLE2, "Tortuosity stays constant", "text, Table 2", "tau_factor pore", True),
    _near(NOTE7, "The median pore radius is 360 nm", "text on Fig. 8", "median_radius_nm pore", 360.0),
    _unchanged(NOTE7, "The pore sizes do not change with cycling", "Suppl. Note 7", "median_radius_nm pore", True),
    _unchanged(
        NOTE7, "The CBD feature sizes do not change with cycling", "Suppl. Note 7", "median_radius_nm cbd", True
    ),
    _unchanged(
        NOTE7,
        "The CBD network does not break",
        "text",
        "largest_component_fraction cbd",
    ),
    *(
        _unchanged(
            NOTE7,
            f"Sub-volumes of similar composition show no trend: {what}",
            "Suppl. Fig. 8b",
            f"similar {column}",
            True,
        )
        for column, what in {
            "D_rel": "transport",
            "median_pore_radius_nm": "pore radius",
            "median_cbd_radius_nm": "CBD radius",
        }.items()
    ),
)
