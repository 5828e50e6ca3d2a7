"""Ptychographic (PXCT) and x-ray microscopy (XTM) tomograms of one sample: rigid registration, joint segmentation.

PXCT measures the electron density, in which solid and pore differ clearly; XTM measures absorption, in which silicon
and the copper-stained binder differ from graphite. Source: paper, Fig. 3 and Methods (its thresholds are not given).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import (
    binary_dilation,
    binary_erosion,
    distance_transform_edt,
    gaussian_filter,
    gaussian_laplace,
    label,
    maximum_filter,
    minimum_filter,
)
from skimage.filters import threshold_otsu

from batseg.phases import CBD, GRAPHITE, NOT_LABELLED, PORE, SILICON
from batseg.volumes import Volume


@dataclass(frozen=True)
class RigidTransform:
    """Where a point of the fixed tomogram lies in the moving one: matrix (3, 3) @ point + offset, in nm, (z, y, x).

    Points are measured from the centre of the first voxel. `similarity` is the mutual information reached (nats).
    """

    matrix: np.ndarray
    offset_nm: np.ndarray
    similarity: float = float("nan")

    @property
    def angle_deg(self) -> float:
        """Angle of the rotation."""
        return float(np.rad2deg(np.arccos(np.clip((np.trace(self.matrix) - 1) / 2, -1, 1))))

    def apply(self, points_nm: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the fixed tomogram in the moving one's frame."""
        return points_nm @ self.matrix.T + self.offset_nm

    def inverse(self) -> "RigidTransform":
        """The way back."""
        return RigidTransform(self.matrix.T, -self.matrix.T @ self.offset_nm, self.similarity)


def register(
    fixed: Volume,
    moving: Volume,
    mask: np.ndarray | None = None,
    shrink: Sequence[int] = (4, 2, 1),
    tilts_deg: Sequence[float] = (0.0,),
    samples: float = 0.3,
    seed: int = 1,
) -> RigidTransform:
    """Rigid transform from the fixed to the moving tomogram that maximises Mattes' mutual information.

    Coarse to fine over `shrink`; rotations about the tomograms' centres start from every combination of `tilts_deg`
    about z, y and x. Only voxels of `fixed` inside `mask` count. Voxel sizes may differ, values need not resemble.
    """
    fixed_image, moving_image = (_image(volume) for volume in (fixed, moving))
    centre = _centre_of(fixed_image, mask)
    target = _centre_of(moving_image, None)
    best = None
    for angles in np.array(np.meshgrid(*[np.deg2rad(tilts_deg)] * 3)).reshape(3, -1).T:
        start = sitk.Euler3DTransform(centre)
        start.SetRotation(*(float(angle) for angle in angles))
        start.SetTranslation([b - a for a, b in zip(centre, target)])
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(48)
        method.SetMetricSamplingStrategy(method.REGULAR if samples >= 1 else method.RANDOM)
        method.SetMetricSamplingPercentage(samples, seed)
        method.SetInterpolator(sitk.sitkLinear)
        if mask is not None:
            inside = sitk.GetImageFromArray(mask.astype(np.uint8))
            inside.CopyInformation(fixed_image)
            method.SetMetricFixedMask(inside)
        step = 2 * fixed.voxel_nm / 1000
        method.SetOptimizerAsRegularStepGradientDescent(step, step / 500, 200, 0.6, 1e-8)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel(list(shrink))
        method.SetSmoothingSigmasPerLevel([factor / 2 for factor in shrink])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
        method.SetInitialTransform(start, inPlace=True)
        try:
            method.Execute(fixed_image, moving_image)
        except RuntimeError:  # this start leaves the other tomogram: another may not
            continue
        value = -method.GetMetricValue()
        if best is None or value > best[0]:
            best = value, sitk.Euler3DTransform(start)
    if best is None:
        raise ValueError(f"the tomograms {fixed.shape} and {moving.shape} do not overlap: are the voxel sizes right?")
    return _from_sitk(best[1], best[0])


def resample(moving: Volume, transform: RigidTransform, onto: Volume, outside: float = np.nan) -> np.ndarray:
    """Moving tomogram on the grid of `onto`, `transform` leading from there into it; float32, linear.

    Where voxels of the moving tomogram are smaller it is smoothed to the coarser grid first; `outside` where it ends.
    """
    array = np.asarray(moving.array, np.float32)
    ratio = onto.voxel_nm / moving.voxel_nm
    if ratio > 1:
        array = gaussian_filter(array, 0.42 * np.sqrt(ratio**2 - 1))
    image = _image(Volume(array, moving.voxel_nm))
    reference = sitk.Image([int(n) for n in onto.shape[::-1]], sitk.sitkFloat32)
    reference.SetSpacing([onto.voxel_nm / 1000] * 3)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(transform.matrix[::-1, ::-1].ravel().tolist())
    affine.SetTranslation((transform.offset_nm[::-1] / 1000).tolist())
    result = sitk.Resample(image, reference, affine, sitk.sitkLinear, float(np.float32(-1e30)), sitk.sitkFloat32)
    values = sitk.GetArrayFromImage(result)
    values[values < -1e29] = outside
    return values


