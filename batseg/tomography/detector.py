"""Beam and detector: structured illumination that drifts, flickering background, scratches, noise, bad pixels, zingers.

Every function draws its own randomness from `rng`. Fields are relative (mean 1), images are in counts.
"""

from dataclasses import dataclass

import numpy as np

from batseg.tomography.fields import smooth_field

LARGEST_COUNT = 65535


@dataclass(frozen=True)
class Beam:
    """Illumination. Spreads are standard deviations relative to the mean; lengths are in pixels."""

    falloff: float = 0.2  # loss from the centre to the corner of the field
    band_spread: float = 0.06  # horizontal bands, as a multilayer monochromator makes them
    band_px: float = 2.5
    patch_spread: float = 0.02  # smooth patches
    patch_px: float = 12.0
    drift_spread: float = 0.006  # smooth change between the flats before and the flats after the scan
    drift_px: float = 10.0
    shift_px: float = 0.03  # vertical movement of the beam from frame to frame, which moves the bands
    shift_drift_px: float = 0.06  # the same from the first flats to the last
    flux_spread: float = 0.006  # from frame to frame
    cloud_spread: float = 0.03  # smooth background, mixed anew in every frame
    cloud_px: float = 10.0  # its correlation; each mode has its own, up to twice as long or short
    cloud_modes: int = 12  # how many fixed patterns it is mixed from: what the optics can do
    flat_cloud_share: float = 0.35  # the same in flats, as a share of `cloud_spread`


@dataclass(frozen=True)
class Detector:
    """Detector. Counts are what the camera writes; `photons` is what arrives per pixel and frame on average."""

    counts: float = 3300.0
    photons: float = 20000.0
    dark_counts: float = 100.0
    read_noise: float = 2.5
    pixel_spread: float = 0.01  # fixed response of the pixels, removed by the flats
    ring_spread: float = 0.0  # response error of pixels that the flats do not show
    scratches: float = 3.0  # mean number of scratches of the scintillator
    scratch_depth: float = 0.05
    scratch_drift: float = 0.01  # change of a scratch's depth over the scan: what flats leave behind
    dead_fraction: float = 6e-4
    hot_fraction: float = 3e-4
    zingers_per_frame: float = 0.6
    zinger_counts: float = 5000.0


def illumination(shape: tuple[int, int], beam: Beam, rng: np.random.Generator) -> np.ndarray:
    """Mean illumination (row, column), float32, mean 1: fall-off, bands, patches."""
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in shape)
    centre = rng.uniform(-0.3, 0.3, 2)
    profile = 1 - beam.falloff / 2 * ((y[:, None] - centre[0]) ** 2 + (x - centre[1]) ** 2)
    # Bands keep their height but change their strength across the field.
    bands = smooth_field((shape[0], shape[1]), (beam.band_px, shape[1] / 3), rng)
    patches = smooth_field(shape, (beam.patch_px, beam.patch_px), rng)
    field = profile * np.exp(beam.band_spread * bands + beam.patch_spread * patches)
    return (field / field.mean()).astype(np.float32)


def cloud_modes(shape: tuple[int, int], beam: Beam, rng: np.random.Generator) -> np.ndarray:
    """The fixed patterns (mode, row, column) of which the background of every frame is mixed, float32.

    A sum of all with standard normal weights has the standard deviation `cloud_spread`. Few patterns, because the
    illumination changes by movements of a few optical elements; this is what dynamic flat fields rely on.
    """
    lengths = beam.cloud_px * 2 ** rng.uniform(-1, 1, beam.cloud_modes)
    modes = [smooth_field(shape, (length, length), rng) for length in lengths]
    return np.float32(beam.cloud_spread / np.sqrt(max(len(modes), 1))) * np.array(modes).reshape(-1, *shape)


