"""What an electrode is made of: the recipe, its ranges, and one set of numbers drawn from them.

A recipe is data (`conf/structure/*.yaml`): nested mappings of numbers. Every number may be a pair [low, high]; each
generated volume then draws its own, so that volumes differ as pieces of one electrode do.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass

import numpy as np

from batseg.phases import PHASES
from batseg.structures.composition import slurry_fractions


def number(low: float, high: float, default: float | None = None):
    """A dataclass field that must lie in low..high."""
    return field(metadata={"range": (low, high)}, default=MISSING if default is None else default)


@dataclass(frozen=True)
class Size:
    """Volume-weighted log-normal distribution of the diameter of the ball of equal volume."""

    median_nm: float = number(10, 1e6)
    log_spread: float = number(0, 2, 0.4)  # standard deviation of ln(diameter)
    min_nm: float = number(10, 1e6, 10.0)
    max_nm: float = number(10, 1e6, 1e6)


@dataclass(frozen=True)
class Shape:
    """A convex polyhedron blended with an ellipsoid, made irregular by a smooth field and rough by a fine one."""

    flatness: float = number(0.05, 1, 1.0)  # thickness over the mean of length and width
    flatness_spread: float = number(0, 0.5, 0.0)
    elongation: float = number(0.05, 1, 1.0)  # width over length
    elongation_spread: float = number(0, 0.5, 0.0)
    faces: int = number(4, 40, 16)
    angularity: float = number(0, 1, 0.5)  # 0 ellipsoid, 1 polyhedron
    irregularity: float = number(0, 0.6, 0.0)  # of the radius, relative
    irregularity_length: float = number(0.2, 3, 0.8)  # correlation length over the radius
    roughness_nm: float = number(0, 2000, 0.0)
    roughness_length_nm: float = number(10, 1e5, 200.0)


@dataclass(frozen=True)
class Orientation:
    """Watson distribution of the shortest axis about an axis of the volume; concentration 0 is random."""

    axis: str = "z"
    concentration: float = number(0, 1000, 0.0)


@dataclass(frozen=True)
class Cracks:
    """Slits through a particle, in or near its flat plane."""

    share: float = number(0, 1, 0.0)  # of the particles that have any
    count: float = number(0, 20, 1.0)  # per cracked particle, mean
    width_nm: float = number(0, 5000, 60.0)
    waviness: float = number(0, 1, 0.1)  # of the radius
    tilt: float = number(0, 1, 0.2)  # 0 in the flat plane, 1 any direction


@dataclass(frozen=True)
class Layers:
    """Particles that are stacks of curved sheets (onion-like graphite)."""

    share: float = number(0, 1, 0.0)
    spacing_nm: float = number(10, 1e5, 400.0)
    slit_nm: float = number(0, 1e5, 100.0)
    bend: float = number(0, 2, 0.4)
    open: float = number(0, 1, 0.8)  # share of the slits' area that is open
    waviness: float = number(0, 1, 0.1)
    onion: float = number(0, 1, 0.0)  # share of the layered particles whose slits follow the outline


@dataclass(frozen=True)
class Particles:
    """One particulate phase. `clustering` 0 is uniform, 3 gathers nearly all in half of the volume, -3 in the other."""

    size: Size
    shape: Shape = Shape()
    orientation: Orientation = Orientation()
    cracks: Cracks = Cracks()
    layers: Layers = Layers()
    overlap: float = number(0, 0.6, 0.1)  # share of a particle's volume that may lie in earlier ones (cut at contact)
    spacing: float = number(0, 1, 0.0)  # room kept free around a particle where possible, over its radius
    clustering: float = number(-6, 6, 0.0)  # along a field that all phases share
    contact_gap: float = number(0, 1, 0.0)  # share of the contacts kept open by a slit of a voxel


@dataclass(frozen=True)
class Coverage:
    """Share of the particles' surface (13-direction Crofton, all contacts) that the CBD covers; -1: as it comes."""

    graphite: float = number(-1, 1, -1.0)
    silicon: float = number(-1, 1, -1.0)


