"""Artificial electrodes: 328³ within 60 s on two cores, 768³ within 15 minutes and 8 GB; a demo volume within 3 s."""

import resource
from collections.abc import Iterator

import numpy as np
from omegaconf import OmegaConf

from batseg.command import CONF
from batseg.structures.electrode import Electrode, generate_electrode
from tests.benchmarks import Row, seconds


def generate(name: str, edge: int) -> Electrode:
    recipe = OmegaConf.to_container(OmegaConf.load(CONF / "structure" / f"{name}.yaml"))
    return generate_electrode(recipe, (edge,) * 3, 61.0, np.random.default_rng((0, edge)))


def rows() -> Iterator[Row]:
    generate("graphite_silicon", 64)  # compiles
    for name, edge, target in (
        ("sample_real", 96, "3 s"),
        ("graphite_silicon", 328, "60 s"),
        ("nmc_cathode", 328, "60 s"),
        ("graphite_silicon", 768, "900 s, 8 GB"),
    ):
        taken = seconds(lambda name=name, edge=edge: generate(name, edge))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        yield Row(f"generate {name} {edge}³", taken, note=f"target {target}; peak memory so far {peak:.1f} GB")
