"""All tables of one segmented sample, and the few dozen scalars that statistics and intervals are made of."""

from collections.abc import Sequence

import numpy as np

from batseg.analysis.composition import composition_rows
from batseg.analysis.networks import connectivity_rows, particle_rows, particle_summary_rows
from batseg.analysis.sizes import METHODS, size_tables
from batseg.analysis.surfaces import LIMIT_NM, SHELL_NM, coverage_rows, shell_rows
from batseg.analysis.transport import AXES, transport_rows
from batseg.progress import track

Tables = dict[str, list[dict]]

KEYS = {
    "composition": ("phase",),
    "coverage": ("phase", "neighbour", "method", "denominator"),
    "transport": ("conductor", "direction", "downscale", "tolerance"),
    "sizes": ("phase", "method"),
    "shells": ("phase", "rule", "shell"),
    "connectivity": ("phase",),
    "particle_summary": ("phase",),
}
"""Tables that go into the summary, and the columns that name a row in each."""


MEASURED = (
    "through_plane",
    "directions",
    "downscale",
    "tolerance",
    "cbd_diffusivity",
    "size_methods",
    "shell_nm",
    "limit_nm",
    "split_voxels",
)
"""Names of the parameters of `analyse_sample`."""


def analyse_sample(
    labels: np.ndarray,
    voxel_nm: float,
    through_plane: str = "z",
    directions: str = AXES,
    downscale: int | Sequence[int] = 2,
    tolerance: float | Sequence[float] = 1e-3,
    cbd_diffusivity: float | None = None,
    size_methods: Sequence[str] = METHODS,
    shell_nm: float = SHELL_NM,
    limit_nm: float = LIMIT_NM,
    split_voxels: float | None = None,
    brief: bool = False,
) -> Tables:
    """Tables composition, coverage, transport, convergence, sizes, size_distributions, shells, connectivity, particles,
    particle_summary.

    labels: (z, y, x) in the project's codes, 255 excluded everywhere (transport: largest labelled box). Absent phases
    give NaN rows. brief leaves out what `scalars` does not need (integral ranges, particles) and shows no progress.
    Raises ValueError for an axis other than z, y, x and for a volume too thin to be crossed.
    """
    downscale = [int(factor) for factor in np.atleast_1d(downscale)]
    tolerance = [float(limit) for limit in np.atleast_1d(tolerance)]
    _check(labels.shape, through_plane, directions, downscale, tolerance)
    transport, convergence = [], []
    solves = transport_rows(labels, voxel_nm, through_plane, directions, downscale, tolerance, cbd_diffusivity)
    count = (len(directions) + len(downscale) * len(tolerance) - 1) * (2 if cbd_diffusivity is None else 3)
    for row in solves if brief else track(solves, "transport", count):
        history = row.pop("history")
        transport.append(row)
        named = {key: row[key] for key in KEYS["transport"]}
        convergence += [
            named | {"iteration": i, "flux_imbalance": imbalance, "D_rel": d_rel}
            for i, (imbalance, d_rel) in enumerate(history)
        ]
    particles = [] if brief else particle_rows(labels, voxel_nm, split_voxels=split_voxels)
    sizes, distributions = size_tables(labels, voxel_nm, size_methods, progress=not brief)
    return {
        "composition": composition_rows(labels, voxel_nm, not brief),
        "coverage": coverage_rows(labels, voxel_nm),
        "transport": transport,
        "convergence": convergence,
        "sizes": sizes,
        "size_distributions": distributions,
        "shells": shell_rows(labels, voxel_nm, shell_nm, limit_nm),
        "connectivity": connectivity_rows(labels, voxel_nm),
        "particles": particles,
        "particle_summary": particle_summary_rows(particles),
    }


def _check(shape, through_plane, directions, downscale, tolerance) -> None:
    if through_plane not in tuple(AXES) or not directions or set(directions) - set(AXES):
        raise ValueError(
            f"axes are z, y and x; got through_plane={through_plane!r}, directions={directions!r}, as in "
            "through_plane=z directions=zyx"
        )
    if through_plane not in directions:
        raise ValueError(f"directions={directions!r} leaves out the through-plane axis {through_plane!r}; add it")
    if min(downscale) < 1 or min(tolerance) <= 0:
        raise ValueError(f"downscale must be 1 or more and tolerance > 0, got {downscale} and {tolerance}")
    if min(shape) < 2 * max(downscale):
        raise ValueError(
            f"a volume {shape} is too thin for transport at downscale {max(downscale)}: every edge needs "
            f"{2 * max(downscale)} voxels; crop less or give downscale=1"
        )


