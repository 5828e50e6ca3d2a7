"""Training steps at the laptop scale: memory layout, pooling, and MONAI's network of the same width."""

import torch
from torch import nn

from batseg.networks.dynunet import dynunet
from batseg.networks.losses import CrossEntropy
from batseg.networks.unet3d import UNet3D
from tests.benchmarks import Row, seconds


def step_s(network: nn.Module, layout: torch.memory_format, repeats: int = 4) -> float:
    """Seconds of one training step on two patches of 16 x 64 x 64."""
    network = network.to(memory_format=layout)
    image = torch.randn(2, 1, 16, 64, 64).contiguous(memory_format=layout)
    labels, loss = torch.randint(0, 4, (2, 16, 64, 64)), CrossEntropy()
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss(network(image), labels).backward()
        optimizer.step()

    step()
    return seconds(step, repeats)


def rows() -> list[Row]:
    last, first = torch.channels_last_3d, torch.contiguous_format
    thin, isotropic = UNet3D(width=8), UNet3D(width=8, pooling="isotropic")
    ours, monai = step_s(isotropic, last), step_s(dynunet(width=8, pooling="isotropic"), last)
    return [
        Row("training step 2 x 16x64x64, width 8", ours, "MONAI DynUNet, same widths", monai),
        Row("the same, channels last", ours, "channels first", step_s(isotropic, first)),
        Row("the same, thin axis pooled three times", ours, "pooled once", step_s(thin, last)),
    ]
