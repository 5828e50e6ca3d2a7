"""A cycling series: the tables of its samples joined, averaged per state, tested for trends, with error bars."""

from dataclasses import dataclass, field

import numpy as np

from batseg.analysis.realisations import agreeing, realised, uncertainty_rows
from batseg.analysis.sample import KEYS, Tables, analyse_sample, nested, plain, scalars
from batseg.analysis.statistics import state_rows, statistics_rows
from batseg.analysis.trends import QUANTITIES, similar, subvolume_rows

PARTS = {f"volume_fraction {phase}": f"volume_fraction_{phase}" for phase in ("pore", "graphite", "silicon", "cbd")} | {
    "D_rel pore": "D_rel",
    "median_radius_nm pore": "median_pore_radius_nm",
    "median_radius_nm cbd": "median_cbd_radius_nm",
    "coverage silicon by cbd": "coverage_silicon_by_cbd",
    "coverage graphite by cbd": "coverage_graphite_by_cbd",
}
"""Descriptors that are also measured in sub-volumes, and the column that holds them there."""


SERIES_KEYS = {
    "states": ("quantity", "state_cycles"),
    "statistics": ("quantity",),
    "variances": ("quantity",),
    "shells_by_state": ("cycles", "phase", "rule", "shell"),
    "subvolume_trends": ("quantity",),
}
"""Tables across samples, and the columns that name a row in each."""

NAMED = ("sample", "cycles")


@dataclass(frozen=True)
class Analysed:
    """One sample: its name, number of cycles (NaN if unknown), tables, sub-volume rows and realised descriptors."""

    sample: str
    cycles: float
    tables: Tables
    subvolumes: list[dict] = field(default_factory=list)
    realisations: dict[str, np.ndarray] = field(default_factory=dict)

    def parts(self) -> dict[str, np.ndarray]:
        """Sub-volume values of every descriptor that has them."""
        if not self.subvolumes:
            return {}
        return {name: np.array([row[column] for row in self.subvolumes]) for name, column in PARTS.items()}


def analyse_source(
    sample: str,
    cycles: float,
    labels: np.ndarray,
    voxel_nm: float,
    probabilities: np.ndarray | None,
    subvolume_edge: int | None,
    realisations: int,
    correlation_nm: float,
    seed: int,
    **measured,
) -> Analysed:
    """Measure one sample, its sub-volumes and, if it has probabilities, label realisations (`measured`: MEASURED)."""
    tables = analyse_sample(labels, voxel_nm, **measured)
    parts = subvolume_rows(labels, voxel_nm, measured["through_plane"], subvolume_edge) if subvolume_edge else []
    drawn = {}
    if probabilities is not None and realisations > 0:
        first = {key: np.atleast_1d(measured[key])[:1] for key in ("downscale", "tolerance")}
        sparing = (
            measured
            | first
            | {"directions": measured["through_plane"], "size_methods": ["local thickness"], "brief": True}
        )

        def describe(drawn_labels: np.ndarray) -> dict[str, float]:
            return scalars(analyse_sample(drawn_labels, voxel_nm, **sparing))

        drawn = realised(agreeing(probabilities, labels), describe, realisations, correlation_nm / voxel_nm, seed)
    return Analysed(sample, cycles, tables, parts, drawn)


def series_tables(series: list[Analysed], rng: np.random.Generator, tolerance: float, change: float) -> Tables:
    """All tables of a series, every row with sample and cycles; and those across samples.

    shells_by_state: mean and standard deviation per state. statistics, states: trends, contrasts and intervals of every
    descriptor. similar_subvolumes: the cubes within `tolerance` of the median composition; subvolume_trends: their
    trends. uncertainty: segmentation and sampling errors per sample.
    """
    tables: Tables = {}
    for one in series:
        named = {"sample": one.sample, "cycles": one.cycles}
        own = one.tables | ({"subvolumes": one.subvolumes} if one.subvolumes else {})
        own["uncertainty"] = uncertainty_rows(scalars(one.tables), one.realisations, one.parts())
        for name, rows in own.items():
            tables.setdefault(name, []).extend(named | row for row in rows)
    tables["shells_by_state"] = shells_by_state(tables["shells"])
    cycles = [one.cycles for one in series]
    if len(series) > 1 and np.isfinite(cycles).any():
        described = [scalars(one.tables) for one in series]
        values = {name: [found.get(name, np.nan) for found in described] for name in described[0]}
        parts = [one.parts() for one in series]
        inner = {name: [part[name] for part in parts] for name in PARTS} if all(parts) else None
        tables["states"] = state_rows(cycles, values, rng, inner)
        tables["statistics"] = statistics_rows([one.sample for one in series], cycles, values, rng, change)
        tables["variances"] = variance_rows(series, values)
    if "subvolumes" in tables:
        tables["similar_subvolumes"] = similar(tables["subvolumes"], tolerance)
        tables["subvolume_trends"] = subvolume_trends(tables["similar_subvolumes"], rng)
    return tables