def combine(density: Volume, xtm: Volume, transform: RigidTransform, inside: np.ndarray) -> tuple[np.ndarray, dict]:
    """Four-phase labels (uint8) on the XTM grid from both contrasts, 255 where PXCT ends, and the thresholds used.

    `density` is the PXCT tomogram and `inside` (same shape) its valid part, `transform` leads from it into `xtm`.
    Decided in turn: solid by the density, half way between pore and graphite (for dense solid: 0.65 of its own local
    density); silicon and binder against graphite by absorption over density (`_dense_solid`, on the XTM grid); silicon
    against binder by the evenness of the density (`_silicon`). The first and last are decided on the finer PXCT grid;
    each XTM voxel gets the phase that fills most of it. Source: grey values of two contrasts, paper, Fig. 3; its rules
    are not given, these are ours.
    """
    values = np.where(inside, density.array, 0).astype(np.float32)
    back = transform.inverse()

    def down(array: np.ndarray) -> np.ndarray:
        return resample(Volume(array.astype(np.float32), density.voxel_nm), back, xtm, outside=0.0)

    reached = down(inside) > 0.99
    if reached.sum() < 1000:
        raise ValueError("the registered tomograms hardly overlap: check voxel sizes and the mask of the PXCT volume")
    coarse = down(values)
    measured = coarse[reached]
    pore_below = 0.5 * _mode(measured[measured > threshold_otsu(measured)])
    dense, ratios = _dense_solid(coarse, np.asarray(xtm.array, np.float32), reached, pore_below)
    # Solid voxels alone decide whether a finer voxel at their rim is dense.
    solid = (coarse > pore_below) & reached
    share = _local_mean(dense.astype(np.float32), solid, 0.7)
    dense = (values > pore_below) & (resample(Volume(share, xtm.voxel_nm), transform, density, outside=0.0) > 0.5)
    thin = dense & (values < 0.65 * _local_mean(values, dense, 2))
    solid, dense = (values > pore_below) & ~thin, dense & ~thin

    silicon, silicon_density = _silicon(values, solid, dense)
    fine = np.where(silicon, SILICON, np.where(dense, CBD, np.where(solid, GRAPHITE, PORE)))
    labels, most = np.zeros(xtm.shape, np.uint8), np.full(xtm.shape, -1, np.float32)
    for phase in (PORE, GRAPHITE, SILICON, CBD):
        filled = down(fine == phase)
        labels[filled > most] = phase
        most = np.maximum(most, filled)
    labels[~reached] = NOT_LABELLED
    return labels, {"pore_below_density": float(pore_below), **ratios, "silicon_density": silicon_density}


def _dense_solid(
    density: np.ndarray, absorption: np.ndarray, reached: np.ndarray, pore_below: float
) -> tuple[np.ndarray, dict]:
    """Solid of silicon or binder (bool) by its absorption per density, all on one grid, and the ratios found.

    The edge contrast of XTM is what the density's curvature predicts: its weights are fitted where all is pore or
    graphite and it is taken off. Then each solid voxel's absorption is compared with ratio times density of either
    kind; ratios and variances are estimated along with the classes (EM), neighbours pull each other (`_settle`).
    """
    smooth = gaussian_filter(density, 0.75)
    ratio = gaussian_filter(absorption, 1.5) / np.maximum(smooth, 0.3 * pore_below)
    solid = reached & (density > pore_below)
    light, heavy = _two_groups(ratio[solid])
    plain = reached & ~binary_dilation(solid & (ratio > 0.5 * (light + heavy)), iterations=3)
    if plain.sum() > 1000:
        curvatures = [gaussian_laplace(density, scale) for scale in (0.5, 0.8, 1.2, 2.0)]
        terms = np.stack([np.ones(plain.sum()), density[plain], *(c[plain] for c in curvatures)], axis=1)
        weights = np.linalg.lstsq(terms, absorption[plain], rcond=None)[0].astype(np.float32)
        absorption = absorption - weights[0] - sum(w * c for w, c in zip(weights[2:], curvatures))

    ratio = _local_mean(absorption, solid, 2) / np.maximum(_local_mean(density, solid, 2), 0.3 * pore_below)
    light, heavy = _two_groups(ratio[solid])
    share = (solid & (ratio > 0.5 * (light + heavy))).astype(np.float32)
    a, d = absorption[solid], density[solid]
    for _ in range(10):
        found = []
        for weight in (1 - share[solid], share[solid]):
            slope = float((weight * a * d).sum() / (weight * d * d).sum())
            found.append((slope, float((weight * (a - slope * d) ** 2).sum() / weight.sum())))
        (light, noise), (heavy, spread) = found
        evidence = np.zeros_like(density)
        evidence[solid] = 0.5 * ((a - light * d) ** 2 / noise - (a - heavy * d) ** 2 / spread + np.log(noise / spread))
        share = _settle(0.5 * evidence, solid, width=1.0, pull=3, start=share)
    between = 0.5 * (light + heavy)
    return share > 0.5, {"absorbing_above_ratio": between, "graphite_ratio": light, "dense_ratio": heavy}


