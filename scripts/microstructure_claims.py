"""Test the paper's statements on microstructure with an analysed cycling series and write four experiment folders.

Example: python scripts/microstructure_claims.py analysis=runs/analysis out=experiments
"""

from pathlib import Path

import numpy as np

from batseg.analysis.claims import check_claims
from batseg.analysis.paper_claims import CLAIMS, FIG7, FIG8, NOTE7, TABLE2
from batseg.analysis.sample import descriptors_by_sample
from batseg.command import command
from batseg.report.experiment import Experiment, write_experiment
from batseg.report.microstructure import read_rows, table_2
from batseg.report.microstructure_tables import error_budget, representativity, solver_bias, table_2_text
from batseg.report.table import write_csv
from batseg.volumes import InputError

EXPERIMENTS = {
    FIG7: Experiment(
        "Fig. 7: composition and surface coverage",
        "Do the segmented electrodes have the recipe's composition, and does CBD leave the silicon surface?",
        ("composition", "coverage", "states", "statistics"),
        ("fig7a_composition", "fig7b_coverage"),
    ),
    FIG8: Experiment(
        "Fig. 8: CBD in shells around graphite and silicon",
        "Where is CBD in the pore space, and does it move away from silicon with cycling?",
        ("shells_by_state",),
        ("fig8d_shells_graphite", "fig8e_shells_silicon"),
    ),
    TABLE2: Experiment(
        "Table 2: transport through the pore space",
        "How much does CBD impede transport, and does transport stay constant with cycling?",
        ("transport",),
        ("table2_transport", "convergence"),
    ),
    NOTE7: Experiment(
        "Supplementary Note 7: sizes of pores and of CBD",
        "Do pore sizes, CBD feature sizes and sub-volumes of similar composition change with cycling?",
        ("sizes", "subvolume_trends", "connectivity", "particle_summary"),
        ("size_distributions",),
    ),
}


@command("microstructure_claims")
def main(cfg):
    analysis, out = Path(cfg.analysis), Path(cfg.out)
    if not (analysis / "uncertainty.csv").exists():
        raise InputError(f"{analysis}: no uncertainty.csv here; run scripts/analyse.py with out={analysis} first")
    tables = {file.stem: read_rows(file) for file in analysis.glob("*.csv")}
    cycles, values = descriptors_by_sample(tables["uncertainty"], tables.get("similar_subvolumes", []))
    if len(np.unique(cycles[np.isfinite(cycles)])) < 2:
        raise InputError(f"{analysis}: a cycling series has samples of two states at least, here are cycles {cycles}")
    claims = check_claims(CLAIMS, cycles, values)
    notes = {FIG7: [representativity(tables["composition"])]}
    notes |= {TABLE2: [table_2_text(tables["transport"]), solver_bias(tables["transport"])]}
    for name, experiment in EXPERIMENTS.items():
        own = [row for row in claims if row["experiment"] == name]
        budget = error_budget(tables.get("variances", []), [row["measured"] for row in own])
        write_experiment(out / name, experiment, analysis, cfg.command, cfg.about, own, [*notes.get(name, []), budget])
        print(f"{name}: " + ", ".join(f"{row['verdict']} ({row['statement']})" for row in own))
    write_csv(out / TABLE2 / "table2.csv", table_2(tables["transport"]))


if __name__ == "__main__":
    main()
