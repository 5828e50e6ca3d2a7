"""Projection, filtered back-projection and a whole raw scan, against ASTRA on the CPU."""

import numpy as np
from scipy.ndimage import gaussian_filter

from batseg.tomography.exchange import Scan
from batseg.tomography.projection import ParallelBeam
from batseg.tomography.reconstruction import reconstruct
from tests.benchmarks import Row, seconds

SIZE, ANGLES, SLICES = 768, 1210, 8


def phantom(size: int, slices: int, seed: int = 0) -> np.ndarray:
    """Smooth grains inside a cylinder, (slices, size, size)."""
    grains = gaussian_filter(np.random.default_rng(seed).standard_normal((slices, size, size)), (0, 6, 6))
    inside = np.hypot(*np.mgrid[:size, :size] - (size - 1) / 2) < 0.45 * size
    return gaussian_filter((grains > 0) * inside * 1.0, (0, 2, 2)).astype(np.float32)


def raw_scan(rows: int = 102, columns: int = 224, angles: int = 281) -> Scan:
    """A noisy scan of the size of one beamtime scan, with flickering light."""
    rng, theta = np.random.default_rng(1), np.linspace(0, np.pi, angles)
    sample = phantom(columns, rows) * 8e-4
    lines = ParallelBeam(columns, theta, (columns - 1) / 2 + 2.3).project(sample).transpose(1, 0, 2)
    patterns = gaussian_filter(rng.standard_normal((10, rows, columns)), (0, 12, 12))
    patterns *= 0.01 / patterns.std()

    def exposures(transmission: np.ndarray) -> np.ndarray:
        light = 3300 * (1 + np.tensordot(rng.normal(0, 1, (len(transmission), 10)), patterns, 1))
        return (rng.poisson(10 * light * transmission) / 10 + 100).astype(np.uint16)

    white, dark = exposures(np.ones((20, rows, columns))), np.full((10, rows, columns), 100, np.uint16)
    return Scan(exposures(np.exp(-lines)), white, dark, theta, np.arange(20) > 9, 8.4, 61.0, name="bench")


def rows() -> list[Row]:
    angles, slices = np.linspace(0, np.pi, ANGLES, endpoint=False), phantom(SIZE, SLICES)
    ours, astra = (ParallelBeam(SIZE, angles, backend=backend) for backend in ("nufft", "astra"))
    sinograms = ours.project(slices)  # warms up
    ours.fbp(sinograms)
    expected = astra.project(slices[:1])
    apart = np.linalg.norm(sinograms[0] - expected[0]) / np.linalg.norm(expected[0])
    forward = Row(
        f"forward projection, {SIZE}^2, {ANGLES} angles, per slice",
        seconds(lambda: ours.project(slices), 3) / SLICES,
        "ASTRA linear, CPU",
        seconds(lambda: astra.project(slices[:1])),
        f"{apart:.2%} apart; target 25x, 0.5 %",
    )
    errors = [np.linalg.norm(beam.fbp(expected)[0] - slices[0]) / np.linalg.norm(slices[0]) for beam in (ours, astra)]
    back = Row(
        "FBP of the same, per slice",
        seconds(lambda: ours.fbp(sinograms), 3) / SLICES,
        "ASTRA FBP, CPU",
        seconds(lambda: astra.fbp(sinograms[:1])),
        f"error against the phantom {errors[0]:.4f} (ASTRA {errors[1]:.4f}); target 15x",
    )
    scan = raw_scan()
    whole = Row(
        f"raw scan {scan.shape} to tomogram, all corrections", seconds(lambda: reconstruct(scan)), note="target 15 s"
    )
    return [forward, back, whole]
