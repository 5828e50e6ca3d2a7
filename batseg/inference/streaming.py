"""Segment a volume that is larger than memory: directions go to disk, and are fused from there slab by slab.

The output folder holds `.work/` while it is being made: one chunked store of probabilities per direction and
state.json, which says what is finished. A killed run goes on from there, and its result is the same to the bit.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import nn

from batseg.inference.forward import Forward
from batseg.inference.fusion import Fusion, MeanSoftmax
from batseg.inference.memory import forward_bytes_per_voxel, peak_resident_bytes, resident_bytes
from batseg.inference.precision import choose_precision
from batseg.inference.prediction import fused, require_valid
from batseg.inference.sweep import sweep
from batseg.inference.windows import Grid, axis_order, make_grid, row_blocks
from batseg.progress import progress_bar
from batseg.volumes import InputError, create_zarr, write_json

log = logging.getLogger(__name__)
OUTPUTS = ("labels", "probabilities", "entropy", "disagreement")
FINISHED = "segmentation.json"
STEPS = 65535  # of a probability on disk while directions wait to be fused
THICK = 8  # slices that are fused at once
CHUNK = (32, 64, 64)  # of the outputs
RESERVE = 0.2e9  # work space of the libraries
BAND_COPIES = 5  # the band itself, its finished planes, their normalisation, quantised and turned copies


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


def segment(
    network: nn.Module | Sequence[nn.Module],
    image: np.ndarray,
    out: str | Path,
    looking: Looking,
    mask: np.ndarray | None = None,
    fusion: Fusion | None = None,
    temperature: float = 1.0,
    precision: str = "auto",
    device: str | torch.device | None = None,
    max_memory_gb: float = 4.0,
    voxel_nm: float | None = None,
    identity: Mapping | None = None,
    description: str = "segment",
) -> Path:
    """Segment a normalised image (`NormalisedImage` or array) into the folder `out` within `max_memory_gb` (1e9 bytes).

    Writes labels.zarr (uint8, 255 outside the mask), probabilities.zarr (phase, z, y, x), entropy.zarr and
    disagreement.zarr (uint8, 255 = 1), and segmentation.json last. `identity` names image and networks: what is found
    in `out` is gone on with, or kept if finished, where identity and settings are the same. The promise covers the
    process as a whole, on a GPU its main memory. Raises InputError where the memory cannot hold one window.
    """
    require_valid(image, mask, looking.directions)
    out, fusion = Path(out), fusion or MeanSoftmax()
    settings = {**asdict(looking), "fusion": repr(fusion), "temperature": temperature, "precision": precision}
    settings |= {"max_memory_gb": max_memory_gb, "shape": list(image.shape), **(identity or {})}
    key = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
    if finished(out, key):
        log.info("%s is there already", out)
        return out
    begin = time.perf_counter()
    work = out / ".work"
    state = _state(work, key)
    forward = Forward(network, device, looking.mirror, "fp32" if precision == "auto" else precision)
    if state is None:
        shutil.rmtree(work, ignore_errors=True)
        plan = make_plan(forward, image, looking, mask, fusion, precision, max_memory_gb)
        state = {"key": key, "plan": asdict(plan), "swept": {}, "fused": 0, "voxel_nm": voxel_nm}
        work.mkdir(parents=True, exist_ok=True)
        write_json(work / "state.json", state)
    plan = Plan(**state["plan"])
    forward.use(plan.precision)
    sweep_directions(forward, image, looking, mask, fusion, plan, work, state, description)
    fuse_directions(image.shape[-3:], looking, mask, fusion, temperature, plan, work, state, description)
    for name in OUTPUTS:
        if (work / f"{name}.zarr").exists():
            shutil.rmtree(out / f"{name}.zarr", ignore_errors=True)
            (work / f"{name}.zarr").rename(out / f"{name}.zarr")
    record = {"key": key, "settings": settings, "precision": plan.precision, "voxel_nm": voxel_nm}
    record["seconds_since_start_or_restart"] = round(time.perf_counter() - begin, 1)
    record["peak_memory_gb"] = round(peak_resident_bytes() / 1e9, 3)
    write_json(out / FINISHED, record)
    shutil.rmtree(work, ignore_errors=True)
    return out


def finished(out: str | Path, key: str | None = None) -> bool:
    """Whether the folder holds a finished segmentation (made with the settings of `key`)."""
    record = Path(out) / FINISHED
    return record.exists() and (key is None or json.loads(record.read_text()).get("key") == key)


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
    per_row = 4 * BAND_COPIES * phases * thin * longest
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


def sweep_directions(
    forward: Forward,
    image: np.ndarray,
    looking: Looking,
    mask: np.ndarray | None,
    fusion: Fusion,
    plan: Plan,
    work: Path,
    state: dict,
    description: str,
) -> None:
    """Fill one store of probabilities per direction, block by block of rows, plane by plane."""
    jobs = []
    for direction in looking.directions:
        grid = _grid(image.shape[-3:], direction, looking, plan)
        for number, rows in enumerate(row_blocks(grid, plan.max_rows)):
            done = state["swept"].get(f"{direction}{number}", 0)
            jobs.append((grid, rows, f"{direction}{number}", done, _windows_left(grid, rows, done)))
    with progress_bar(description, sum(left for *_, left in jobs)) as bar:
        for grid, rows, name, done, left in jobs:
            if not left:
                continue
            store = _direction_store(work, grid, plan)
            order = axis_order(grid.direction)
            for start, stop, planes in sweep(
                forward, image, grid, fusion, mask, looking.batch_size, rows, done, bar.advance
            ):
                if planes is not None:
                    place = [slice(None)] * 3
                    place[order[0]], place[order[1]] = slice(start, stop), slice(*rows)
                    steps = planes.mul_(STEPS).add_(0.5).cpu().numpy().astype(np.uint16)
                    back = np.argsort(order)
                    store[(slice(None), *place)] = steps.transpose(0, *(1 + axis for axis in back))
                state["swept"][name] = stop
                write_json(work / "state.json", state)


def fuse_directions(
    shape: Sequence[int],
    looking: Looking,
    mask: np.ndarray | None,
    fusion: Fusion,
    temperature: float,
    plan: Plan,
    work: Path,
    state: dict,
    description: str,
) -> None:
    """Join the directions' stores into the outputs, a few slices at a time."""
    stores = [zarr.open_array(work / f"{direction}.zarr", mode="r") for direction in looking.directions]
    shapes = dict.fromkeys(OUTPUTS, tuple(shape)) | {"probabilities": (plan.phases, *shape)}
    if state["fused"] == 0:
        for name in OUTPUTS:
            chunks = (1,) * (len(shapes[name]) - 3) + tuple(map(min, CHUNK, shape))
            create_zarr(work / f"{name}.zarr", shapes[name], np.uint8, state["voxel_nm"], chunks=chunks)
    elif state["fused"] >= shape[0]:
        return
    drafts = {name: zarr.open_group(work / f"{name}.zarr")["0"] for name in OUTPUTS}
    with progress_bar(f"{description}: fuse", shape[0] - state["fused"]) as bar:
        for first in range(state["fused"], shape[0], CHUNK[0]):
            last = min(first + CHUNK[0], shape[0])
            slab = {name: np.empty((*shapes[name][:-3], last - first, *shape[1:]), np.uint8) for name in OUTPUTS}
            for low in range(first, last, THICK):
                for row in range(0, shape[1], 64):
                    part = (slice(low, min(low + THICK, last)), slice(row, row + 64))
                    mean, winners = 0, []
                    for store in stores:
                        probabilities = store[(slice(None), *part)].astype(np.float32) / STEPS
                        winners.append(probabilities.argmax(0).astype(np.uint8))
                        mean = mean + fusion.direction_term(torch.from_numpy(probabilities)).numpy() / len(stores)
                    inside = None if mask is None else np.asarray(mask[part])
                    result = fused(mean, winners, fusion, temperature, inside)
                    place = (..., slice(low - first, low - first + part[0].stop - low), part[1], slice(None))
                    slab["labels"][place] = result.labels
                    slab["probabilities"][place] = np.rint(255 * result.probabilities)
                    slab["entropy"][place] = np.rint(255 * np.clip(result.entropy(), 0, 1))
                    slab["disagreement"][place] = np.rint(255 * result.disagreement)
                bar.advance(min(low + THICK, last) - low)
            for name in OUTPUTS:
                drafts[name][..., first:last, :, :] = slab[name]
            state["fused"] = last
            write_json(work / "state.json", state)