@dataclass(frozen=True)
class Binder:
    """Carbon-black-binder domain: the highest part of a sum of weighted, normalised fields in the pore space."""

    coverage: Coverage = Coverage()
    reach_nm: float = number(1, 1e5, 250.0)  # how far the affinity of silicon acts
    reach_graphite_nm: float = number(1, 1e5, 80.0)  # and that of graphite
    grain_nm: float = number(1, 1e5, 200.0)  # correlation length of the grain
    web: float = number(0, 1, 0.0)  # 0 lumpy, 1 sheets and threads
    cluster_nm: float = number(1, 1e6, 1500.0)
    grain: float = number(0, 20, 1.0)
    cluster: float = number(0, 20, 0.5)
    bridge: float = number(0, 20, 0.0)  # in necks and corners between particles
    bridge_nm: float = number(1, 1e5, 300.0)
    film: float = number(0, 20, 0.0)  # on every surface
    film_nm: float = number(1, 1e5, 120.0)
    near_silicon: float = number(-20, 20, 0.0)  # follows silicon over `near_silicon_nm`, beyond the surface affinity
    near_silicon_nm: float = number(1, 1e5, 1000.0)
    gap: float = number(0, 20, 0.0)  # detachment from silicon: a minimum around `gap_nm`
    gap_nm: float = number(1, 1e5, 250.0)
    mid_pore: float = number(-20, 20, 0.0)  # away from graphite, to the middle of the pores; negative: into its necks
    mid_pore_nm: float = number(1, 1e5, 500.0)
    smallest_voxels: int = number(0, 10000, 0)  # smaller islands are removed


@dataclass(frozen=True)
class Recipe:
    """Everything that makes one electrode, in plain numbers. `boundary`: 'cut' (particles end there) or 'periodic'."""

    fractions: dict[str, float]
    particles: dict[str, Particles]
    cbd: Binder = Binder()
    boundary: str = "cut"
    cluster_length_nm: float = number(10, 1e6, 2000.0)  # correlation length of the field that `clustering` follows
    cycles: float = number(0, 1e5, 0.0)  # record only: how often the electrode was cycled


def draw_recipe(ranges: Mapping, rng: np.random.Generator) -> Recipe:
    """Numbers for one volume from a recipe whose numbers may be pairs [low, high], drawn uniformly.

    Raises ValueError, naming the key and the range, for whatever cannot be.
    """
    ranges = dict(ranges)
    fractions = _draw_fractions(ranges.pop("fractions", None), ranges.pop("slurry", None), rng)
    phases = _mapping("particles", ranges.pop("particles", None))
    for name in phases:
        if name not in PHASES[1:3]:
            raise ValueError(f"particles.{name}: unknown phase; particles are {' or '.join(PHASES[1:3])}")
    for name in PHASES[1:3]:
        if fractions[name] > 0 and name not in phases:
            raise ValueError(f"particles.{name} is missing, but fractions.{name} is {fractions[name]:g}")
    drawn = {name: _draw(Particles, f"particles.{name}", entries, rng) for name, entries in phases.items()}
    for name, particles in drawn.items():
        size, axis = particles.size, particles.orientation.axis
        if not size.min_nm <= size.median_nm <= size.max_nm:
            raise ValueError(
                f"particles.{name}.size.median_nm: {size.median_nm:g} is outside min_nm..max_nm = "
                f"{size.min_nm:g}..{size.max_nm:g}"
            )
        if axis not in ("z", "y", "x"):
            raise ValueError(f"particles.{name}.orientation.axis: {axis!r} is not z, y or x")
    cbd = _draw(Binder, "cbd", ranges.pop("cbd", {}), rng)
    boundary = ranges.pop("boundary", "cut")
    if boundary not in ("cut", "periodic"):
        raise ValueError(f"boundary: {boundary!r} is not cut or periodic")
    rest = {
        item.name: _draw_number(item.name, ranges.pop(item.name, item.default), item.metadata["range"], rng)
        for item in fields(Recipe)
        if item.name in ("cluster_length_nm", "cycles")
    }
    if ranges:
        raise ValueError(f"unknown key {next(iter(ranges))!r} in the recipe; {_known(Recipe)}, slurry")
    return Recipe(fractions, drawn, cbd, boundary, **rest)


