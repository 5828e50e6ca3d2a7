"""Simulated scans: a 20 um cube at 61 nm with every effect on, from labels to tomogram."""

import resource
import sys

import numpy as np

from batseg.command import CONF
from batseg.tomography.scan import draw_conditions, simulate_scan
from batseg.tomography.synthetic import embed, simulate_tomogram
from tests.benchmarks import Row, seconds

EDGE, ANGLES = 328, 520  # 20 um at 61 nm; 1210 angles scaled from the paper's 67 um field to the cylinder's 29 um


def structure(edge: int) -> np.ndarray:
    """Blocks of the four phases: what a scan costs does not depend on their shape."""
    blocks = np.random.default_rng(0).choice(4, [edge // 8] * 3, p=[0.5, 0.35, 0.07, 0.08]).astype(np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1).repeat(8, 2)


def rows() -> list[Row]:
    from omegaconf import OmegaConf

    ranges = OmegaConf.to_container(OmegaConf.load(CONF / "scan" / "txm_8kev_61nm.yaml"))
    ranges["motion"]["angles"] = ANGLES
    conditions = draw_conditions(ranges, np.random.default_rng(0))
    labels = structure(EDGE)
    cylinder, _ = embed(labels)
    scan_s = seconds(lambda: simulate_scan(cylinder, 61.0, conditions, np.random.default_rng(0)))
    whole_s = seconds(lambda: simulate_tomogram(labels, 61.0, conditions, np.random.default_rng(0)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30)
    small = draw_conditions({**ranges, "motion": {**ranges["motion"], "angles": 300}}, np.random.default_rng(0))
    thin = np.ascontiguousarray(embed(structure(144)[:64])[0])
    thin_s = seconds(lambda: simulate_scan(thin, 61.0, small, np.random.default_rng(0)))
    return [
        Row(f"simulated scan {EDGE}^3, {ANGLES} angles, all effects", scan_s),
        Row("the same and its reconstruction (target 120 s, 4 GB)", whole_s, note=f"peak {peak:.1f} GB"),
        Row(f"simulated scan {thin.shape}, 300 angles", thin_s),
    ]
