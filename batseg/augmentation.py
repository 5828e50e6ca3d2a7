"""Augmentation of patches as torchio transforms; what torchio computes slowly is written anew with the same statistics.

Source: the paper names Gaussian noise, blur, contrast, brightness and affine on half of the data; the ranges are ours.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torchio
from scipy import ndimage
from torch.nn import functional
from torchio.transforms.augmentation import RandomTransform
from torchio.transforms.intensity_transform import IntensityTransform
from torchio.transforms.spatial_transform import SpatialTransform


def augment(
    transform: torchio.Transform, item: Mapping[str, torch.Tensor], rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """The transformed {"image": (channel, thin, a, b), "labels": (thin, a, b)}; the image may have no channel.

    torchio draws from torch's global generator: it is seeded from `rng` for the call and put back afterwards, so the
    result depends on `rng` alone, for torchio's own transforms as well.
    """
    images = {"image": torchio.ScalarImage(tensor=item["image"])} if len(item["image"]) else {}
    subject = torchio.Subject(labels=torchio.LabelMap(tensor=item["labels"][None]), **images)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))  # torch.manual_seed asks for GPUs: 1 ms
        subject = transform(subject)
    return {"image": subject["image"].data if images else item["image"], "labels": subject["labels"].data[0]}


def uniform(low: float, high: float) -> float:
    """A random number from torch's generator, as torchio's transforms draw theirs."""
    return float(low + (high - low) * torch.rand(()))


class AffineWarp(RandomTransform, SpatialTransform):
    """Rotation, scaling and shear about the patch centre; linear for images, nearest for labels.

    Same as torchio.RandomAffine (degrees, scales) inside the patch; at its border the patch is continued by reflection,
    image and labels alike, where torchio pads (with label 0). `shear` is dimensionless, off-diagonal.
    """

    def __init__(self, degrees: float = 15.0, scales: float = 0.1, shear: float = 0.05, **kwargs):
        super().__init__(copy=False, **kwargs)
        self.degrees, self.scales, self.shear = degrees, scales, shear

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        angles = np.radians([uniform(-self.degrees, self.degrees) for _ in range(3)])
        scales = np.array([uniform(1 - self.scales, 1 + self.scales) for _ in range(3)])
        shears = [uniform(-self.shear, self.shear) for _ in range(6)]
        grid = sampling_grid(subject.spatial_shape, affine_matrix(angles, scales, shears))
        for image in self.get_images(subject):
            image.set_data(warp(image.data, grid, nearest=isinstance(image, torchio.LabelMap)))
        return subject


def affine_matrix(angles_rad: Sequence[float], scales: Sequence[float], shears: Sequence[float]) -> np.ndarray:
    """Matrix (3, 3) from output to input offsets: the inverse of rotation x scaling x shear, in (z, y, x) order.

    Rotations follow SimpleITK's Euler angles, as in torchio: R = Rz Rx Ry about the third, first and second axis, with
    torchio's sign convention.
    """
    ax, ay, az = -angles_rad[0], -angles_rad[1], angles_rad[2]
    cos, sin = np.cos((ax, ay, az)), np.sin((ax, ay, az))
    rx = np.array([[1, 0, 0], [0, cos[0], -sin[0]], [0, sin[0], cos[0]]])
    ry = np.array([[cos[1], 0, sin[1]], [0, 1, 0], [-sin[1], 0, cos[1]]])
    rz = np.array([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    lps = np.diag((-1, -1, 1))
    rotation = lps @ rz @ rx @ ry @ lps
    shear = np.eye(3)
    shear[~np.eye(3, dtype=bool)] = shears
    return np.linalg.inv(np.diag(scales) @ rotation @ shear)


def sampling_grid(shape: Sequence[int], matrix: np.ndarray) -> torch.Tensor:
    """Where each output voxel reads: (1, z, y, x, 3) in torch's (x, y, z) order, -1 to 1, reflected at borders."""
    size = np.array(shape, float)
    theta = torch.zeros(1, 3, 4)
    theta[0, :, :3] = torch.from_numpy((matrix * size / size[:, None])[::-1, ::-1].copy())  # in half widths
    grid = functional.affine_grid(theta, (1, 1, *shape), align_corners=False)
    return grid.sub_(1).remainder_(4).sub_(2).abs_().sub_(1)


def warp(data: torch.Tensor, grid: torch.Tensor, nearest: bool) -> torch.Tensor:
    """data (channel, z, y, x) read at the grid; same type."""
    mode = "nearest" if nearest else "bilinear"
    warped = functional.grid_sample(data[None].float(), grid, mode, padding_mode="border", align_corners=False)
    return warped[0].to(data.dtype)


class Flip(RandomTransform, SpatialTransform):
    """Flips along each axis with probability 1/2, as torchio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5)."""

    def __init__(self, **kwargs):
        super().__init__(copy=False, **kwargs)

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        axes = [axis + 1 for axis in range(3) if torch.rand(()) < 0.5]
        for image in self.get_images(subject):
            image.set_data(image.data.flip(axes))
        return subject


class Blur(RandomTransform, IntensityTransform):
    """Gaussian blur, one standard deviation (voxels) per axis drawn from 0 to `std`, as torchio.RandomBlur(std)."""

    def __init__(self, std: float = 1.2, **kwargs):
        super().__init__(copy=False, **kwargs)
        self.std = std

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        std = [uniform(0, self.std) for _ in range(3)]
        for image in self.get_images(subject):
            image.set_data(blurred(image.data, std))
        return subject


def blurred(data: torch.Tensor, std: Sequence[float]) -> torch.Tensor:
    """Gaussian-filtered data (channel, z, y, x); std in voxels, kernel cut at 3 std, reflecting borders."""
    return torch.from_numpy(ndimage.gaussian_filter(data.numpy(), (0, *std), truncate=3.0))


class Contrast(RandomTransform, IntensityTransform):
    """Contrast and brightness: mean + gain * (value - mean) + offset.

    The gain lies in 1 +- `gain`; the offset in +- `offset` spreads (1 after normalisation) of the tomogram.
    """

    def __init__(self, gain: float = 0.25, offset: float = 0.2, **kwargs):
        super().__init__(copy=False, **kwargs)
        self.gain, self.offset = gain, offset

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        gain, offset = uniform(1 - self.gain, 1 + self.gain), uniform(-self.offset, self.offset)
        for image in self.get_images(subject):
            mean = image.data.mean(dim=(1, 2, 3), keepdim=True)
            image.set_data(image.data * gain + (mean * (1 - gain) + offset))
        return subject


class Noise(RandomTransform, IntensityTransform):
    """Gaussian noise of a standard deviation drawn from 0 to `std` spreads, as torchio.RandomNoise(std=(0, std))."""

    def __init__(self, std: float = 0.15, **kwargs):
        super().__init__(copy=False, **kwargs)
        self.std = std

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        std = uniform(0, self.std)
        for image in self.get_images(subject):
            image.set_data(image.data + std * torch.randn(image.data.shape))
        return subject
