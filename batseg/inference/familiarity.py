"""Is a tomogram like those the network was trained on? Grey histogram, power spectrum, resolution, voxel size.

A network says something about any volume; where a tomogram is unlike its training data the answer is worth less. All
measures are ours, taken on the normalised image inside the sample, so that brightness and contrast play no part.
"""

from collections.abc import Mapping, Sequence

import numpy as np

EDGES = np.linspace(-5, 5, 81)
EDGE = 48
CUBES = 24
BANDS = 16
LIMITS = {"grey histogram": 0.25, "power spectrum": 0.35, "resolution": 0.4, "voxel size": 0.10}
"""How far apart tomograms may be without a remark: spreads, decades (root mean square), voxels, natural logarithm."""


def describe(image: np.ndarray, mask: np.ndarray | None = None, voxel_nm: float | None = None) -> dict:
    """Descriptor of a normalised image (z, y, x), which may lie on disk; plain lists and numbers.

    histogram : shares of voxels in 80 bins from -5 to 5 spreads. spectrum : log10 of the radially averaged power, from
    the lowest frequency to Nyquist in 16 bands, relative to their mean. blur : standard deviation in voxels of the
    Gaussian that blurs the interfaces, see `edge_blur`.
    """
    cubes = sample_cubes(image, mask)
    counts = sum(np.histogram(np.clip(cube, EDGES[0], EDGES[-1]), EDGES)[0] for cube in cubes)
    power = np.mean([radial_power(cube) for cube in cubes], axis=0)
    spectrum = np.log10(np.maximum(power, 1e-12))
    return {
        "histogram": (counts / counts.sum()).tolist(),
        "spectrum": (spectrum - spectrum.mean()).tolist(),
        "blur": edge_blur(power),
        "voxel_nm": voxel_nm,
    }


def sample_cubes(image: np.ndarray, mask: np.ndarray | None = None) -> list[np.ndarray]:
    """At most 24 cubes of 48^3 (or what fits) on a regular grid, those that lie most in the mask."""
    edges = [min(EDGE, length) for length in image.shape]
    starts = [np.unique(np.linspace(0, length - edge, 6).astype(int)) for length, edge in zip(image.shape, edges)]
    places = [(z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]]
    chosen = [tuple(slice(start, start + edge) for start, edge in zip(place, edges)) for place in places]
    if mask is not None:
        cover = [np.asarray(mask[place]).mean() for place in chosen]
        chosen = [place for place, share in zip(chosen, cover) if share == max(cover)]
    chosen = [chosen[i] for i in np.unique(np.linspace(0, len(chosen) - 1, min(CUBES, len(chosen))).astype(int))]
    return [filled(np.asarray(image[place]), None if mask is None else np.asarray(mask[place])) for place in chosen]


def filled(cube: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """The cube with the mean of what is inside in place of what is not."""
    if inside is None or inside.all():
        return cube
    return np.where(inside, cube, cube[inside].mean() if inside.any() else 0).astype(cube.dtype)


def radial_power(cube: np.ndarray) -> np.ndarray:
    """Mean power per radial band, 0 to Nyquist, of a cube under a Hann window."""
    window = 1.0
    for axis, length in enumerate(cube.shape):
        shape = [1] * 3
        shape[axis] = length
        window = window * np.hanning(length + 2)[1:-1].reshape(shape)
    power = np.abs(np.fft.fftn((cube - cube.mean()) * window)) ** 2 / (window**2).sum()
    radius = np.sqrt(
        sum(np.fft.fftfreq(n).reshape([-1 if i == a else 1 for i in range(3)]) ** 2 for a, n in enumerate(cube.shape))
    )
    band = np.minimum((radius / 0.5 * BANDS).astype(int), BANDS).ravel()
    counts = np.bincount(band, minlength=BANDS + 1)[:BANDS]
    return np.bincount(band, power.ravel(), BANDS + 1)[:BANDS] / np.maximum(counts, 1)


def edge_blur(power: np.ndarray) -> float:
    """Standard deviation (voxels) of the Gaussian that blurs sharp interfaces, from radial power in equal bands.

    The power of sharp interfaces falls as f^-4 (Porod's law), that of blurred ones as f^-4 exp(-(2 pi blur f)^2): a
    line through log(power f^4) over f^2, where the power is above the noise floor. 0 if too few bands are.
    """
    frequency = 0.5 * (np.arange(len(power)) + 0.5) / len(power)
    signal = power - power[-3:].min()
    clear = (signal > power[-3:].min()) & (frequency > 0.05)
    if clear.sum() < 3:
        return 0.0
    slope = np.polyfit(frequency[clear] ** 2, np.log(signal[clear] * frequency[clear] ** 4), 1)[0]
    return float(np.sqrt(max(0.0, -slope)) / (2 * np.pi))


def distances(one: Mapping, other: Mapping) -> dict[str, float]:
    """How far two descriptors are apart, in the units of LIMITS; the voxel size only where both know it."""
    cumulative = np.cumsum(np.subtract(one["histogram"], other["histogram"]))
    apart = {
        "grey histogram": float(np.abs(cumulative).sum() * (EDGES[1] - EDGES[0])),  # Wasserstein distance
        "power spectrum": float(np.sqrt(np.mean(np.subtract(one["spectrum"], other["spectrum"]) ** 2))),
        "resolution": abs(one["blur"] - other["blur"]),
    }
    if one.get("voxel_nm") and other.get("voxel_nm"):
        apart["voxel size"] = float(abs(np.log(one["voxel_nm"] / other["voxel_nm"])))
    return apart


def warnings(described: Mapping, familiar: Sequence[Mapping]) -> list[str]:
    """One line per measure in which a tomogram is unlike every training tomogram; empty where all is well.

    The limit is LIMITS, or the largest distance of a training tomogram to its nearest neighbour where that is more.
    """
    lines = []
    for measure, limit in LIMITS.items():
        apart = [distances(described, other).get(measure) for other in familiar]
        apart = [value for value in apart if value is not None]
        if not apart:
            continue
        among = [
            min(distances(one, other).get(measure, 0) for j, other in enumerate(familiar) if j != i)
            for i, one in enumerate(familiar)
            if len(familiar) > 1
        ]
        allowed = max([limit, *among])
        if min(apart) > allowed:
            lines.append(
                f"{measure} differs by {min(apart):.2f} from the nearest training tomogram (limit {allowed:.2f})"
            )
    return lines
