"""Imitate a measured scan: estimate its conditions, simulate a structure under them, and compare the two."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from batseg.normalisation import normalise, sample_mask
from batseg.phases import NOT_LABELLED
from batseg.tomography.centre import mirror_axis
from batseg.tomography.corrections import flat_field
from batseg.tomography.estimates import estimate_detector
from batseg.tomography.exchange import Scan
from batseg.tomography.gap import Gap, gap
from batseg.tomography.matching import FITTED, fit_conditions, plain_tomogram, value_of, with_values
from batseg.tomography.scan import ScanConditions, simulate_scan
from batseg.tomography.synthetic import simulate_tomogram, turn_cylinder
from batseg.volumes import InputError, Volume, grey_values

WIDTH = 128
"""Columns of the stand-in structure: its scan costs a second, and edges, noise and texture do not depend on it."""

WHOLE, HALVES = (slice(None),), (slice(0, None, 2), slice(1, None, 2))
"""Which projections make a tomogram: all, or the even and the odd ones for the Fourier shell correlation."""


@dataclass(frozen=True)
class Effort:
    """How a scan is imitated: the conditions `fitted`, in so many `rounds`, on the middle `rows` slices.

    `same_structure`: the labels are those of the measured sample, slice by slice, and are scanned as they are; else a
    structure of the same kind is turned to a cylinder of at most 128 columns.
    """

    seed: int = 0
    same_structure: bool = False
    fitted: Sequence[str] = FITTED
    rows: int = 32
    rounds: int = 4


@dataclass(frozen=True)
class Imitation:
    """What came of imitating one scan: conditions, report in numbers, both tomograms, their masks, half-sets if any."""

    conditions: ScanConditions
    numbers: dict
    measured: np.ndarray
    simulated: np.ndarray
    measured_mask: np.ndarray
    simulated_mask: np.ndarray
    measured_halves: tuple[np.ndarray, ...] = ()
    simulated_halves: tuple[np.ndarray, ...] = ()


def first_conditions(scan: Scan, start: ScanConditions, axis: float) -> ScanConditions:
    """Start conditions with what the raw scan itself says: beam, detector, angles, axis."""
    beam, detector = estimate_detector(scan)
    rotation = float(np.rad2deg(np.ptp(scan.angles_rad)))
    known = {
        "motion.angles": len(scan.angles_rad),
        "motion.rotation_deg": rotation,
        "motion.axis_offset_px": axis - (scan.shape[2] - 1) / 2,
        "motion.flats": len(scan.white),
        "motion.darks": len(scan.dark),
    }
    known |= {} if scan.energy_kev is None else {"imaging.energy_kev": scan.energy_kev}
    known |= {} if scan.distance_m is None else {"imaging.nominal_defocus_um": 1e6 * scan.distance_m}
    kept = {f"detector.{name}": getattr(start.detector, name) for name in ("scratches", "scratch_depth", "ring_spread")}
    described = ScanConditions(start.composition, start.imaging, start.motion, beam, detector)
    return with_values(described, {**known, **kept})


def imitate(
    scan: Scan,
    structure: np.ndarray,
    start: ScanConditions,
    effort: Effort = Effort(),
    jitter_px: float | None = None,
    axis: float | None = None,
) -> Imitation:
    """Find the conditions under which a scan of `structure` (labels z, y, x) looks like the measured one.

    Both are reconstructed by `plain_tomogram`. `jitter_px` is the movement between projections if it is known.
    """
    if axis is None:
        axis = raw_axis(scan)
    middle = _middle_rows(scan.shape[1], effort.rows)
    measured = plain_tomogram(scan, axis)[middle]
    structure, mask = _stand_in(
        structure, measured, middle, (scan.shape[1], *measured.shape[1:]), effort.same_structure
    )
    conditions = first_conditions(scan, start, axis)
    if jitter_px is not None:
        conditions = with_values(conditions, {"motion.jitter_px": jitter_px})

    def tomograms(trial: ScanConditions, noise: int, parts: Sequence[slice]) -> list[np.ndarray]:
        return _scanned(structure, scan.pixel_nm or 1.0, trial, (effort.seed, noise), parts)

    halves = tuple(plain_tomogram(scan, axis, part=part)[middle] for part in HALVES)
    return _fitted(scan.name, measured, mask, structure, tomograms, conditions, effort, halves)


def imitate_tomogram(
    tomogram: Volume,
    structure: np.ndarray,
    start: ScanConditions,
    effort: Effort = Effort(),
    filter: str = "hann",
    name: str = "tomogram",
) -> Imitation:
    """`imitate` where only a reconstruction is left, reconstructed with `filter` by whatever software.

    Grey values may have any unit and offset: measured and simulated are compared normalised. Beam, detector and
    movement are those of `start` but for what is fitted; the trials are scanned without clouds and movement, which the
    reconstruction is taken to have undone. There are no half-sets, so no Fourier shell correlation. Of an opened
    volume (`open_volume`) the compared slices alone are read. Raises InputError where they are not finite.
    """
    middle = _middle_rows(tomogram.shape[0], effort.rows)
    measured = grey_values(tomogram.array[middle], name)
    structure, mask = _stand_in(structure, measured, middle, tomogram.shape, effort.same_structure)
    inside = structure != NOT_LABELLED
    undone = (
        "motion.jitter_px",
        "motion.drift_px",
        "motion.axis_offset_px",
        "beam.cloud_spread",
        "detector.zingers_per_frame",
    )
    still = dict.fromkeys(undone, 0.0)

    def tomograms(trial: ScanConditions, noise: int, parts: Sequence[slice]) -> list[np.ndarray]:
        trial = with_values(trial, still)
        images = _scanned(structure, tomogram.voxel_nm or 1.0, trial, (effort.seed, noise), parts, filter)
        return [normalise(image, inside) for image in images]

    measured = normalise(measured, mask)
    return _fitted(name, measured, mask, structure, tomograms, start, effort)


def _middle_rows(count: int, rows: int) -> slice:
    first = max(0, count // 2 - rows // 2)
    return slice(first, min(first + rows, count))


def _stand_in(
    structure: np.ndarray, measured: np.ndarray, middle: slice, shape: tuple[int, ...], same: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The labels to be scanned (255 outside), and the mask of the sample in the measured slices."""
    if same:
        if structure.shape != tuple(shape):
            raise InputError(f"labels of the same sample must be {tuple(shape)}: {structure.shape}")
        structure = np.ascontiguousarray(structure[middle])
        return structure, structure != NOT_LABELLED
    width = min(WIDTH, measured.shape[2])
    structure = structure if (structure == NOT_LABELLED).any() else turn_cylinder(structure, width - 24, width)
    return np.ascontiguousarray(structure[: max(len(measured), 16)]), np.array(sample_mask(measured))