def _silicon(density: np.ndarray, solid: np.ndarray, dense: np.ndarray) -> tuple[np.ndarray, float]:
    """Silicon within the dense solid (bool) and its density, on the PXCT grid.

    Each particle of silicon has one density; the binder's changes with its copper and fine pores. A particle's core is
    where the extremes over 5 voxels stay near silicon's density; up to 4.5 voxels around, a voxel joins it if its
    density fits the particle's better than the binder's spread (both measured), its neighbours having their say.
    """
    even = gaussian_filter(density, 1)
    typical = _mode(even[dense & binary_erosion(solid, iterations=2)])
    steady = (minimum_filter(even, 5) > 0.62 * typical) & (maximum_filter(even, 5) < 1.14 * typical)
    cores, _ = label(dense & steady)
    sizes = np.bincount(cores.ravel())
    cores[(sizes <= 100)[cores]] = 0
    distance, nearest = distance_transform_edt(cores == 0, return_indices=True)
    beyond = dense & (distance > 4.5)
    if not cores.any() or not beyond.any():
        return dense & (distance <= 4.5) & bool(cores.any()), typical
    mean = np.bincount(cores.ravel(), even.ravel()) / np.maximum(np.bincount(cores.ravel()), 1)
    # Against what solid of the particle's density would show here, blurred by the tomogram (one voxel) and `even`.
    left = even - mean[cores[tuple(nearest)]] * gaussian_filter(solid.astype(np.float32), np.sqrt(2))
    noise, spread = (float((left[part] ** 2).mean()) for part in (cores > 0, beyond))
    evidence = np.clip(0.5 * (np.log(spread / noise) - left**2 * (1 / noise - 1 / spread)), -8, 8)
    evidence = np.where(cores > 0, 20, np.where(distance > 4.5, -20, 0.3 * evidence - 0.25))
    return _settle(evidence, dense, width=1.5, pull=4, rounds=12) > 0.5, typical


def _settle(
    evidence: np.ndarray,
    mask: np.ndarray,
    width: float,
    pull: float,
    rounds: int = 1,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Probability of one of two classes in the mask: log odds of the voxel and `pull` times its neighbours' mean.

    Mean field of a Markov random field whose neighbours weigh by a Gaussian of `width` voxels.
    """
    share = mask / (1 + np.exp(-np.clip(evidence, -30, 30))) if start is None else start
    for _ in range(rounds):
        odds = evidence + pull * (2 * _local_mean(share, mask, width) - 1)
        share = mask / (1 + np.exp(-np.clip(odds, -30, 30)))
    return share.astype(np.float32)


def _local_mean(values: np.ndarray, mask: np.ndarray, width: float) -> np.ndarray:
    """Gaussian mean of the values within the mask."""
    weight = mask.astype(np.float32)
    return gaussian_filter(values * weight, width) / np.maximum(gaussian_filter(weight, width), 1e-3)


def _two_groups(values: np.ndarray) -> tuple[float, float]:
    """Medians of the values below and above Otsu's threshold."""
    split = threshold_otsu(np.clip(values, *np.percentile(values, (1, 99))))
    return float(np.median(values[values <= split])), float(np.median(values[values > split]))


def _mode(values: np.ndarray) -> float:
    """Most frequent value, read from a smoothed histogram."""
    counts, edges = np.histogram(values, 200, np.percentile(values, (0.5, 99.5)))
    best = int(np.argmax(gaussian_filter(counts.astype(float), 3)))
    return float((edges[best] + edges[best + 1]) / 2)


def _image(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(np.asarray(volume.array, np.float32))
    image.SetSpacing([volume.voxel_nm / 1000] * 3)  # micrometres: steps and gradients of ordinary size
    return image


def _centre_of(image: sitk.Image, mask: np.ndarray | None) -> list[float]:
    """Centre (x, y, z) of the volume, or of the mask, in micrometres."""
    if mask is None or not mask.any():
        return [(n - 1) / 2 * step for n, step in zip(image.GetSize(), image.GetSpacing())]
    return [float(np.mean(place)) * step for place, step in zip(np.nonzero(mask)[::-1], image.GetSpacing())]


def _from_sitk(transform: sitk.Euler3DTransform, similarity: float) -> RigidTransform:
    """(x, y, z) in micrometres about a centre to (z, y, x) in nm about the first voxel."""
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    centre, shift = np.array(transform.GetCenter()), np.array(transform.GetTranslation())
    offset = shift + centre - matrix @ centre
    return RigidTransform(matrix[::-1, ::-1].copy(), 1000 * offset[::-1], float(similarity))
