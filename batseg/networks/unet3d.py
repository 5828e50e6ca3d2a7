"""3D U-Net of the paper: a same-padded port of the ACDC network, in both of its poolings.

The thin axis of a patch comes first: (batch, channel, thin, a, b). Source: paper, Results, 'DL-based segmentation';
Baumgartner et al. 2017 (arXiv 1709.04496) and its public TensorFlow code (unet3D_bn and unet3D_bn_modified).

Differences from that code, which is silent on how 256 x 256 x 48 fits its valid convolutions: every convolution is
same-padded, and a transposed convolution has one tap instead of two along an axis that it does not scale.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

POOLINGS = {
    "thin": ((1, 2, 2), (1, 2, 2), (2, 2, 2)),  # unet3D_bn_modified: the thin axis is halved once
    "isotropic": ((2, 2, 2), (2, 2, 2), (2, 2, 2)),  # unet3D_bn
}

Norm = Callable[[int], nn.Module]
NORMS: dict[str, Norm] = {
    "batch": partial(nn.BatchNorm3d, eps=1e-3, momentum=0.01),  # the decay 0.99 of the ACDC code
    "batch_fast": partial(nn.BatchNorm3d, eps=1e-3, momentum=0.1),  # for runs of a few hundred steps
    "instance": partial(nn.InstanceNorm3d, eps=1e-5, affine=True),
}


class Block(nn.Module):
    """Two times convolution (3 x 3 x 3, no bias), norm, ReLU; `residual` adds a 1 x 1 x 1 projection of the input."""

    def __init__(self, channels_in: int, channels_mid: int, channels_out: int, norm: Norm, residual: bool = False):
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, channels_mid, 3, padding=1, bias=False)
        self.norm1 = norm(channels_mid)
        self.conv2 = nn.Conv3d(channels_mid, channels_out, 3, padding=1, bias=False)
        self.norm2 = norm(channels_out)
        self.shortcut = nn.Conv3d(channels_in, channels_out, 1, bias=False) if residual else None
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return self.activation(y)


class Up(nn.Module):
    """Transposed convolution that undoes one pooling (four taps along a scaled axis, one along others), norm, ReLU."""

    def __init__(self, channels: int, scale: Sequence[int], norm: Norm):
        super().__init__()
        kernel = tuple(4 if factor == 2 else 1 for factor in scale)
        padding = tuple(1 if factor == 2 else 0 for factor in scale)
        self.conv = nn.ConvTranspose3d(channels, channels, kernel, stride=tuple(scale), padding=padding, bias=False)
        self.norm = norm(channels)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class UNet3D(nn.Module):
    """(batch, in_channels, thin, a, b) -> logits (batch, phases, thin, a, b).

    Parameters
    ----------
    width : channels of the first convolution; 32 is the published ACDC network (34.4 M parameters with `thin`).
    pooling : 'thin' halves the thin axis once, 'isotropic' three times; a and b are halved three times in both.
    norm : 'batch' (published), 'batch_fast' (statistics that settle in tens of steps) or 'instance'.
    deep_supervision : in training, return a tuple of logits, full resolution first, then 1/2 and 1/4.
    """

    def __init__(
        self,
        in_channels: int = 1,
        phases: int = 4,
        width: int = 16,
        pooling: str = "thin",
        norm: str = "batch",
        residual: bool = False,
        deep_supervision: bool = False,
    ):
        super().__init__()
        if pooling not in POOLINGS or norm not in NORMS:
            raise ValueError(
                f"UNet3D knows pooling {', '.join(POOLINGS)} and norm {', '.join(NORMS)}; got {pooling!r} and {norm!r}"
            )
        if width < 1:
            raise ValueError(f"UNet3D width must be 1 or more, got {width}")
        scales, make = POOLINGS[pooling], NORMS[norm]
        w = width
        self.in_channels, self.phases, self.deep_supervision = in_channels, phases, deep_supervision
        self.divisor = tuple(math.prod(axis) for axis in zip(*scales))
        self.pools = nn.ModuleList(nn.MaxPool3d(scale) for scale in scales)
        self.encoder = nn.ModuleList(
            [
                Block(in_channels, w, 2 * w, make, residual),
                Block(2 * w, 2 * w, 4 * w, make, residual),
                Block(4 * w, 4 * w, 8 * w, make, residual),
                Block(8 * w, 8 * w, 16 * w, make, residual),
            ]
        )
        deep = (16 * w, 8 * w, 4 * w)  # channels that arrive at each up-scaling, deepest first
        self.ups = nn.ModuleList(Up(channels, scale, make) for channels, scale in zip(deep, scales[::-1]))
        self.decoder = nn.ModuleList(
            Block(channels + channels // 2, channels // 2, channels // 2, make, residual) for channels in deep
        )
        self.head = _head(2 * w, phases, norm)
        self.side_heads = nn.ModuleList(
            [_head(4 * w, phases, norm), _head(8 * w, phases, norm)][: 2 * deep_supervision]
        )
        self.apply(_he_normal)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        if any(length % factor for length, factor in zip(image.shape[2:], self.divisor)):
            raise ValueError(f"patch {tuple(image.shape[2:])} must be a multiple of {self.divisor} along its axes")
        skips, x = [], image
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pools[level - 1](x))
            skips.append(x)
        outputs = []
        for up, block, skip in zip(self.ups, self.decoder, skips[-2::-1]):
            x = block(torch.cat([up(x), skip], dim=1))
            outputs.append(x)
        logits = self.head(x)
        if not (self.deep_supervision and self.training):
            return logits
        return (logits, *(head(y) for head, y in zip(self.side_heads, outputs[-2::-1])))


def _head(channels: int, phases: int, norm: str) -> nn.Module:
    """1 x 1 x 1 convolution to logits; with batch norm on the logits, as published, or a bias with instance norm."""
    if norm == "instance":  # would erase each patch's mean logit, and with it the phase fractions
        return nn.Conv3d(channels, phases, 1)
    return nn.Sequential(nn.Conv3d(channels, phases, 1, bias=False), NORMS[norm](phases))


def _he_normal(layer: nn.Module) -> None:
    """He-normal weights (fan-in), as in the ACDC code."""
    if isinstance(layer, nn.Conv3d):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    elif isinstance(layer, nn.ConvTranspose3d):
        taps = layer.weight[0, 0].numel() / math.prod(layer.stride)  # taps that reach one output
        nn.init.normal_(layer.weight, std=(2 / (layer.in_channels * taps)) ** 0.5)


def count_parameters(network: nn.Module) -> int:
    """Number of learnable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