def scalars(tables: Tables) -> dict[str, float]:
    """The descriptors of a sample by name, unit in the name; what is absent from the tables is left out."""
    found = {}
    for row in tables.get("composition", []):
        found[f"volume_fraction {row['phase']}"] = row["volume_fraction"]
        if row["phase"] == "cbd":
            found["cbd_share_of_pore"] = row["share_of_pore"]
            found["cbd_share_of_pore_and_cbd"] = row["share_of_pore_and_cbd"]
    for row in tables.get("coverage", []):
        if (row["method"], row["denominator"]) == ("crofton13", "all contacts"):
            found[f"coverage {row['phase']} by {row['neighbour']}"] = row["coverage"]
    for row in tables.get("transport", []):
        first = tables["transport"][0]
        if row["through_plane"] and all(row[key] == first[key] for key in ("downscale", "tolerance")):
            for key in ("D_rel", "epsilon", "tau_factor"):
                found[f"{key} {row['conductor']}"] = row[key]
    for row in tables.get("sizes", []):
        if row["method"] == "local thickness":
            found[f"median_radius_nm {row['phase']}"] = row["median_nm"]
    found |= shell_scalars(tables.get("shells", []))
    for row in tables.get("connectivity", []):
        if row["phase"] == "cbd":
            found["largest_component_fraction cbd"] = row["largest_component_fraction"]
            found["euler_number_per_um3 cbd"] = row["euler_number_per_um3"]
    return {name: float(value) for name, value in found.items()}


def shell_scalars(rows: list[dict]) -> dict[str, float]:
    """CBD in the first shell, in the three shells about 300 nm and in the outer three, by voxel counts.

    Names end in the phase and, for the rule 'nearest', in that word: 'cbd_in_first_shell silicon nearest'.
    """
    found = {}
    for phase, rule in dict.fromkeys((row["phase"], row["rule"]) for row in rows):
        own = [row for row in rows if (row["phase"], row["rule"]) == (phase, rule)]
        parts = {"first_shell": own[:1], "shells_near_300nm": own[3:6], "outer_shells": own[-3:]}
        for name, part in parts.items():
            voxels = sum(row["voxels"] for row in part)
            binder = sum(row["cbd_content"] * row["voxels"] for row in part if row["voxels"])
            label = f"cbd_in_{name} {phase}" + (" nearest" if rule == "nearest" else "")
            found[label] = binder / voxels if voxels else np.nan
    return found


def nested(rows: list[dict], keys: tuple[str, ...]) -> dict:
    """Rows as nested dictionaries: {first key's value: {second key's value: ... {column: value}}}; NaN becomes None."""
    tree: dict = {}
    for row in rows:
        branch = tree
        for key in keys:
            branch = branch.setdefault(str(row[key]), {})
        branch.update({name: plain(value) for name, value in row.items() if name not in keys})
    return tree


def plain(value: object) -> object:
    """A value for JSON: Python's own type, None for NaN and infinity."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def descriptors_by_sample(uncertainty: list[dict], similar: list[dict]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Cycles (n,) and {descriptor: (n,)} of a series, from its tables `uncertainty` and `similar_subvolumes`.

    Means over a sample's similar sub-volumes are named 'similar ' and the column; NaN where it has none.
    """
    cycles = {row["sample"]: row["cycles"] for row in uncertainty}
    values: dict[str, np.ndarray] = {}
    for i, sample in enumerate(cycles):
        found = {row["quantity"]: row["value"] for row in uncertainty if row["sample"] == sample}
        parts = [row for row in similar if row["sample"] == sample]
        for column in parts[0] if parts else ():
            if column not in ("sample", "cycles", "subvolume"):
                found[f"similar {column}"] = float(np.mean([row[column] for row in parts]))
        for name, value in found.items():
            values.setdefault(name, np.full(len(cycles), np.nan))[i] = value
    return np.array(list(cycles.values()), float), values
