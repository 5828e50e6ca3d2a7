"""One experiment's folder: README with question, command, claims and verdicts, tables and figures."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batseg.report.table import markdown, write_csv
from batseg.volumes import write_text

Rows = Sequence[Mapping]


@dataclass(frozen=True)
class Experiment:
    """What a folder is about: title, question, the tables it keeps (name in the analysis) and its figures."""

    title: str
    question: str
    tables: tuple[str, ...]
    figures: tuple[str, ...]


def write_experiment(
    folder: Path, experiment: Experiment, analysis: Path, command: str, data: str, claims: Rows, notes: Sequence[str]
) -> Path:
    """Write the README, claims.csv and copies of the tables and PNG figures of an analysis. Returns the README."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "claims.csv", claims)
    for table in experiment.tables:
        shutil.copyfile(analysis / f"{table}.csv", folder / f"{table}.csv")
    for figure in experiment.figures:
        shutil.copyfile(analysis / "figures" / f"{figure}.png", folder / f"{figure}.png")
    shown = [
        {
            "statement of the paper": row["statement"],
            "place": row["place"],
            "paper": row["paper"],
            "ours": f"{_number(row['value'])} [{_number(row['interval_low'])}, {_number(row['interval_high'])}]",
            "confirmed within": f"{_number(row['confirmed_from'])} to {_number(row['confirmed_to'])}",
            "verdict": row["verdict"],
        }
        for row in claims
    ]
    measured = "\n".join(f"- {row['statement']}: {row['measured']}" for row in claims)
    verdicts = [row["verdict"] for row in claims]
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(verdicts))
    parts = [
        f"# {experiment.title}",
        f"**Question.** {experiment.question}",
        f"**Data.** {data}",
        f"**Command.**\n\n```\n{command}\n```",
        f"## Claims: {counts}",
        markdown(shown),
        "In brackets: 95 % interval over samples. A claim is confirmed if the interval lies inside the range, "
        "contradicted if it lies outside, undecided otherwise; the ranges are ours, and of many intervals about one in "
        "twenty misses. Every word in the last column is computed from the tables here.",
        f"## What was measured\n\n{measured}",
        *notes,
        "## Figures\n\n" + "\n\n".join(f"![{figure}]({figure}.png)" for figure in experiment.figures),
        "Tables: " + ", ".join(f"`{name}.csv`" for name in ("claims", *experiment.tables)),
    ]
    return write_text(folder / "README.md", "\n\n".join(part for part in parts if part) + "\n")


def _number(value: float) -> str:
    if value != value:
        return "unknown"
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "-∞"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"
