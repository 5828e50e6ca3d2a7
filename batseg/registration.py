"""Ptychographic (PXCT) and x-ray microscopy (XTM) tomograms of one sample: rigid registration, joint segmentation.

PXCT measures the electron density, in which solid and pore differ clearly; XTM measures absorption, in which silicon
and the copper-stained binder differ from graphite. Source: paper, Fig. 3 and Methods (its thresholds are not given).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import binary_dilation, gaussian_filter, label, maximum_filter, minimum_filter
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
    Pore and solid part at half the density of graphite. Solid absorbs by its density: absorption over density parts
    graphite from silicon and binder, half way between the two groups (Otsu). Silicon is dense and even, the binder
    holds copper grains and fine pores: silicon grows, over at most 3 voxels of absorbing solid, from where the extremes
    of the density over 5 PXCT voxels stay near silicon's. Source: thresholds in two contrasts, paper, Fig. 3; the rule
    for silicon against binder is ours.
    """
    values = np.where(inside, density.array, 0).astype(np.float32)
    even = gaussian_filter(values, 1)
    back = transform.inverse()
    maps = (values, minimum_filter(even, 5), maximum_filter(even, 5), inside.astype(np.float32))
    solid_density, low, high, covered = (resample(Volume(m, density.voxel_nm), back, xtm, outside=0.0) for m in maps)
    absorption = gaussian_filter(np.asarray(xtm.array, np.float32), 1.5)
    reached = covered > 0.99
    if reached.sum() < 1000:
        raise ValueError("the registered tomograms hardly overlap: check voxel sizes and the mask of the PXCT volume")

    measured = solid_density[reached]
    pore_below = 0.5 * _mode(measured[measured > threshold_otsu(measured)])
    smooth = gaussian_filter(solid_density, 0.7)
    ratio = absorption / np.maximum(smooth, 1e-6)
    interior = reached & (low > pore_below)
    split = threshold_otsu(np.clip(ratio[interior], *np.percentile(ratio[interior], (1, 99))))
    graphite_ratio, dense_ratio = (
        np.median(ratio[interior & (ratio <= split)]),
        np.median(ratio[interior & (ratio > split)]),
    )
    absorbing_above = 0.5 * (graphite_ratio + dense_ratio)
    solid = solid_density > pore_below
    absorbing = solid & (absorption > absorbing_above * smooth)
    silicon_density = _mode(solid_density[interior & absorbing])

    core = absorbing & (high < 1.14 * silicon_density) & (low > 0.62 * silicon_density)
    core = _without_specks(core, 30)
    silicon = binary_dilation(core, iterations=3, mask=absorbing & (solid_density < 1.23 * silicon_density))
    silicon = absorbing & (gaussian_filter(silicon.astype(np.float32), 1) > 0.5)
    labels = np.full(solid.shape, PORE, np.uint8)
    labels[solid] = GRAPHITE
    labels[absorbing] = CBD
    labels[silicon] = SILICON
    labels[~reached] = NOT_LABELLED
    thresholds = {
        "pore_below_density": float(pore_below),
        "absorbing_above_ratio": float(absorbing_above),
        "graphite_ratio": float(graphite_ratio),
        "silicon_density": float(silicon_density),
    }
    return labels, thresholds


def _mode(values: np.ndarray) -> float:
    """Most frequent value, read from a smoothed histogram."""
    counts, edges = np.histogram(values, 200, np.percentile(values, (0.5, 99.5)))
    best = int(np.argmax(gaussian_filter(counts.astype(float), 3)))
    return float((edges[best] + edges[best + 1]) / 2)


def _without_specks(mask: np.ndarray, least: int) -> np.ndarray:
    """Mask without face-connected parts of `least` voxels or fewer."""
    parts, _ = label(mask)
    return mask & (np.bincount(parts.ravel()) > least)[parts]


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
