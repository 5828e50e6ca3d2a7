"""bf16 or fp32: bf16 is several times faster where the processor knows it, and is taken if the labels stay the same."""

import logging
from collections.abc import Sequence

import numpy as np
import torch

from batseg.inference.forward import Forward
from batseg.inference.fusion import Fusion
from batseg.inference.sweep import sweep
from batseg.inference.windows import axis_order, window_grid

log = logging.getLogger(__name__)
AGREEMENT = 0.999
"""Share of voxels that must have the same label in bf16 as in fp32."""

EDGE = 48
"""Edge of the cube in the middle of the volume on which the two are compared."""


def choose_precision(
    forward: Forward, image: np.ndarray, window: Sequence[int], fusion: Fusion, mask: np.ndarray | None = None
) -> str:
    """Set the precision of `forward` and return it: "bf16" if fused labels of a sample cube agree in 99.9 % with fp32.

    fp32 where the processor has no bf16 arithmetic, where the volume is so small that asking costs more than it
    saves, and where the sample cube holds no voxel of the mask.
    """
    shape = image.shape[-3:]
    forward.use("fp32")
    if not has_bf16(forward.device) or np.prod(shape) < 8 * EDGE**3 or min(shape) < EDGE:
        return "fp32"
    place = tuple(slice((length - EDGE) // 2, (length - EDGE) // 2 + EDGE) for length in shape)
    if mask is not None and not np.asarray(mask[place]).any():
        return "fp32"
    sample = np.asarray(image[(slice(None),) * (image.ndim - 3) + place])
    labels = []
    for precision in ("fp32", "bf16"):
        forward.use(precision)
        labels.append(fused_labels(forward, sample, [min(edge, EDGE) for edge in window], fusion))
    agreement = (labels[0] == labels[1]).mean()
    forward.use("bf16" if agreement >= AGREEMENT else "fp32")
    log.info("bf16 gives the fp32 label in %.3f %% of a sample cube: %s", 100 * agreement, forward.precision)
    return forward.precision


def fused_labels(forward: Forward, sample: np.ndarray, window: Sequence[int], fusion: Fusion) -> np.ndarray:
    """Labels of a small cube, fused over windows and directions."""
    total = 0
    for direction in "zyx":
        grid = window_grid(sample.shape[-3:], window, direction)
        planes = [planes for _, _, planes in sweep(forward, sample, grid, fusion)]
        back = np.argsort(axis_order(direction))
        total = total + fusion.direction_term(torch.cat(planes, 1)).permute(0, *(1 + axis for axis in back))
    return total.argmax(0).cpu().numpy()


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 faster than in fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    flags = _cpu_flags()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo") as lines:
            return next((set(line.split()) for line in lines if line.startswith("flags")), set())
    except OSError:
        return set()
