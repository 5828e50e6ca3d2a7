"""Volume fractions of an electrode from its slurry: weight fractions, densities and the porosity after pressing."""

from collections.abc import Mapping

from batseg.phases import PHASES, PORE


def slurry_fractions(
    weights: Mapping[str, float],
    densities: Mapping[str, float],
    phases: Mapping[str, str],
    porosity: float,
    cbd_porosity: float = 0.0,
) -> dict[str, float]:
    """Volume fraction of each phase, {phase name: fraction}, from a slurry recipe.

    weights: parts by weight of each component, in any unit; densities in g/cm³; phases: the phase a component belongs
    to (binder and carbon black are both 'cbd'). `porosity` is the share of resolved pores. `cbd_porosity` is the share
    of pores inside the CBD that are too fine to be labelled as pores: the labelled CBD is its solid over 1 minus that.
    75 graphite, 10 SiOx, 10 PVDF, 5 carbon black at 51 % porosity: 35.3, 5.0, 8.8 % dense; 33.1, 4.7, 11.3 % with 27 %.
    Source: paper, Methods (weights) and text (27 %).
    """
    volumes = dict.fromkeys(PHASES[1:], 0.0)
    for name, weight in weights.items():
        if name not in densities or name not in phases:
            raise ValueError(f"slurry: component {name!r} needs a density and a phase")
        if weight < 0 or densities[name] <= 0:
            raise ValueError(f"slurry.{name}: weight {weight} and density {densities[name]} must be positive")
        if phases[name] not in volumes:
            raise ValueError(f"slurry.phases.{name}: unknown phase {phases[name]!r}; one of {', '.join(volumes)}")
        volumes[phases[name]] += weight / densities[name]
    for key, share in (("porosity", porosity), ("cbd_porosity", cbd_porosity)):
        if not 0 <= share < 1:
            raise ValueError(f"slurry.{key}: {share} is outside 0 to 1")
    volumes["cbd"] /= 1 - cbd_porosity
    total = sum(volumes.values())
    if total <= 0:
        raise ValueError("slurry.weights: the weights add up to nothing")
    fractions = {name: (1 - porosity) * volume / total for name, volume in volumes.items()}
    return {PHASES[PORE]: porosity, **fractions}
