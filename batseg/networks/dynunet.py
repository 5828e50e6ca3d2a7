"""nnU-Net's network as MONAI builds it, with the poolings of the paper's U-Net. Source: Isensee et al. 2021."""

from monai.networks.nets import DynUNet
from torch import nn

from batseg.networks.unet3d import POOLINGS


def dynunet(
    in_channels: int = 1,
    phases: int = 4,
    width: int = 16,
    pooling: str = "thin",
    residual: bool = False,
    deep_supervision: bool = False,
) -> nn.Module:
    """(batch, in_channels, thin, a, b) -> logits; four levels of 2, 4, 8 and 16 times `width` channels.

    With deep supervision it returns a stack (batch, head, phase, thin, a, b) while training.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"dynunet knows pooling {', '.join(POOLINGS)}; got {pooling!r}")
    scales = [list(scale) for scale in POOLINGS[pooling]]
    return DynUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=phases,
        kernel_size=[[3, 3, 3]] * 4,
        strides=[[1, 1, 1], *scales],
        upsample_kernel_size=scales,
        filters=[2 * width, 4 * width, 8 * width, 16 * width],
        res_block=residual,
        deep_supervision=deep_supervision,
        deep_supr_num=2 if deep_supervision else 1,
    )
