"""How the memory is divided between the network's windows and the band of planes that collects them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from batseg.inference.forward import Forward
from batseg.inference.fusion import Fusion
from batseg.inference.memory import forward_bytes_per_voxel, resident_bytes
from batseg.inference.precision import choose_precision
from batseg.inference.windows import Grid, make_grid
from batseg.volumes import InputError

RESERVE = 0.3e9
"""Work space of the libraries."""

BAND_COPIES = 5
"""The band itself, its finished planes, their normalisation, quantised and turned copies."""

SLAB_COPIES = 3
"""The image around a row of windows: as read, normalised, turned."""


@dataclass(frozen=True)
class Looking:
    """How the network looks at the volume; see `batseg.inference.predict`."""

    window: Sequence[int] = (48, 256, 256)
    overlap: float = 0.5
    directions: str = "zyx"
    windows: str = "windows"
    halo: int = 24
    window_fit: str = "error"
    mirror: str = ""
    batch_size: int = 1


@dataclass(frozen=True)
class Plan:
    """What was decided once and must stay through restarts: precision, tiles and blocks of rows."""

    precision: str
    phases: int
    limits: dict[str, float]
    max_rows: float


def make_plan(
    forward: Forward,
    image: np.ndarray,
    looking: Looking,
    mask: np.ndarray | None,
    fusion: Fusion,
    precision: str,
    max_memory_gb: float,
) -> Plan:
    """Divide the memory: windows in the network first, then the band of planes that collects them."""
    shape, channels = image.shape[-3:], 1 if image.ndim == 3 else image.shape[0]
    if precision == "auto":
        choose_precision(forward, image, looking.window, fusion, mask)
    thin = min(looking.window[0], *shape)
    phases, per_voxel = forward_bytes_per_voxel(forward, channels, thin)
    budget = 1e9 * max_memory_gb - resident_bytes() - RESERVE
    on_device = torch.cuda.mem_get_info()[0] * 0.7 if forward.device.type == "cuda" else None
    longest = max(shape)
    per_row = 4 * (BAND_COPIES * phases + SLAB_COPIES * channels) * thin * longest
    if looking.windows == "planes":
        for_windows = 0.6 * budget if on_device is None else on_device
        limits = {"max_voxels": for_windows / per_voxel, "max_rows": max(8.0, 0.4 * budget / per_row)}
        needed = 8 * per_row + per_voxel * thin * (8 + 2 * looking.halo) ** 2
    else:
        window = per_voxel * looking.batch_size * np.prod(np.minimum(looking.window, longest), dtype=float)
        for_windows, limits = (window if on_device is None else 0.0), {}
        needed = for_windows + 8 * per_row
    if needed > budget:
        raise InputError(
            f"max_memory_gb={max_memory_gb:g} is too little: about "
            f"{(needed + 1e9 * max_memory_gb - budget) / 1e9:.2g} are needed; raise it or lower window or batch_size"
        )
    rows = limits.get("max_rows", (budget - for_windows) / per_row)
    return Plan(forward.precision, phases, limits, rows)


def planned_grid(shape: Sequence[int], direction: str, looking: Looking, plan: Plan | None = None) -> Grid:
    """The grid of one direction within the plan's limits."""
    return make_grid(
        shape,
        direction,
        looking.window,
        looking.overlap,
        looking.windows,
        looking.halo,
        looking.window_fit,
        **(plan.limits if plan else {}),
    )
