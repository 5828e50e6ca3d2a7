"""What a raw scan says about its own beam and detector: flats, darks, air beside the sample."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from batseg.tomography.detector import Beam, Detector
from batseg.tomography.exchange import Scan

AIR_COLUMNS = 12


def estimate_detector(scan: Scan) -> tuple[Beam, Detector]:
    """Beam and detector that make darks, flats and empty borders like those of the scan.

    Photon noise is read off the finest scale of differences of flats; clouds and flux off the flats' coarse scale and
    off the `AIR_COLUMNS` outermost columns of the projections, which should see air. Scratches are not searched for:
    their defaults stand. Raises ValueError if the frames are too small to tell scales apart.
    """
    dark, white = (np.asarray(frames[:], np.float32) for frames in (scan.dark, scan.white))
    rows, columns = scan.shape[1:]
    if rows < 24 or columns < 48:
        raise ValueError(f"{scan.name}: frames of {rows} x {columns} pixels are too small for estimates (24 x 48)")
    level = np.median(dark, axis=0)
    flat = np.median(white, axis=0) - level
    local = ndimage.median_filter(flat, 5)
    dead = flat < 0.5 * local
    dark_counts = float(np.median(level))
    read_noise = _read_noise(dark)
    hot = level > dark_counts + 10 * max(read_noise, 1)
    flat = np.where(dead | hot, local, flat)
    relative = (white - level) / flat
    relative[:, dead | hot] = 1
    counts = float(flat.mean())
    noise = _fine_noise(relative) ** 2 - (read_noise / counts) ** 2
    photons = float(np.mean(1 / (flat / counts)) / max(noise, 1e-10))  # noise is averaged over 1/flat

    smooth = np.stack([ndimage.gaussian_filter(frame, 3) for frame in np.clip(relative, 0.5, 1.5)])
    after = np.zeros(len(white), bool) if scan.white_after is None else np.asarray(scan.white_after, bool)
    halves = [smooth[part] for part in (~after, after) if part.sum() > 2]
    flat_clouds = float(np.mean([_within_frames(half - half.mean(axis=0)) for half in halves]))
    flux = float(np.mean([(half.mean(axis=(1, 2))).std() for half in halves]))
    drift = 0.0
    if len(halves) == 2:
        change = halves[0].mean(axis=0) - halves[1].mean(axis=0)
        drift = float(np.sqrt(max((change - change.mean()).var() - 2 * flat_clouds**2 / len(halves[0]), 0)))
    cloud_spread, cloud_px = _clouds(scan, level, flat, flux)
    detector = Detector(
        counts=counts,
        photons=photons,
        dark_counts=dark_counts,
        read_noise=read_noise,
        dead_fraction=float(dead.mean()),
        hot_fraction=float(hot.mean()),
        zingers_per_frame=_zingers(scan, level, flat),
    )
    beam = replace(
        _illumination(flat),
        drift_spread=drift,
        flux_spread=flux,
        cloud_spread=cloud_spread,
        cloud_px=cloud_px,
        flat_cloud_share=min(flat_clouds / max(cloud_spread, 1e-6), 1.0),
    )
    return beam, detector


def _read_noise(dark: np.ndarray) -> float:
    """Standard deviation between dark frames without zingers; one frame alone says nothing: 0."""
    if len(dark) < 2:
        return 0.0
    step = dark[1:] - dark[:-1]
    bulk = np.abs(step) <= 5 * max(float(np.quantile(np.abs(step), 0.683)), 1)
    return float(step[bulk].std() / np.sqrt(2))


def _fine_noise(relative: np.ndarray) -> float:
    """Standard deviation per pixel of the white part of differences of frames, from the upper half of frequencies."""
    difference = (relative[1:] - relative[:-1]) / np.sqrt(2)
    ceiling = 4 * 1.4826 * float(np.median(np.abs(difference - np.median(difference, axis=(1, 2), keepdims=True))))
    difference = np.clip(difference, -ceiling, ceiling)  # a zinger is white noise, too
    power = np.abs(np.fft.fft2(difference)) ** 2 / difference[0].size
    rows, columns = (np.abs(np.fft.fftfreq(length)) for length in difference.shape[1:])
    fine = (rows[:, None] > 0.25) & (columns > 0.25)
    return float(np.sqrt(np.median(power[:, fine]) / np.log(2)))  # the median of an exponential distribution is ln 2


def _within_frames(fields: np.ndarray) -> float:
    return float((fields - fields.mean(axis=(1, 2), keepdims=True)).std())


def _zingers(scan: Scan, level: np.ndarray, flat: np.ndarray) -> float:
    """Isolated bright pixels per projection, from at most 40 projections."""
    frames = np.asarray(scan.data[:: max(1, len(scan.data) // 40)], np.float32)
    relative = (frames - level) / flat
    excess = relative - np.median(relative, axis=0)
    around = np.stack([ndimage.median_filter(frame, 3) for frame in excess])
    return float(np.count_nonzero(excess - around > 0.2) / len(frames))


def _clouds(scan: Scan, level: np.ndarray, flat: np.ndarray, flux: float) -> tuple[float, float]:
    """Spread and correlation length (kernel's standard deviation in pixels) of the background beside the sample."""
    frames = np.asarray(scan.data[:], np.float32)
    spreads, correlations = [], []
    for side in (slice(0, AIR_COLUMNS), slice(-AIR_COLUMNS, None)):
        air = np.clip((frames[:, :, side] - level[:, side]) / flat[:, side], 0.5, 1.5)
        columns = np.median(air - np.median(air, axis=0), axis=2)  # (angle, row)
        spreads.append(np.sqrt(max(columns.var() - flux**2, 0)))
        # Structure function of a field smoothed with a Gaussian of width s: 2 v (1 - exp(-d^2 / 4 s^2)).
        lag = max(4, columns.shape[1] // 12)
        step = ((columns[:, lag:] - columns[:, :-lag]) ** 2).mean() / max(2 * spreads[-1] ** 2, 1e-12)
        correlations.append(lag / np.sqrt(-4 * np.log1p(-np.clip(step, 1e-3, 0.95))))
    return float(np.mean(spreads)), float(np.mean(correlations))


def _illumination(flat: np.ndarray) -> Beam:
    """Fall-off, bands and patches of the mean illumination."""
    field = ndimage.gaussian_filter(flat / flat.mean(), 1)
    y, x = (np.linspace(-1, 1, length) for length in flat.shape)
    square = y[:, None] ** 2 + x**2
    design = np.stack([np.ones_like(square), square, y[:, None] + 0 * x, x + 0 * y[:, None]], axis=-1).reshape(-1, 4)
    fit, *_ = np.linalg.lstsq(design, field.ravel(), rcond=None)
    rest = field / np.maximum((design @ fit).reshape(field.shape), 0.05) - 1
    wide = ndimage.gaussian_filter1d(rest, flat.shape[1] / 6, axis=1)  # bands run along the rows of the detector
    bands = wide - ndimage.gaussian_filter1d(wide, 12, axis=0)
    slope = np.diff(bands, axis=0).std() / max(bands.std(), 1e-9)  # of a smoothed field: 1 / (sqrt(2) width)
    patches = ndimage.gaussian_filter(rest - bands, 3)
    return Beam(
        falloff=float(np.clip(-2 * fit[1], 0, 1)),
        band_spread=float(bands.std()),
        band_px=float(np.clip(1 / max(np.sqrt(2) * slope, 1e-3), 1, 20)),
        patch_spread=float(patches.std()),
    )
