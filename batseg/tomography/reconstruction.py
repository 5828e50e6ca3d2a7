"""Raw scan to tomogram: corrections, illumination and movement, rotation axis, retrieval, filtered back-projection.

Frame: slice k is detector row k; the in-plane grid is columns x columns with the rotation axis through its centre,
index ((columns-1)/2, (columns-1)/2); orientation as in `projection`. Values are in 1/cm (1/pixel where the pixel is
unknown). What concerns the whole scan is found on a reduced copy; then slabs of slices pass through one at a time, so
memory does not grow with their number.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import map_coordinates

from batseg.progress import progress_bar
from batseg.tomography import corrections
from batseg.tomography.alignment import Alignment, align, binned_column, line_integrals
from batseg.tomography.centre import mirror_axis, moment_axis
from batseg.tomography.exchange import Scan, SelectedFrames
from batseg.tomography.frames import REDUCED_COLUMNS, area_weights, reduced_frames, relative_frames
from batseg.tomography.projection import ParallelBeam
from batseg.tomography.retrieval import PRESETS_NM, retrieve
from batseg.volumes import InputError, Volume

HALO_ROWS = 16
STRIPES = ("mean", "sorted", "none")
CROPS = ("none", "cube", "cylinder")
LARGEST_KEPT = 2**29  # bytes of corrected frames kept between examining and reconstructing


@dataclass(frozen=True)
class Found:
    """What was found out about a scan: alignment (in detector pixels), axes by method, numbers for the record."""

    alignment: Alignment
    reduction: int = 1
    numbers: Mapping = field(default_factory=dict)
    relative: np.ndarray | None = None  # the corrected frames, kept where they are small

    def at_rows(self, top: int, bottom: int, columns: int) -> Alignment:
        """The alignment with its illumination modes on detector rows top to bottom."""
        modes = self.alignment.modes
        if self.reduction > 1 and len(modes):
            rows = np.clip(binned_column(np.arange(top, bottom), self.reduction), 0, modes.shape[1] - 1)
            across = np.clip(binned_column(np.arange(columns), self.reduction), 0, modes.shape[2] - 1)
            grid = np.meshgrid(rows, across, indexing="ij")
            modes = np.stack([map_coordinates(mode, grid, order=1) for mode in modes])
        else:
            modes = modes[:, top:bottom]
        return replace(self.alignment, modes=modes)


def reconstruct(scan: Scan, found: Found | None = None, **settings) -> Volume:
    """Tomogram (z, y, x) in 1/cm, float32, in memory. Settings are those of `examine` and `reconstruct_slabs`."""
    looking = {key: settings.pop(key) for key in ("axis", "illumination", "move") if key in settings}
    found = found or examine(scan, **looking)
    slabs = [slab for _, slab in reconstruct_slabs(scan, found, **settings)]
    binning = settings.get("binning", 1.0)
    voxel_nm = None if scan.pixel_nm is None else scan.pixel_nm * binning
    volume = Volume(np.concatenate(slabs), voxel_nm, provenance(scan, found, settings))
    return crop_volume(volume, settings.get("crop", "none"), found, binning)


def examine(scan: Scan, axis: float | None = None, illumination: bool = True, move: bool = True) -> Found:
    """Find rotation axis, illumination and movement of a scan on a copy reduced to at most 512 columns.

    Parameters
    ----------
    axis : column of the rotation axis, given instead of found.
    illumination : divide out illumination that changes from projection to projection.
    move : look for movement of the sample from projection to projection.

    Raises
    ------
    InputError : frames without an image, an axis outside the detector.
    """
    count, _, columns = scan.shape
    if axis is not None and not 0 < axis < columns - 1:
        raise InputError(f"{scan.name}: rotation axis at column {axis:g} is outside the {columns} columns")
    reduction = max(1, -(-columns // REDUCED_COLUMNS))
    relative, white, flat, mended = reduced_frames(scan, reduction)
    modes = corrections.illumination_modes(white, flat if len(white) > 2 else None)
    modes = modes if illumination else modes[:0]
    steady = corrections.fit_modes(relative - 1, modes)
    plain = line_integrals(relative, Alignment(0.0, np.zeros(count), np.zeros(count), steady, modes))
    guess = _first_axis(plain, scan.angles_rad) if axis is None else float(binned_column(axis, reduction))
    rounds = (2, 2, 2, 2) if move or axis is None else ()
    alignment = align(relative, modes, scan.angles_rad, guess, rounds, move)
    if axis is not None:
        alignment = replace(alignment, axis=guess, axis_sigma=0.0)
    numbers = _judged(plain, line_integrals(relative, alignment), alignment, scan.angles_rad, guess, reduction)
    kept = relative if reduction == 1 and relative.nbytes < LARGEST_KEPT else None
    return Found(_unreduced(alignment, reduction), reduction, {**numbers, **mended}, kept)


def reconstruct_slabs(
    scan: Scan,
    found: Found,
    filter: str = "hann",
    cutoff: float = 1.0,
    stripes: str = "mean",
    stripe_width: float = 2.0,
    half_pass_nm: float | str = 0.0,
    binning: float = 1.0,
    slab_rows: int = 128,
    backend: str = "nufft",
    crop: str = "none",
) -> Iterator[tuple[int, np.ndarray]]:
    """Slabs (first slice, float32 array (slices, size, size)) of the tomogram from the top down.

    Parameters
    ----------
    half_pass_nm : strength of phase retrieval as a period, or a name of `retrieval.PRESETS_NM`; 0 is none.
    binning : by which pixels are made larger, any number from 1; pixels are averaged by area.
    """
    if stripes not in STRIPES or crop not in CROPS:
        raise InputError(
            f"stripes is one of {', '.join(STRIPES)}, crop one of {', '.join(CROPS)}; got {stripes}, {crop}"
        )
    if not binning >= 1:
        raise InputError(f"binning must be 1 or more, got {binning}")
    half_pass_nm = retrieval_length(half_pass_nm)
    pixel_nm = scan.pixel_nm or 1.0
    size, slices = int(scan.shape[2] / binning + 1e-9), int(scan.shape[1] / binning + 1e-9)
    if min(size, slices) < 1 or size < 8:
        raise InputError(f"{scan.name}: binning {binning:g} leaves {slices} x {size} pixels")
    alignment = found.alignment
    axis = binned_column(alignment.axis + alignment.shift_columns, binning)
    beam = ParallelBeam(size, scan.angles_rad, axis, backend)
    columns = area_weights(scan.shape[2], binning)
    halo = int(np.ceil(HALO_ROWS + np.abs(alignment.shift_rows).max() + half_pass_nm / pixel_nm))
    per_cm = np.float32(1.0 if scan.pixel_nm is None else 1e7 / (scan.pixel_nm * binning))
    steps = range(0, slices, max(1, int(slab_rows / binning)))
    with progress_bar(f"reconstructing {scan.name}", len(steps)) as bar:
        for first in steps:
            last = min(first + steps.step, slices)
            top, bottom = max(0, int(first * binning) - halo), min(scan.shape[1], int(np.ceil(last * binning)) + halo)
            relative = (
                found.relative[:, top:bottom] if found.relative is not None else relative_frames(scan, top, bottom)[0]
            )
            lines = line_integrals(relative, found.at_rows(top, bottom, scan.shape[2]))
            if half_pass_nm:
                frames = retrieve(np.exp(-lines).transpose(1, 0, 2), half_pass_nm, pixel_nm)
                lines = -np.log(np.maximum(frames, corrections.SMALLEST_TRANSMISSION)).transpose(1, 0, 2)
            lines = _without_stripes(lines, stripes, stripe_width)
            if binning > 1:
                rows = area_weights(scan.shape[1], binning)[first:last, top:bottom]
                lines = np.einsum("kr,rac->kac", rows, lines, optimize=True) @ columns.T
            else:
                lines = lines[first - top : last - top]
            yield first, beam.fbp(np.ascontiguousarray(lines), filter, cutoff) * per_cm
            bar.advance()


def half_scan(scan: Scan, found: Found, start: int) -> tuple[Scan, Found]:
    """Every other projection of a scan from `start` on, with what was found about them."""
    part = slice(start, None, 2)
    whole = found.alignment
    alignment = replace(
        whole,
        shift_columns=whole.shift_columns[part],
        shift_rows=whole.shift_rows[part],
        amplitudes=whole.amplitudes[part],
    )
    frames = np.arange(scan.shape[0])[part]
    half = replace(scan, data=SelectedFrames(scan.data, frames), angles_rad=scan.angles_rad[part])
    relative = None if found.relative is None else found.relative[part]
    return half, replace(found, alignment=alignment, relative=relative)


def provenance(scan: Scan, found: Found, settings: Mapping) -> dict:
    """What to write beside the tomogram: the source, assumptions, settings and what was found."""
    return {
        "scan": scan.name,
        "sample": dict(scan.sample),
        "units": "1/pixel" if scan.pixel_nm is None else "1/cm",
        "notes": list(scan.notes),
        "settings": dict(settings),
        **found.numbers,
    }


def crop_volume(volume: Volume, crop: str, found: Found, binning: float = 1.0) -> Volume:
    """The largest cube (square prism if the scan is lower) inside the sample, or the tomogram set to 0 outside it."""
    slices, size, _ = volume.shape
    radius = sample_radius(found, size * binning) / binning
    middle = (size - 1) / 2
    if crop == "cube":
        edge = int(np.sqrt(2) * radius)
        start = int(np.ceil(middle - (edge - 1) / 2))
        height = min(edge, slices)
        top = (slices - height) // 2
        array = volume.array[top : top + height, start : start + edge, start : start + edge]
        first = [top, start, start]
        return Volume(array, volume.voxel_nm, {**volume.provenance, "crop_first_voxel": first})
    if crop == "cylinder":
        inside = np.hypot(*np.ogrid[-middle : size - middle, -middle : size - middle]) <= radius
        return Volume(volume.array * inside, volume.voxel_nm, {**volume.provenance, "radius_voxels": radius})
    return volume


def sample_radius(found: Found, columns: float) -> float:
    """Radius of the sample in detector pixels; of what all projections see where no cylinder was found."""
    return found.alignment.radius or (columns - 1) / 2 - abs(found.alignment.axis - (columns - 1) / 2)


def retrieval_length(half_pass_nm: float | str | None) -> float:
    """Half-pass period in nm from a number or a preset's name."""
    if isinstance(half_pass_nm, str):
        if half_pass_nm not in PRESETS_NM:
            raise InputError(f"half_pass_nm is a length in nm or one of {', '.join(PRESETS_NM)}; got {half_pass_nm!r}")
        return PRESETS_NM[half_pass_nm]
    return float(half_pass_nm or 0.0)