def frames_of_light(
    times: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    modes: np.ndarray,
    beam: Beam,
    rng: np.random.Generator,
    share: float = 1.0,
) -> np.ndarray:
    """Illumination (frame, row, column), float32, mean about 1, of frames at `times` (0 first, 1 last of the scan).

    Between the illumination `before` and `after`: flux, movement of the beam, and clouds mixed from the `modes` with
    `share` of their spread.
    """
    count = len(times)
    draws = rng.standard_normal((count, 2 + len(modes)), dtype=np.float32)
    light = np.tensordot(np.float32(share) * draws[:, 2:], modes, axes=1)
    late = np.asarray(times, np.float32)
    movement = np.float32(beam.shift_px) * draws[:, 0] + np.float32(beam.shift_drift_px) * (late - np.float32(0.5))
    slope = np.gradient(np.log(before), axis=0)
    light += 1 + (np.float32(beam.flux_spread) * draws[:, 1])[:, None, None] + movement[:, None, None] * slope
    light *= before + late[:, None, None] * (after - before)
    return np.maximum(light, 0.02, out=light)


def scratch_map(shape: tuple[int, int], mean_number: float, rng: np.random.Generator) -> np.ndarray:
    """Straight scratches (row, column), float32: values in -1..1 on thin lines, 0 elsewhere."""
    field = np.zeros(shape, np.float32)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    for _ in range(rng.poisson(mean_number)):
        tilt = rng.normal(0, 0.4)
        offset = columns - rng.uniform(0, shape[1]) - np.tan(tilt) * (rows - shape[0] / 2)
        width = rng.uniform(0.3, 0.8)
        field += rng.choice([-1, 1]) * rng.uniform(0.4, 1) * np.exp(-0.5 * (offset * np.cos(tilt) / width) ** 2)
    return np.clip(field, -1, 1)


@dataclass(frozen=True)
class Response:
    """The fixed faults of one detector: response (row, column) at time 0, its change over the scan, bad pixels."""

    gain: np.ndarray
    change: np.ndarray
    hidden: np.ndarray
    dead: np.ndarray
    hot_counts: np.ndarray


def draw_response(shape: tuple[int, int], detector: Detector, rng: np.random.Generator) -> Response:
    """Draw scratches, pixel response and bad pixels of a detector."""
    scratches = scratch_map(shape, detector.scratches, rng)
    gain = 1 + detector.pixel_spread * rng.standard_normal(shape, dtype=np.float32) + detector.scratch_depth * scratches
    hidden = 1 + detector.ring_spread * rng.standard_normal(shape, dtype=np.float32)
    dead = rng.random(shape) < detector.dead_fraction
    hot = rng.random(shape) < detector.hot_fraction
    hot_counts = np.where(hot, rng.uniform(0.1, 1.0, shape) * detector.counts, 0).astype(np.float32)
    return Response(gain, detector.scratch_drift * scratches, hidden, dead, hot_counts)


def expose(
    relative: np.ndarray, times: np.ndarray, detector: Detector, response: Response, rng: np.random.Generator
) -> np.ndarray:
    """Frames as the camera writes them, uint16, from relative intensities (frame, row, column).

    Photon noise is Poisson (as a normal distribution above 50 photons, where the two cannot be told apart), read noise
    normal; then come dead and hot pixels and zingers. `times` run from 0 (first frame of the scan) to 1 (last).
    """
    frames = len(relative)
    gain = response.gain + (np.asarray(times, np.float32)[:, None, None] - 0.5) * response.change
    photons = relative * gain * np.float32(detector.photons)
    if photons.size and photons.min() > 50:
        photons += np.sqrt(photons) * rng.standard_normal(photons.shape, dtype=np.float32)
    else:
        photons = rng.poisson(np.maximum(photons, 0)).astype(np.float32)
    counts = photons * np.float32(detector.counts / detector.photons) * ~response.dead
    counts += rng.standard_normal(counts.shape, dtype=np.float32) * np.float32(detector.read_noise)
    counts += np.float32(detector.dark_counts) + response.hot_counts
    hits = rng.poisson(detector.zingers_per_frame * frames)
    struck = rng.integers(0, counts.size, hits)
    counts.ravel()[struck] += rng.exponential(detector.zinger_counts, hits)
    return np.clip(np.round(counts), 0, LARGEST_COUNT).astype(np.uint16)
