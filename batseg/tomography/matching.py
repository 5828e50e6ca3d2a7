"""Find the conditions of a scan whose simulation looks like a measured tomogram.

Beam and detector come from the raw scan (`estimates`). What only shows in the tomogram - defocus, blur, composition -
is fitted: simulate a structure of the same kind, reconstruct it as the measured scan was, compare patches, improve.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from batseg.tomography.corrections import fill_bad_pixels, find_bad_pixels, flat_field, remove_zingers, suppress_stripes
from batseg.tomography.estimates import AIR_COLUMNS
from batseg.tomography.exchange import Scan
from batseg.tomography.gap import grey_edges, patch_features, patch_starts
from batseg.tomography.projection import ParallelBeam
from batseg.tomography.scan import ScanConditions

BOUNDS = {
    "imaging.defocus_um": (0.5, 60.0),
    "imaging.blur_nm": (5.0, 200.0),
    "composition.copper_fraction": (0.02, 0.7),
    "composition.copper_spread": (0.02, 1.5),
    "composition.copper_correlation_nm": (40.0, 1000.0),
    "composition.copper_grain": (0.02, 3.0),
    "composition.copper_grain_nm": (10.0, 200.0),
    "composition.silicon_density": (1.5, 2.8),
    "composition.graphite_density": (1.2, 3.0),
    "composition.density_spread": (0.005, 0.4),
    "detector.photons": (100.0, 1e7),
    "detector.ring_spread": (1e-5, 0.05),
    "beam.cloud_spread": (0.001, 0.2),
    "motion.jitter_px": (0.01, 3.0),
}
"""What can be fitted and between which limits; all are positive and are fitted in their logarithm."""

FITTED = ("imaging.defocus_um", "imaging.blur_nm", "detector.photons")
"""What is fitted by default. The composition is only to be trusted where the structure is that of the sample itself:
otherwise it takes up what the two structures differ in."""

PATCH = (12, 20, 20)
STEP, FIRST_DAMPING = 0.08, 0.1


@dataclass(frozen=True)
class Look:
    """What a tomogram looks like: mean and standard deviation over patches of each feature that `gap` judges by."""

    mean: np.ndarray
    spread: np.ndarray

    def difference(self, target: "Look") -> np.ndarray:
        """Residuals: shift of each mean in units of the target's spread, and half the log ratio of the spreads."""
        floor = 0.1 * np.median(target.spread)
        shift = (self.mean - target.mean) / np.maximum(target.spread, floor)
        widening = np.log(np.maximum(self.spread, floor) / np.maximum(target.spread, floor))
        return np.concatenate([shift, 0.5 * widening]) / np.sqrt(len(shift))


def look(image: np.ndarray, mask: np.ndarray, edges: np.ndarray, patch: tuple[int, int, int] = PATCH) -> Look:
    """Look of a tomogram (z, y, x) inside a mask; `edges` are the histogram's inner bin edges."""
    features = patch_features(image, patch_starts(mask, patch, step=0.5), patch, edges)
    return Look(features.mean(axis=0), features.std(axis=0))


def with_values(conditions: ScanConditions, values: Mapping[str, float]) -> ScanConditions:
    """Conditions with some values changed, named as group.name."""
    for name, value in values.items():
        group, key = name.split(".")
        conditions = replace(conditions, **{group: replace(getattr(conditions, group), **{key: value})})
    return conditions


def value_of(conditions: ScanConditions, name: str) -> float:
    """One value, named as group.name."""
    group, key = name.split(".")
    return getattr(getattr(conditions, group), key)


def fit_conditions(
    measured: np.ndarray,
    mask: np.ndarray,
    simulate: Callable[[ScanConditions], tuple[np.ndarray, np.ndarray]],
    start: ScanConditions,
    fitted: tuple[str, ...] = FITTED,
    rounds: int = 6,
    prior: float = 0.03,
) -> tuple[ScanConditions, dict]:
    """Conditions under which `simulate(conditions) -> (image, mask)` looks most like the measured tomogram.

    Levenberg-Marquardt in the logarithms, with finite differences; `simulate` must use the same random numbers in
    every call. `prior` pulls weakly to the start, which decides where the data do not.

    Returns the conditions and a report: values, misfit (root of the summed squares) at the start and at the end,
    number of trials.
    """
    unknown = [name for name in fitted if name not in BOUNDS]
    if unknown:
        raise ValueError(f"cannot fit {', '.join(unknown)}; what can be fitted: {', '.join(BOUNDS)}")
    edges = grey_edges(measured, mask)
    target = look(measured, mask, edges)
    low, high = (np.log([BOUNDS[name][end] for name in fitted]) for end in (0, 1))
    origin = np.clip(np.log([max(float(value_of(start, name)), 1e-9) for name in fitted]), low, high)
    trials = 0

    def residuals(position: np.ndarray) -> np.ndarray:
        nonlocal trials
        trials += 1
        conditions = with_values(start, dict(zip(fitted, np.exp(position).tolist())))
        image, inside = simulate(conditions)
        return np.concatenate([look(image, inside, edges).difference(target), prior * (position - origin)])

    position, damping = origin, FIRST_DAMPING
    current = residuals(position)
    first = float(np.linalg.norm(current))
    for _ in range(rounds):
        steps = np.where(position + STEP <= high, STEP, -STEP)
        columns = [
            (residuals(position + step * unit) - current) / step for step, unit in zip(steps, np.eye(len(steps)))
        ]
        jacobian = np.stack(columns, axis=1)
        before = float(np.linalg.norm(current))
        for _ in range(4):
            normal = jacobian.T @ jacobian
            normal += damping * np.diag(np.diag(normal) + 1e-6)
            proposed = np.clip(position - np.clip(np.linalg.solve(normal, jacobian.T @ current), -0.7, 0.7), low, high)
            tried = residuals(proposed)
            if np.linalg.norm(tried) < before:
                position, current, damping = proposed, tried, damping / 4
                break
            damping *= 6
        if np.linalg.norm(current) > 0.985 * before:
            break
    values = dict(zip(fitted, np.exp(position).tolist()))
    report = {"values": values, "misfit_start": first, "misfit": float(np.linalg.norm(current)), "trials": trials}
    return with_values(start, values), report


def plain_tomogram(
    scan: Scan, axis: float, threads: int = 0, part: slice = slice(None), filter: str = "ram-lak"
) -> np.ndarray:
    """Tomogram (z, y, x) in 1/cm with nothing undone but flats, level, bad pixels, zingers and stripes: fast.

    Illumination and movement stay in, in measured and simulated scans alike, and must look alike there. `part` selects
    projections (`slice(0, None, 2)` for a half-set).
    """
    data, white, dark = (np.asarray(frames[:], np.float32) for frames in (scan.data[part], scan.white, scan.dark))
    level, flat = np.median(dark, axis=0), flat_field(white, dark)
    bad = find_bad_pixels(data, white, dark)
    relative = fill_bad_pixels((data - level) / flat, bad)
    remove_zingers(relative)
    lines = -np.log(np.clip(relative, 0.05, None)).transpose(1, 0, 2)
    # The level of each projection is that of the air on either side.
    lines -= (lines[:, :, :AIR_COLUMNS].mean(axis=(0, 2)) + lines[:, :, -AIR_COLUMNS:].mean(axis=(0, 2)))[:, None] / 2
    sinograms = suppress_stripes(lines)
    operator = ParallelBeam(sinograms.shape[2], np.asarray(scan.angles_rad)[part], axis, threads=threads)
    return operator.fbp(sinograms, filter) * np.float32(1e7 / (scan.pixel_nm or 1e7))