def _grid(shape: Sequence[int], direction: str, looking: Looking, plan: Plan) -> Grid:
    return make_grid(
        shape,
        direction,
        looking.window,
        looking.overlap,
        looking.windows,
        looking.halo,
        looking.window_fit,
        **plan.limits,
    )


def _windows_left(grid: Grid, rows: tuple[int, int], done: int) -> int:
    if done >= grid.lengths[0]:
        return 0
    thin = sum(span.keep_stop > done for span in grid.spans[0])
    a = sum(span.keep_start < rows[1] and span.keep_stop > rows[0] for span in grid.spans[1])
    return thin * a * len(grid.spans[2])


def _direction_store(work: Path, grid: Grid, plan: Plan) -> zarr.Array:
    path = work / f"{grid.direction}.zarr"
    if path.exists():
        return zarr.open_array(path, mode="r+")
    order = axis_order(grid.direction)
    chunks, shape = [0] * 3, [0] * 3
    step = grid.spans[0][1].keep_start - grid.spans[0][0].keep_start if len(grid.spans[0]) > 1 else grid.lengths[0]
    wanted = (step, THICK if order[1] == 0 else 64, grid.lengths[2])
    for axis, length, chunk in zip(order, grid.lengths, wanted):
        shape[axis], chunks[axis] = length, min(chunk, length)
    return zarr.create_array(path, shape=(plan.phases, *shape), chunks=(plan.phases, *chunks), dtype=np.uint16)


def _state(work: Path, key: str) -> dict | None:
    """What a cut-off run with the same key left, or None."""
    file = work / "state.json"
    state = json.loads(file.read_text()) if file.exists() else {}
    if state.get("key") != key:
        return None
    log.warning("%s: going on where an earlier run was cut off", work.parent)
    return state
