"""An artificial electrode from a recipe: particles, then binder, then a report of asked against reached."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import cc3d
import numpy as np

from batseg.morphology.interfaces import coverage
from batseg.morphology.particles import particles
from batseg.phases import GRAPHITE, PHASES, SILICON
from batseg.structures.binder import add_binder
from batseg.structures.packing import pack
from batseg.structures.raster import rasterise
from batseg.structures.recipe import Recipe, draw_recipe

ACTIVE = (GRAPHITE, SILICON)


@dataclass
class Electrode:
    """labels (z, y, x) uint8; instances int32, the particle of each voxel, 0 elsewhere; report: asked and reached."""

    labels: np.ndarray
    instances: np.ndarray
    report: dict


def generate_electrode(
    recipe: Mapping | Recipe, shape: Sequence[int], voxel_nm: float, rng: np.random.Generator
) -> Electrode:
    """A label volume with the recipe's phase fractions, particles and binder (paper, Fig. 5a-b).

    recipe: a mapping as in conf/structure (ranges are drawn here) or a drawn `Recipe`. The result depends on the
    recipe, the shape, the voxel size and the state of `rng` alone. Raises ValueError for a recipe that cannot be.
    """
    if not isinstance(recipe, Recipe):
        recipe = draw_recipe(recipe, rng)
    shape = tuple(int(edge) for edge in shape)
    _require_fitting(recipe, shape, voxel_nm)
    kinds = {PHASES.index(name): kind for name, kind in recipe.particles.items()}
    fractions = {code: recipe.fractions[PHASES[code]] for code in kinds}
    packing = pack(kinds, fractions, shape, voxel_nm, recipe.boundary == "periodic", recipe.cluster_length_nm, rng)
    gaps = {code: kind.contact_gap for code, kind in kinds.items()}
    labels, instances, growth = rasterise(packing, shape, fractions, gaps)
    affinity = add_binder(labels, recipe.cbd, recipe.fractions["cbd"], voxel_nm, rng)
    report = describe(labels, instances, recipe, voxel_nm)
    report["growth"] = {PHASES[code]: value for code, value in growth.items()}
    report["affinity"] = affinity
    return Electrode(labels, instances, report)


def describe(labels: np.ndarray, instances: np.ndarray, recipe: Recipe, voxel_nm: float) -> dict:
    """Asked against reached: fractions, coverages, particle sizes and orientations; with the recipe as drawn."""
    counts = np.bincount(labels.ravel(), minlength=4) / labels.size
    report = {
        "shape": list(labels.shape),
        "voxel_nm": voxel_nm,
        "fractions": {name: _pair(recipe.fractions[name], counts[code]) for code, name in enumerate(PHASES)},
        "coverage": {},
        "particles": {},
        "recipe": asdict(recipe),
    }
    for code in ACTIVE:
        name = PHASES[code]
        if name not in recipe.particles or not counts[code]:
            continue
        asked = getattr(recipe.cbd.coverage, name)
        report["coverage"][name] = _pair(asked if asked >= 0 else None, coverage(labels, code)["cbd"])
        report["particles"][name] = _describe_particles(labels, instances, code, recipe, voxel_nm)
    return report


def _describe_particles(labels, instances, code: int, recipe: Recipe, voxel_nm: float) -> dict:
    """Size, flatness and orientation of the particles, by volume.

    Of particles that the block does not cut, each weighted by the inverse of its chance to lie uncut in the block
    (Miles-Lantuéjoul correction with bounding boxes); of all, uncorrected, where every one is cut.
    """
    kind = recipe.particles[PHASES[code]]
    table = particles(labels, code, voxel_nm, instances)
    uncut = ~table["touches_border"]
    chosen = uncut if uncut.any() else np.ones(len(uncut), bool)
    boxes = cc3d.statistics(instances.view(np.uint32))["bounding_boxes"]
    extents = np.array([[end.stop - end.start for end in boxes[n]] for n in table["particle"][chosen]])
    chance = np.prod(1 - extents / (np.array(labels.shape) + 1), axis=1) if uncut.any() else 1.0
    weight = table["volume_nm3"][chosen] / chance
    table = {name: column[chosen] for name, column in table.items()}
    order = np.argsort(table["diameter_nm"])
    places = np.searchsorted(np.cumsum(weight[order]), np.array([0.1, 0.5, 0.9]) * weight.sum())
    quantiles = table["diameter_nm"][order][np.minimum(places, len(order) - 1)]
    flatness = 2 * table["height_nm"] / (table["length_nm"] + table["width_nm"])
    t = np.linspace(0, 1, 2001)
    watson = np.exp(kind.orientation.concentration * (t**2 - 1))
    return {
        "count": len(uncut),
        "uncut": int(uncut.sum()),
        "d10_d50_d90_nm": [float(value) for value in quantiles],
        "median_nm": _pair(kind.size.median_nm, quantiles[1]),
        "flatness": _pair(kind.shape.flatness, np.average(flatness, weights=weight)),
        "mean_cos2": _pair(
            (watson * t**2).sum() / watson.sum(),
            np.average(table[f"axis_{kind.orientation.axis}"] ** 2, weights=weight),
        ),
    }


def _pair(asked: float | None, reached: float) -> dict:
    return {"asked": None if asked is None else float(asked), "reached": float(reached)}


def _require_fitting(recipe: Recipe, shape: Sequence[int], voxel_nm: float) -> None:
    if len(shape) != 3 or min(shape) < 8:
        raise ValueError(f"shape: {tuple(shape)} must be three edges of at least 8 voxels")
    if not voxel_nm > 0:
        raise ValueError(f"voxel_nm: {voxel_nm} must be positive")
    periodic = recipe.boundary == "periodic"
    edge = (min(shape) if periodic else max(shape)) * voxel_nm
    for name, kind in recipe.particles.items():
        key, size = ("max_nm", kind.size.max_nm) if periodic else ("median_nm", kind.size.median_nm)
        if recipe.fractions[name] > 0 and not 2 * voxel_nm <= size <= edge:
            fault = "larger than the box" if size > edge else "below two voxels"
            raise ValueError(
                f"particles.{name}.size.{key}: {size:g} is {fault}; the range for {shape} voxels of {voxel_nm:g} nm is "
                f"{2 * voxel_nm:g} to {edge:g}"
            )