def _draw_fractions(ranges: Mapping | None, slurry: Mapping | None, rng: np.random.Generator) -> dict[str, float]:
    if (ranges is None) == (slurry is None):
        raise ValueError("the recipe needs either fractions (of volume) or slurry (weights), and not both")
    if slurry is not None:
        keys = {"weights", "densities", "phases", "porosity", "cbd_porosity"}
        if set(slurry) - keys or {"weights", "densities", "phases", "porosity"} - set(slurry):
            raise ValueError(f"slurry: keys are {', '.join(sorted(keys))}; got {', '.join(slurry)}")
        porosities = {
            name: _draw_number(f"slurry.{name}", slurry.get(name, 0.0), (0, 0.99), rng)
            for name in ("porosity", "cbd_porosity")
        }
        return slurry_fractions(slurry["weights"], slurry["densities"], slurry["phases"], **porosities)
    drawn = {}
    for name, value in _mapping("fractions", ranges).items():
        if name not in PHASES:
            raise ValueError(f"fractions.{name}: unknown phase; known are {', '.join(PHASES)}")
        drawn[name] = _draw_number(f"fractions.{name}", value, (0, 1), rng)
    solid = sum(drawn.get(name, 0.0) for name in PHASES[1:])
    if solid > 0.95:
        raise ValueError(f"fractions: the solid phases add up to {solid:g}; at most 0.95 can be packed")
    if "pore" in drawn and abs(drawn["pore"] + solid - 1) > 1e-6:
        raise ValueError(f"fractions: they add up to {drawn['pore'] + solid:g}, not to 1; leave out pore (the rest)")
    return {"pore": 1 - solid, **{name: drawn.get(name, 0.0) for name in PHASES[1:]}}


def _draw(cls: type, path: str, entries: Mapping, rng: np.random.Generator):
    entries = _mapping(path, entries)
    known = {item.name: item for item in fields(cls)}
    for name in entries:
        if name not in known:
            raise ValueError(f"unknown key {path}.{name}; {_known(cls)}")
    drawn = {}
    for name, item in known.items():
        if name not in entries:
            if item.default is MISSING:
                raise ValueError(f"{path}.{name} is missing")
        elif is_dataclass(item.type):
            drawn[name] = _draw(item.type, f"{path}.{name}", entries[name], rng)
        elif item.type is str:
            drawn[name] = str(entries[name])
        else:
            value = _draw_number(f"{path}.{name}", entries[name], item.metadata["range"], rng)
            drawn[name] = round(value) if item.type is int else value
    return cls(**drawn)


def _draw_number(path: str, value: object, limits: tuple[float, float], rng: np.random.Generator) -> float:
    pair = list(value) if isinstance(value, (list, tuple)) else [value, value]
    valid = len(pair) == 2 and all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in pair)
    if not valid or not pair[0] <= pair[1]:
        raise ValueError(f"{path}: {value!r} is neither a number nor a pair [low, high]")
    if pair[0] < limits[0] or pair[1] > limits[1]:
        raise ValueError(f"{path}: {value} is outside {limits[0]:g} to {limits[1]:g}")
    return float(pair[0] if pair[0] == pair[1] else rng.uniform(*pair))


def _mapping(path: str, value: object) -> Mapping:
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: expected a mapping, got {value!r}")
    return value


def _known(cls: type) -> str:
    return "known are " + ", ".join(item.name for item in fields(cls))