def _first_axis(sinograms: np.ndarray, angles_rad: np.ndarray) -> float:
    """Axis from opposite projections, or from the first moment where the scan has none."""
    try:
        return mirror_axis(sinograms, angles_rad)
    except ValueError:
        return moment_axis(sinograms, angles_rad)


def _judged(
    before: np.ndarray, after: np.ndarray, alignment: Alignment, angles_rad: np.ndarray, guess: float, reduction: int
) -> dict:
    """Axis by each method with its uncertainty, and what the corrections achieved, in detector pixels.

    The uncertainty is half the difference of the two methods, at least the statistical error of the first.
    """
    shifts = alignment.shift_columns
    axes = {"reprojection": alignment.axis, "first_guess": guess}
    sigma = alignment.axis_sigma
    try:
        axes["opposite_projections"] = mirror_axis(after, angles_rad, shifts)
        sigma = np.fmax(sigma, abs(axes["opposite_projections"] - alignment.axis) / 2)
    except ValueError:
        sigma = np.fmax(sigma, abs(guess - alignment.axis) / 2)
    axes = {name: round(float((axis + 0.5) * reduction - 0.5), 3) for name, axis in axes.items()}
    cleaned = corrections.suppress_stripes(after)
    return {
        "axis_column": axes["reprojection"],
        "axis_uncertainty": round(float(sigma) * reduction, 3),
        "axis_by_method": axes,
        "radius_pixels": None if alignment.radius is None else round(alignment.radius * reduction, 1),
        "shift_columns_rms": round(float(shifts.std()) * reduction, 3),
        "shift_rows_rms": round(float(alignment.shift_rows.std()) * reduction, 3),
        "illumination_modes": len(alignment.modes),
        "misfit_by_round": [round(value, 6) for value in alignment.misfit],
        "background_rms": {"before": _background(before), "after": _background(after)},
        "stripes_over_noise": {
            "before": round(corrections.stripe_strength(after), 2),
            "after": round(corrections.stripe_strength(cleaned), 2),
        },
    }


def _background(sinograms: np.ndarray) -> float:
    """Standard deviation in time of the projections' mean level, beside the sample where it leaves room."""
    edge = max(2, sinograms.shape[2] // 64)
    beside = np.concatenate([sinograms[..., :edge].mean(axis=2), sinograms[..., -edge:].mean(axis=2)])
    return round(float(beside.std(axis=1).mean()), 5)


def _unreduced(alignment: Alignment, reduction: int) -> Alignment:
    """The alignment in detector pixels; the modes stay reduced."""
    return replace(
        alignment,
        axis=(alignment.axis + 0.5) * reduction - 0.5,
        shift_columns=alignment.shift_columns * reduction,
        shift_rows=alignment.shift_rows * reduction,
        radius=None if alignment.radius is None else alignment.radius * reduction,
    )


def _without_stripes(sinograms: np.ndarray, stripes: str, width: float) -> np.ndarray:
    if stripes == "mean":
        return corrections.suppress_stripes(sinograms, width)
    return corrections.suppress_stripes_sorted(sinograms) if stripes == "sorted" else sinograms
