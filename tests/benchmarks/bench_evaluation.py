"""Metrics against pip-installable peers, and the size of the paper's evaluation."""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import sklearn.metrics
from scipy.ndimage import gaussian_filter

from batseg.command import CONF
from batseg.evaluation.distance import distance_pair, surface_metrics, surfaces
from batseg.evaluation.overlap import confusion_matrix, one_against_rest, overlap_metrics
from batseg.evaluation.table import score
from batseg.phases import PHASES
from tests.benchmarks import Row, seconds

SHAPE = (128, 256, 256)
PAPER_SHAPE = (400, 768, 768)


def label_pair(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A structure of four phases, the solid ones off the edges, and a prediction that errs in patches (Dice 0.6)."""
    rng = np.random.default_rng(seed)

    def field(sigma: float) -> np.ndarray:
        smooth = gaussian_filter(rng.normal(size=shape).astype(np.float32), sigma)
        return smooth / smooth.std()

    truth = field(6)
    prediction = truth + 0.5 * field(3)
    found = np.searchsorted([0.0, 1.1, 1.4], np.stack([truth, prediction])).astype(np.uint8)
    for axis in range(1, 4):
        np.moveaxis(found, axis, 0)[[0, -1]] = 0  # peers count the edge of the volume as surface: only pore meets it
    return found[0], found[1]


def with_simpleitk(truth: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Overlap measures, Hausdorff and average distance per phase; returns the Hausdorff distances."""
    found = []
    for phase in range(len(PHASES)):
        masks = [sitk.GetImageFromArray((labels == phase).astype(np.uint8)) for labels in (truth, prediction)]
        sitk.LabelOverlapMeasuresImageFilter().Execute(*masks)
        distances = sitk.HausdorffDistanceImageFilter()
        distances.Execute(*masks)
        found.append(distances.GetHausdorffDistance())
    return found


def with_surface_distance(truth: np.ndarray, prediction: np.ndarray) -> list[float]:
    """HD95 and surface Dice at 1 and 2 voxels per phase; returns the latter at 1."""
    import surface_distance

    found = []
    for phase in range(len(PHASES)):
        distances = surface_distance.compute_surface_distances(truth == phase, prediction == phase, (1, 1, 1))
        surface_distance.compute_robust_hausdorff(distances, 95)
        surface_distance.compute_surface_dice_at_tolerance(distances, 2)
        found.append(surface_distance.compute_surface_dice_at_tolerance(distances, 1))
    return found


def with_monai(truth: np.ndarray, prediction: np.ndarray) -> list[float]:
    """HD95 and surface Dice at 1 and 2 voxels; returns the HD95."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    batches = [
        torch.stack([torch.from_numpy(labels == phase) for phase in range(len(PHASES))])[None]
        for labels in (prediction, truth)
    ]
    for tolerance in (1, 2):
        compute_surface_dice(*batches, class_thresholds=[tolerance] * len(PHASES), include_background=True)
    return compute_hausdorff_distance(*batches, percentile=95, include_background=True)[0].tolist()


def with_scikit_learn(truth: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Kappa, Rand, adjusted Rand and mutual information per phase; returns the adjusted Rand indices."""
    found = []
    for phase in range(len(PHASES)):
        pair = (truth == phase).ravel(), (prediction == phase).ravel()
        for metric in (
            sklearn.metrics.cohen_kappa_score,
            sklearn.metrics.rand_score,
            sklearn.metrics.mutual_info_score,
        ):
            metric(*pair)
        found.append(sklearn.metrics.adjusted_rand_score(*pair))
    return found


def our_surfaces(truth: np.ndarray, prediction: np.ndarray) -> list[dict[str, float]]:
    first, second = surfaces(truth), surfaces(prediction)
    return [surface_metrics(distance_pair(first, second, phase)) for phase in range(len(PHASES))]


def our_overlap(truth: np.ndarray, prediction: np.ndarray) -> list[dict[str, float]]:
    confusion = confusion_matrix(truth, prediction)
    return [overlap_metrics(one_against_rest(confusion, phase)) for phase in range(len(PHASES))]


def largest_difference(ours: list[float], theirs: list[float]) -> str:
    return f"largest difference {max(abs(a - b) for a, b in zip(ours, theirs)):.1e}"


def rows() -> Iterator[Row]:
    truth, prediction = label_pair(SHAPE)
    small = truth[:32, :32, :32].copy(), prediction[:32, :32, :32].copy()
    score(*small)  # compile
    ours = {}

    def evaluate() -> None:
        ours.update(score(truth, prediction, surface=False).metrics)

    ours_s, oracle = seconds(evaluate, 3), []
    peer_s = seconds(lambda: oracle.extend(with_simpleitk(truth, prediction)))
    note = largest_difference([ours[phase]["HDRFDST"] for phase in PHASES], oracle) + " (Hausdorff)"
    yield Row("22 metrics x 4 phases, 256 x 256 x 128", ours_s, "SimpleITK, 9 of the 22", peer_s, note)
    yield Row(
        *("22 metrics x 4 phases, 256 x 256 x 128", ours_s, "EvaluateSegmentation (C++)", 187.0),
        "peer's time as recorded once on such a machine; target 3.7 s",
    )

    ours_s, oracle = seconds(lambda: our_overlap(truth, prediction), 3), []
    peer_s = seconds(lambda: oracle.extend(with_scikit_learn(truth, prediction)))
    found = [metrics["ADJRIND"] for metrics in our_overlap(truth, prediction)]
    note = largest_difference(found, oracle) + " (adjusted Rand)"
    yield Row("overlap metrics (19) x 4 phases", ours_s, "scikit-learn, 4 of the 19", peer_s, note)

    ours_s, oracle = seconds(lambda: our_surfaces(truth, prediction), 2), []
    peer_s = seconds(lambda: oracle.extend(with_monai(truth, prediction)))
    found = [metrics["HD95"] for metrics in our_surfaces(truth, prediction)]
    note = largest_difference(found[1:], oracle[1:]) + " (HD95 of the solid phases)"
    yield Row("HD95, surface Dice at 1 and 2 voxels x 4 phases", ours_s, "MONAI", peer_s, note)
    oracle.clear()
    peer_s = seconds(lambda: oracle.extend(with_surface_distance(truth, prediction)))
    found = [metrics["SURFDICE1"] for metrics in our_surfaces(truth, prediction)]
    note = largest_difference(found[1:], oracle[1:]) + " (surface Dice of the solid phases; the peer weighs by area)"
    yield Row("HD95, surface Dice at 1 and 2 voxels x 4 phases", ours_s, "surface-distance", peer_s, note)
    yield paper_size()


def paper_size() -> Row:
    """scripts/evaluate.py on 400 x 768 x 768 from disk, all metrics."""
    with tempfile.TemporaryDirectory() as folder:
        repeats = [-(-length // part) for length, part in zip(PAPER_SHAPE, (100, 192, 192))]
        for name, labels in zip(("truth", "prediction"), label_pair((100, 192, 192))):
            np.save(Path(folder) / f"{name}.npy", np.tile(labels, repeats)[: PAPER_SHAPE[0]])
        measured = (
            "import resource, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
            "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)"
        )
        script = str(CONF.parent / "scripts" / "evaluate.py")
        command = [sys.executable, "-c", measured, script, "truth=truth.npy", "prediction=prediction.npy", "out=m.json"]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        took = time.perf_counter() - start
        dice = json.loads((Path(folder) / "m.json").read_text())["mean"]["DICE"]
    peak = float(re.search(r"peak ([\d.]+)", done.stdout)[1])
    work = "all 26 metrics x 4 phases, 400 x 768 x 768, from disk"
    return Row(work, took, note=f"peak {peak:.1f} GB, mean Dice {dice:.3f}; targets 300 s, 8 GB")
