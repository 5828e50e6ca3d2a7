"""Tables as plain text, Markdown and HTML from rows of plain values."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from batseg.phases import PHASES
from batseg.volumes import replacing

PAPER_TABLE_1 = {
    "real": {"pore": 0.63, "graphite": 0.65, "silicon": 0.69, "cbd": 0.38, "mean": 0.588},
    "hybrid": {"pore": 0.69, "graphite": 0.77, "silicon": 0.82, "cbd": 0.58, "mean": 0.715},
    "hybrid_threshold": {"pore": 0.72, "graphite": 0.77, "silicon": 0.82, "cbd": 0.72, "mean": 0.758},
}
"""Dice of the paper's three systems. Source: paper, Table 1; the means are ours of its four numbers."""

Row = Mapping[str, object]


def table_1(results: Mapping[str, Mapping[str, float]]) -> list[dict[str, object]]:
    """Rows of Table 1: our Dice per phase and mean for each system, and the paper's mean where it has that system.

    `results` maps the system's name to Dice by phase and "mean".
    """
    return [
        {"system": system}
        | {key: dice[key] for key in (*PHASES, "mean")}
        | {f"paper {key}": PAPER_TABLE_1.get(system, {}).get(key) for key in (*PHASES, "mean")}
        for system, dice in results.items()
    ]


def cell(value: object, digits: int = 3) -> str:
    """A value as text: numbers with `digits` decimals, nothing for None, a dash for NaN."""
    if value is None:
        return ""
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.{digits}f}"
    return str(value)


def markdown(rows: Sequence[Row], digits: int = 3) -> str:
    """A Markdown table with the keys of the first row as header; columns are padded to read well as plain text too."""
    header = list(rows[0])
    lines = [header, *([cell(row.get(key), digits) for key in header] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = ["| " + " | ".join(text.ljust(width) for text, width in zip(line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:]])


def write_csv(path: str | Path, rows: Sequence[Row]) -> Path:
    """Write rows as CSV, whole or not at all, header from the first row."""
    with replacing(path) as draft, open(draft, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)
