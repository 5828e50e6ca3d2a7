"""Transport, local thickness and coverage beside TauFactor, porespy and marching cubes (scikit-image)."""

import os
import resource
from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes, mesh_surface_area

from batseg.analysis.diffusion import solve_diffusion
from batseg.morphology.interfaces import coverage
from batseg.morphology.thickness import local_thickness
from batseg.phases import CBD, GRAPHITE, PORE
from tests.benchmarks import Row, seconds

EDGE = int(os.environ.get("BATSEG_BENCH_EDGE", 192))
LARGE = os.environ.get("BATSEG_BENCH_LARGE", "") == "1"
"""BATSEG_BENCH_LARGE=1 adds transport at 384³ and local thickness at 768³ (minutes, 8 GB)."""

MISSING = "not installed: make bench installs it"


def field(edge: int, sigma: float, seed: int = 0) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).standard_normal((edge,) * 3, dtype=np.float32), sigma)


def medium(edge: int, sigma: float = 2.0) -> np.ndarray:
    """A random medium of equal parts."""
    values = field(edge, sigma)
    return (values > np.median(values)).astype(np.uint8)


def electrode(edge: int, sigma: float = 4.0) -> np.ndarray:
    """Graphite and CBD, placed independently of each other, in 0.35 and about 0.1 of the volume."""
    first, second = field(edge, sigma), field(edge, sigma, seed=1)
    labels = np.where(second > np.quantile(second, 0.85), CBD, PORE).astype(np.uint8)
    labels[first > np.quantile(first, 0.65)] = GRAPHITE
    return labels


def rows() -> Iterator[Row]:
    yield from transport()
    yield from thickness()
    yield from surfaces()


def transport() -> Iterator[Row]:
    codes, conductivity = medium(EDGE), [0.0, 1.0]
    solve_diffusion(codes[:24, :24, :24], conductivity)  # compile
    ours = solve_diffusion(codes, conductivity)
    ours_s = seconds(lambda: solve_diffusion(codes, conductivity), 2)
    note = f"D_rel {ours.d_rel:.5f}, {ours.iterations} iterations"
    try:
        import taufactor
    except ImportError:
        yield Row(f"transport {EDGE}³, tolerance 1e-3", ours_s, f"TauFactor ({MISSING})", None, note)
    else:
        peer = taufactor.Solver(codes, device="cpu")
        peer_s = seconds(lambda: peer.solve(conv_crit=1e-3, verbose=False))
        off = 100 * abs(float(peer.D_rel[0]) / ours.d_rel - 1)
        yield Row(
            f"transport {EDGE}³, tolerance 1e-3",
            ours_s,
            "TauFactor, CPU",
            peer_s,
            f"{note}; peer differs by {off:.3f} % (target 4x, 0.3 %)",
        )
    if LARGE:
        codes = medium(384)
        taken = seconds(lambda: solve_diffusion(codes, conductivity))
        yield Row("transport 384³, tolerance 1e-3", taken, note=f"target 600 s, 8 GB; {memory()}")


def thickness() -> Iterator[Row]:
    mask = medium(EDGE, 4.0).astype(bool)
    local_thickness(mask[:24, :24, :24])  # compile
    ours = local_thickness(mask)
    ours_s = seconds(lambda: local_thickness(mask))
    try:
        from porespy.filters import local_thickness as peer_thickness
    except ImportError:
        yield Row(f"local thickness {EDGE}³", ours_s, f"porespy ({MISSING})")
    else:
        found = []
        peer_s = seconds(lambda: found.append(peer_thickness(mask)))
        medians = np.median(ours[mask]), np.median(found[0][mask])
        note = f"median radius {medians[0]:.3f}, peer {medians[1]:.3f} voxels (25 sizes)"
        yield Row(f"local thickness {EDGE}³, exact", ours_s, "porespy", peer_s, note)
    if LARGE:
        mask = medium(768, 5.0).astype(bool)
        taken = seconds(lambda: local_thickness(mask))
        yield Row("local thickness 768³, exact", taken, note=f"target 900 s, 8 GB; {memory()}")


def surfaces() -> Iterator[Row]:
    labels = electrode(EDGE)
    coverage(labels[:24, :24, :24], GRAPHITE)  # compile
    ours = coverage(labels, GRAPHITE)["cbd"]
    ours_s = seconds(lambda: coverage(labels, GRAPHITE), 3)
    found = []
    peer_s = seconds(lambda: found.append(mesh_coverage(labels)))
    note = f"graphite by CBD {ours:.4f}, peer {found[0]:.4f}"
    yield Row(f"coverage {EDGE}³, 13 directions", ours_s, "marching cubes", peer_s, note)


def mesh_coverage(labels: np.ndarray) -> float:
    """Coverage of graphite by CBD from three meshes: the interface is half of S(g) + S(c) - S(g or c)."""

    def area(mask: np.ndarray) -> float:
        vertices, faces, _, _ = marching_cubes(mask.astype(np.float32), 0.5)
        return mesh_surface_area(vertices, faces)

    graphite, binder = labels == GRAPHITE, labels == CBD
    of_graphite = area(graphite)
    return (of_graphite + area(binder) - area(graphite | binder)) / 2 / of_graphite


def memory() -> str:
    return f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"