def shells_by_state(rows: list[dict]) -> list[dict]:
    """Mean and standard deviation of the CBD content over the samples of a state, per phase, rule and shell.

    Source: paper, Fig. 8d, e (curve: mean of three samples, band: standard deviation).
    """
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["cycles"], row["phase"], row["rule"], row["shell"]), []).append(row)
    averaged = []
    for (cycles, phase, rule, shell), members in groups.items():
        content = np.array([row["cbd_content"] for row in members], float)
        known = content[np.isfinite(content)]
        averaged.append(
            {"cycles": cycles, "phase": phase, "rule": rule, "shell": shell}
            | {key: members[0][key] for key in ("distance_from_nm", "distance_to_nm")}
            | {
                "samples": known.size,
                "cbd_content_mean": known.mean() if known.size else np.nan,
                "cbd_content_sd": known.std(ddof=1) if known.size > 1 else np.nan,
            }
        )
    return averaged


def variance_rows(series: list[Analysed], values: dict[str, list[float]]) -> list[dict]:
    """Per descriptor: the variance among samples of a state and how much of it segmentation error makes.

    sampling_variance = variance within states - mean segmentation variance (0 if negative): what remains between
    samples if they were segmented without error. NaN without label realisations.
    """
    cycles = np.array([one.cycles for one in series])
    rows = []
    for quantity, numbers in values.items():
        numbers = np.asarray(numbers, float)
        groups = [numbers[cycles == state] for state in np.unique(cycles[np.isfinite(cycles)])]
        inner = [group.var(ddof=1) for group in groups if len(group) > 1]
        within = float(np.nanmean(inner)) if np.isfinite(inner).any() else np.nan
        drawn = [one.realisations[quantity].var(ddof=1) for one in series if quantity in one.realisations]
        segmentation = float(np.nanmean(drawn)) if np.isfinite(drawn).any() else np.nan
        rows.append(
            {
                "quantity": quantity,
                "variance_within_states": within,
                "segmentation_variance": segmentation,
                "sampling_variance": max(0.0, within - segmentation) if np.isfinite(within - segmentation) else np.nan,
                "segmentation_share": min(1.0, segmentation / within) if within > 0 else np.nan,
            }
        )
    return rows


def subvolume_trends(rows: list[dict], rng: np.random.Generator) -> list[dict]:
    """Trend with cycling of every quantity of similar sub-volumes, the sample means being the units of the test."""
    if not rows:
        return []
    samples = list(dict.fromkeys((row["sample"], row["cycles"]) for row in rows))
    values = {
        quantity: [np.mean([row[quantity] for row in rows if row["sample"] == name]) for name, _ in samples]
        for quantity in QUANTITIES
    }
    found = statistics_rows([name for name, _ in samples], [cycles for _, cycles in samples], values, rng)
    counts = {name: sum(row["sample"] == name for row in rows) for name, _ in samples}
    return [row | {"subvolumes": sum(counts.values())} for row in found]


def summary(tables: Tables, about: dict) -> dict:
    """The numbers of the tables as one nested dictionary; NaN and infinity are None."""
    samples = {row["sample"]: row["cycles"] for row in tables["composition"]}
    content: dict = {key: plain(value) for key, value in about.items()} | {"samples": {}}
    for sample, cycles in samples.items():
        own: dict = {"cycles": plain(cycles)}
        for name, keys in (KEYS | {"descriptors": ("quantity",)}).items():
            rows = tables["uncertainty" if name == "descriptors" else name]
            own[name] = nested([_unnamed(row) for row in rows if row["sample"] == sample], keys)
        content["samples"][sample] = own
    for name, keys in SERIES_KEYS.items():
        if tables.get(name):
            content[name] = nested(tables[name], keys)
    return content


def _unnamed(row: dict) -> dict:
    return {key: value for key, value in row.items() if key not in NAMED}
