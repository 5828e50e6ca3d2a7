"""Simulated scans: labels to raw projections as a beamline would write them, under drawn conditions.

Paper, Fig. 5e-f and Supplementary Note 4: refractive index maps, projections, edge enhancement that changes over the
field, background that changes between projections, noise; then the same reconstruction as for measured data.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from batseg.tomography.detector import Beam, Detector, cloud_modes, draw_response, expose, frames_of_light, illumination
from batseg.tomography.exchange import Scan
from batseg.tomography.fields import smooth_field
from batseg.tomography.materials import Composition, index_volumes
from batseg.tomography.optics import Optics, transmission
from batseg.tomography.projection import ParallelBeam
from batseg.tomography.ptychography import Ptychography, blurred_density

ANGLES_AT_ONCE = 16


@dataclass(frozen=True)
class Imaging:
    """Optics of a scan. `defocus_um` is the real one; `nominal_defocus_um` is what the file says."""

    energy_kev: float = 8.4
    defocus_um: float = 7.5
    nominal_defocus_um: float = 7.5
    defocus_spread: float = 0.2  # relative standard deviation over the field, smooth: edges change in strength
    defocus_px: float = 60.0
    blur_nm: float = 45.0
    resolution_nm: float = 0.0
    phase_ring_rad: float = 0.0
    phase_ring_transmission: float = 1.0


@dataclass(frozen=True)
class Motion:
    """Angles and motion. Jitter and drift are in pixels, in both directions of the detector."""

    angles: int = 301
    rotation_deg: float = 180.0
    missing_wedge_deg: float = 0.0  # taken out of the middle of the rotation
    axis_offset_px: float = 0.0  # column of the rotation axis minus the detector's middle
    jitter_px: float = 0.25  # standard deviation, new in every projection
    drift_px: float = 0.0  # standard deviation of a slow wander over the scan
    angle_jitter_deg: float = 0.0  # error of the written angles
    flats: int = 20  # half before, half after the scan
    darks: int = 10


@dataclass(frozen=True)
class ScanConditions:
    """Everything that makes one simulated scan, in plain numbers; drawn from ranges by `draw_conditions`."""

    composition: Composition = field(default_factory=Composition)
    imaging: Imaging = field(default_factory=Imaging)
    motion: Motion = field(default_factory=Motion)
    beam: Beam = field(default_factory=Beam)
    detector: Detector = field(default_factory=Detector)
    ptychography: Ptychography = field(default_factory=Ptychography)

    def record(self) -> dict:
        """The conditions as nested plain numbers, for the provenance."""
        return asdict(self)


def draw_conditions(ranges: Mapping, rng: np.random.Generator) -> ScanConditions:
    """Conditions from ranges {group: {name: number or [low, high]}}; what is not named keeps its default.

    A pair is drawn uniformly (whole numbers for whole-number fields, both ends included). Raises ValueError for an
    unknown group or name, and for a value that is neither a number nor a pair in order.
    """
    groups = {item.name: item.default_factory for item in fields(ScanConditions)}
    drawn = {}
    for group, entries in ranges.items():
        if group not in groups:
            raise ValueError(f"unknown group {group!r} of scan conditions; known are {', '.join(groups)}")
        defaults = groups[group]()
        drawn[group] = type(defaults)(
            **{name: _draw(group, name, defaults, value, rng) for name, value in entries.items()}
        )
    return ScanConditions(**drawn)


def _draw(group: str, name: str, defaults, value, rng: np.random.Generator):
    if not hasattr(defaults, name):
        known = ", ".join(item.name for item in fields(defaults))
        raise ValueError(f"unknown scan condition {group}.{name}; known are {known}")
    default = getattr(defaults, name)
    if isinstance(default, str):
        return str(value)
    ends = list(value) if isinstance(value, (list, tuple)) else [value, value]
    numbers = [end for end in ends if isinstance(end, (int, float)) and not isinstance(end, bool)]
    if len(numbers) != 2 or not ends[0] <= ends[1]:
        raise ValueError(f"scan condition {group}.{name} must be a number or [low, high] in order, got {value!r}")
    if isinstance(default, int):
        return int(rng.integers(int(ends[0]), int(ends[1]) + 1))
    return float(rng.uniform(*ends))


def middle_conditions(ranges: Mapping) -> ScanConditions:
    """Conditions in the middle of their ranges: where a search for better ones starts."""
    middle = {
        group: {
            name: sum(value) / 2 if isinstance(value, (list, tuple)) and len(value) == 2 else value
            for name, value in entries.items()
        }
        for group, entries in ranges.items()
    }
    return draw_conditions(middle, np.random.default_rng(0))


def scan_angles(motion: Motion) -> np.ndarray:
    """Angles in rad, both ends of the rotation included, without the missing wedge."""
    angles = np.linspace(0, motion.rotation_deg, motion.angles)
    half = motion.missing_wedge_deg / 2
    return np.deg2rad(angles[(np.abs(angles - motion.rotation_deg / 2) >= half) | (half == 0)])


def simulate_scan(
    labels: np.ndarray,
    voxel_nm: float,
    conditions: ScanConditions,
    rng: np.random.Generator,
    name: str = "simulated",
    threads: int = 0,
) -> Scan:
    """Raw scan of the structure `labels` (z, y, x), y and x of equal length; voxels outside (255) are air.

    Slice k is seen by detector row k, the detector is as wide as the grid, its pixel is the voxel. The structure is
    taken to go on above and below. Frames are uint16 (angle, row, column). Two calls with generators in the same state
    give the same scan, whatever `threads`.
    """
    if labels.ndim != 3 or labels.shape[1] != labels.shape[2]:
        raise ValueError(f"labels must be (z, y, x) with y and x of equal length, got {labels.shape}")
    imaging, motion = conditions.imaging, conditions.motion
    rows, columns = labels.shape[0], labels.shape[2]
    true_angles = scan_angles(motion)
    count = len(true_angles)
    streams = random_streams(rng)

    delta, beta = index_volumes(labels, voxel_nm, conditions.composition, imaging.energy_kev, streams["material"])
    operator = ParallelBeam(columns, true_angles, threads=threads)
    delta_path, beta_path = (operator.project(volume) * np.float32(voxel_nm) for volume in (delta, beta))
    del delta, beta
    optics = Optics(
        energy_kev=imaging.energy_kev,
        pixel_nm=voxel_nm,
        defocus_nm=1e3 * imaging.defocus_um,
        defocus_map_nm=_defocus_map((rows, columns), imaging, streams["optics"]),
        blur_nm=imaging.blur_nm,
        resolution_nm=imaging.resolution_nm,
        phase_ring_rad=imaging.phase_ring_rad,
        phase_ring_transmission=imaging.phase_ring_transmission,
    )
    shifts = _shifts(count, motion, streams["motion"])
    response = draw_response((rows, columns), conditions.detector, streams["detector"])
    modes = cloud_modes((rows, columns), conditions.beam, streams["beam"])
    before, after = _drifting_illumination((rows, columns), conditions.beam, streams["beam"])

    def record(times: np.ndarray, sample: np.ndarray | None, cloud_share: float) -> np.ndarray:
        relative = frames_of_light(times, before, after, modes, conditions.beam, streams["beam"], cloud_share)
        if sample is not None:
            relative *= sample
            relative *= response.hidden
        return expose(relative, times, conditions.detector, response, streams["noise"])

    times = np.linspace(0, 1, count)
    data = np.empty((count, rows, columns), np.uint16)
    for start in range(0, count, ANGLES_AT_ONCE):
        chunk = slice(start, start + ANGLES_AT_ONCE)
        paths = (np.ascontiguousarray(path[:, chunk].transpose(1, 0, 2)) for path in (delta_path, beta_path))
        data[chunk] = record(times[chunk], transmission(*paths, optics, shifts[chunk], threads or None), 1.0)
    flat_times = np.repeat([0.0, 1.0], [motion.flats - motion.flats // 2, motion.flats // 2])
    white = record(flat_times, None, conditions.beam.flat_cloud_share)
    dark = expose(
        np.zeros((motion.darks, rows, columns), np.float32),
        np.zeros(motion.darks),
        conditions.detector,
        response,
        streams["noise"],
    )
    written = true_angles + np.deg2rad(motion.angle_jitter_deg) * streams["motion"].standard_normal(count)
    return Scan(
        data=data,
        white=white,
        dark=dark,
        angles_rad=written,
        white_after=flat_times > 0.5,
        energy_kev=imaging.energy_kev,
        pixel_nm=voxel_nm,
        distance_m=1e-6 * imaging.nominal_defocus_um,
        name=name,
        sample={"comment": "simulated scan"},
    )


def simulate_pxct(
    labels: np.ndarray, voxel_nm: float, conditions: ScanConditions, rng: np.random.Generator
) -> np.ndarray:
    """Electron density (z, y, x; float32, electrons per cubic angstrom) of the structure as PXCT shows it, in air.

    With a generator in the state that `simulate_scan` got, it is the very material of that scan, copper included.
    """
    streams, energy = random_streams(rng), conditions.imaging.energy_kev
    delta, _ = index_volumes(labels, voxel_nm, conditions.composition, energy, streams["material"])
    return blurred_density(delta, voxel_nm, energy, conditions.ptychography, streams["ptychography"])


def random_streams(rng: np.random.Generator) -> dict[str, np.random.Generator]:
    """One generator for each source of randomness, so that changing one leaves the others as they are."""
    names = ("material", "optics", "motion", "beam", "detector", "noise", "ptychography")
    return dict(zip(names, rng.spawn(len(names))))


def _defocus_map(shape: tuple[int, int], imaging: Imaging, rng: np.random.Generator) -> np.ndarray | None:
    if imaging.defocus_spread == 0:
        return None
    field = smooth_field(shape, (imaging.defocus_px, imaging.defocus_px), rng)
    field -= field.mean()  # the mean over the field is what `defocus_um` says
    return 1e3 * imaging.defocus_um * imaging.defocus_spread * field


def _shifts(count: int, motion: Motion, rng: np.random.Generator) -> np.ndarray:
    """(angle, 2) displacement of the sample's image in pixels: jitter, slow drift, axis offset."""
    shifts = motion.jitter_px * rng.standard_normal((count, 2))
    if motion.drift_px > 0:
        shifts += motion.drift_px * smooth_field((count, 2), (count / 6, 0), rng)
    shifts[:, 1] += motion.axis_offset_px
    return shifts


def _drifting_illumination(
    shape: tuple[int, int], beam: Beam, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Illumination before and after the scan."""
    before = illumination(shape, beam, rng)
    drift = smooth_field(shape, (beam.drift_px, beam.drift_px), rng)
    return before, before * (1 + np.float32(beam.drift_spread) * drift)