def _scanned(
    structure: np.ndarray,
    pixel_nm: float,
    conditions: ScanConditions,
    seed: tuple[int, int],
    parts: Sequence[slice],
    filter: str = "ram-lak",
) -> list[np.ndarray]:
    """Plain tomograms of a structure, one for each selection of projections."""
    simulated = simulate_scan(structure, pixel_nm, conditions, np.random.default_rng(seed))
    axis = (structure.shape[2] - 1) / 2 + conditions.motion.axis_offset_px
    return [plain_tomogram(simulated, axis, part=part, filter=filter) for part in parts]


def _fitted(
    name: str,
    measured: np.ndarray,
    mask: np.ndarray,
    structure: np.ndarray,
    tomograms: Callable[[ScanConditions, int, Sequence[slice]], list[np.ndarray]],
    start: ScanConditions,
    effort: Effort,
    halves: tuple[np.ndarray, ...] = (),
) -> Imitation:
    """Fit the conditions, simulate once more with other random numbers, and judge."""
    inside = structure != NOT_LABELLED
    conditions, numbers = fit_conditions(
        measured,
        mask,
        lambda trial: (tomograms(trial, 0, WHOLE)[0], inside),
        start,
        tuple(effort.fitted),
        effort.rounds,
    )
    simulated, *simulated_halves = tomograms(conditions, 1, (*WHOLE, *HALVES) if halves else WHOLE)
    apart: Gap = gap(measured, simulated, mask, inside)
    numbers |= {"scan": name, "auc": apart.auc, "auc_spread": apart.spread, "patches": apart.patches}
    return Imitation(conditions, numbers, measured, simulated, mask, inside, halves, tuple(simulated_halves))


def compare_reconstructed(
    tomogram: np.ndarray, structure: np.ndarray, pixel_nm: float, conditions: ScanConditions, seed: int = 0, **settings
) -> tuple[np.ndarray, Gap]:
    """Tomogram of a structure scanned under the conditions, fully reconstructed, and its gap to the measured one.

    `structure` is a cylinder (255 outside); `settings` are those of `reconstruct`, which made `tomogram`, too.
    """
    rng = np.random.default_rng((seed, 2))
    simulated = simulate_tomogram(structure, pixel_nm, conditions, rng, {"image": settings})[0]["image"].array
    same = structure.shape == tomogram.shape
    mask = structure != NOT_LABELLED
    return simulated, gap(tomogram, simulated, mask if same else np.array(sample_mask(tomogram)), mask)


def raw_axis(scan: Scan) -> float:
    """Column of the rotation axis from opposite projections."""
    flat, level = flat_field(scan.white, scan.dark), np.median(scan.dark, axis=0)
    lines = -np.log(np.clip((np.asarray(scan.data[:], np.float32) - level) / flat, 0.05, 2))
    return mirror_axis(lines.transpose(1, 0, 2), scan.angles_rad)


def as_ranges(found: Sequence[ScanConditions], widen: float = 0.1) -> dict:
    """Ranges {group: {name: number or [low, high]}} that hold all the conditions found, widened by a share.

    A value that no scan and no fit tells (the same in all) stays a number.
    """
    ranges: dict[str, dict] = {}
    for group in fields(ScanConditions):
        entries = {}
        for item in fields(getattr(found[0], group.name)):
            values = [value_of(conditions, f"{group.name}.{item.name}") for conditions in found]
            entries[item.name] = _range(values, widen)
        ranges[group.name] = entries
    return ranges


def _range(values: list, widen: float):
    if isinstance(values[0], str) or len(set(values)) == 1:
        return values[0]
    low, high = min(values), max(values)
    if isinstance(values[0], int):
        return [low, high]
    return [_short(low - widen * abs(low)), _short(high + widen * abs(high))]


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def write_ranges(ranges: Mapping, comments: Sequence[str]) -> str:
    """Ranges as YAML text with comments on top, ready for conf/scan."""
    lines = [f"# {comment}" for comment in comments]
    for group, entries in ranges.items():
        lines.append(f"{group}:")
        for name, value in entries.items():
            shown = f"[{value[0]}, {value[1]}]" if isinstance(value, list) else value
            lines.append(f"  {name}: {_short(shown) if isinstance(shown, float) else shown}")
    return "\n".join(lines) + "\n"
