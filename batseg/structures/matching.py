"""Estimating a recipe from label volumes by the method of simulated moments.

Descriptors of the labels are compared with those of volumes generated from the current recipe in the same window (same
shape, same unlabelled region), and each parameter is moved by the descriptor that answers to it. Particles that the
window cuts are cut in both, so sizes come out beyond the cut without a correction formula.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from batseg.phases import NOT_LABELLED, PHASES
from batseg.structures.descriptors import describe_structure, mean_descriptors
from batseg.structures.electrode import generate_electrode

MARGIN = 4  # voxels that the window is enlarged by and cropped again


@dataclass(frozen=True)
class Move:
    """How a parameter answers: it is multiplied by (labels / generated) ** gain of a descriptor, or of the ratio of two
    with `over`; `add` adds gain times the difference instead. It stays in low..high."""

    parameter: str
    descriptor: str
    gain: float
    low: float
    high: float
    over: str | None = None
    add: bool = False


MOVES = (
    Move("particles.graphite.size.median_nm", "chord xy graphite", 0.8, 300, 2e4),
    Move("particles.graphite.shape.flatness", "flatness graphite", 0.5, 0.15, 1),
    Move("particles.graphite.shape.roughness_nm", "surface graphite per um", 1.0, 10, 150),
    Move("particles.graphite.cracks.width_nm", "slits graphite", 0.4, 60, 250),
    Move("particles.graphite.orientation.concentration", "cos2 graphite", 1.0, 0.5, 25),
    Move("particles.graphite.clustering", "correlation pore 1000", 3.0, -2, 0, add=True),
    Move("particles.silicon.size.median_nm", "chord xy silicon", 0.8, 200, 1e4),
    Move("particles.silicon.shape.roughness_nm", "surface silicon per um", 0.5, 10, 150),
    Move("particles.silicon.clustering", "correlation silicon 1000", 10.0, 0, 3.5, add=True),
    Move("cbd.grain_nm", "chord xy cbd", 0.8, 60, 1000),
    Move("cbd.cluster", "correlation cbd 1000", 4.0, 0, 2, add=True),
    Move("cbd.mid_pore", "shell graphite 7", 2.0, -2, 2, over="shell graphite 3", add=True),
    Move("cbd.near_silicon", "shell silicon 7", 1.0, 0, 0.7, over="shell silicon 1", add=True),
    Move("cbd.reach_nm", "shell silicon 3", 0.8, 60, 1000, over="shell silicon 1"),
    Move("cbd.gap", "shell silicon 5", -3.0, 0, 4, over="shell silicon 1", add=True),
)


def match_recipe(
    start: Mapping,
    labels: Sequence[np.ndarray],
    voxel_nm: float,
    iterations: int,
    volumes: int,
    seed: int,
    moves: Sequence[Move] = MOVES,
    done: Callable[[], None] = lambda: None,
) -> dict:
    """The recipe whose volumes have the labels' descriptors, from the plain numbers of a start recipe.

    Fractions and coverages are those of the labels; the other parameters named in `moves` are the mean over the
    second half of `iterations` steps, each with `volumes` new volumes and steps that become smaller.
    """
    target = mean_descriptors(labels, voxel_nm)
    recipe = with_composition(deepcopy(dict(start)), target)
    moves = [move for move in moves if get_number(recipe, move.parameter) is not None]
    history = []
    for step in range(iterations):
        found = mean_descriptors(imitate(recipe, labels, voxel_nm, volumes, (seed, step)), voxel_nm)
        for move in moves:
            value = _moved(move, get_number(recipe, move.parameter), target, found, 1 / (1 + step / 4))
            set_number(recipe, move.parameter, value)
        history.append([get_number(recipe, move.parameter) for move in moves])
        done()
    if history:
        for move, value in zip(moves, np.mean(history[len(history) // 2 :], axis=0)):
            set_number(recipe, move.parameter, float(value))
    return recipe


def with_composition(recipe: dict, target: Mapping[str, float]) -> dict:
    """The recipe with the labels' fractions and coverages."""
    recipe.pop("slurry", None)
    recipe["fractions"] = {name: target[f"fraction {name}"] for name in PHASES[1:]}
    covered = {name: target[f"coverage {name}"] for name in PHASES[1:3] if np.isfinite(target[f"coverage {name}"])}
    recipe["cbd"] = {**recipe.get("cbd", {}), "coverage": covered}
    return recipe


def imitate(
    recipe: Mapping, labels: Sequence[np.ndarray], voxel_nm: float, volumes: int, seed: tuple[int, ...]
) -> list[np.ndarray]:
    """Volumes from a recipe in the windows of the labels, in turn: same shape, 255 where the labels have it."""
    made = []
    for index in range(volumes):
        window = labels[index % len(labels)]
        rng = np.random.default_rng((*seed, index))
        electrode = generate_electrode(recipe, window.shape, voxel_nm, rng)
        made.append(np.where(window == NOT_LABELLED, NOT_LABELLED, electrode.labels).astype(np.uint8))
    return made


def compare(labels: Sequence[np.ndarray], made: Sequence[np.ndarray], voxel_nm: float) -> list[dict]:
    """Rows (descriptor, labels, labels_spread, recipe, recipe_spread); spreads are standard deviations of volumes."""
    ours, theirs = ([describe_structure(volume, voxel_nm) for volume in volumes] for volumes in (labels, made))
    rows = []
    for name in ours[0]:
        row = {"descriptor": name}
        for column, tables in (("labels", ours), ("recipe", theirs)):
            values = np.array([table[name] for table in tables])
            row |= {column: float(values.mean()), f"{column}_spread": float(values.std())}
        rows.append(row)
    return rows


def with_ranges(recipe: Mapping, spread: float, moves: Sequence[Move] = MOVES) -> dict:
    """The recipe with every matched number as a range of ± `spread`, relative: pieces of one electrode differ."""
    ranged = deepcopy(dict(recipe))
    paths = [f"fractions.{name}" for name in ranged["fractions"]]
    paths += [f"cbd.coverage.{name}" for name in ranged["cbd"]["coverage"]]
    limits = {move.parameter: (move.low, move.high) for move in moves}
    for path in [*paths, *limits]:
        value = get_number(ranged, path)
        if value is not None:
            low, high = limits.get(path, (0.0, 0.9))
            ends = sorted((value * (1 - spread), value * (1 + spread)))
            set_number(ranged, path, [float(f"{np.clip(end, low, high):.4g}") for end in ends])
    return ranged


def get_number(recipe: Mapping, path: str) -> float | None:
    """The number at a dotted path (the middle of a range), 0 where only the last key is missing, None without it."""
    *groups, last = path.split(".")
    for group in groups:
        if group not in recipe:
            return None
        recipe = recipe[group]
    value = recipe.get(last, 0.0)
    return float(np.mean(value))


def set_number(recipe: dict, path: str, value: object) -> None:
    *groups, last = path.split(".")
    for group in groups:
        recipe = recipe[group]
    recipe[last] = value


def _moved(move: Move, value: float, target: Mapping, found: Mapping, damping: float) -> float:
    asked, reached = target[move.descriptor], found[move.descriptor]
    if move.over:
        asked, reached = asked / target[move.over], reached / found[move.over]
    if not (np.isfinite(asked) and np.isfinite(reached)):
        return value
    if move.add:
        value += damping * move.gain * (asked - reached)
    elif asked > 0 and reached > 0:
        value *= np.clip(asked / reached, 0.5, 2) ** (move.gain * damping)
    return float(np.clip(value, move.low, move.high))
