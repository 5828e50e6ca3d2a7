"""Segment a volume that is larger than memory: directions go to disk, and are fused from there slab by slab.

The output folder holds `.work/` while it is being made: one chunked store of probabilities per direction and
state.json, which says what is finished. A killed run goes on from there, and its result is the same to the bit.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import nn
from zarr.codecs import BloscCodec

from batseg.inference.calibration import UNCHANGED, Calibration
from batseg.inference.forward import Forward
from batseg.inference.fusion import Fusion, MeanSoftmax
from batseg.inference.memory import give_back_memory, peak_resident_bytes
from batseg.inference.planning import Looking, Plan, make_plan, planned_grid
from batseg.inference.prediction import fused, require_valid
from batseg.inference.sweep import sweep
from batseg.inference.windows import Grid, axis_order, row_blocks
from batseg.progress import progress_bar
from batseg.volumes import create_zarr, replacing, write_json

log = logging.getLogger(__name__)
OUTPUTS = ("labels", "probabilities", "entropy", "disagreement")
FINISHED = "segmentation.json"
STEPS = 65535  # of a probability on disk while directions wait to be fused
THICK = 8  # slices that are fused at once
CHUNK = (32, 64, 64)  # of the outputs


def segment(
    network: nn.Module | Sequence[nn.Module],
    image: np.ndarray,
    out: str | Path,
    looking: Looking,
    mask: np.ndarray | None = None,
    fusion: Fusion | None = None,
    calibration: Calibration = UNCHANGED,
    precision: str = "auto",
    device: str | torch.device | None = None,
    max_memory_gb: float = 4.0,
    voxel_nm: float | None = None,
    identity: Mapping | None = None,
    rule: Callable[[np.ndarray, tuple[slice, ...]], np.ndarray] | None = None,
    description: str = "segment",
) -> Path:
    """Segment a normalised image (`NormalisedImage` or array) into the folder `out` within `max_memory_gb` (1e9 bytes).

    Writes labels.zarr (uint8, 255 outside the mask), probabilities.zarr (phase, z, y, x), entropy.zarr and
    disagreement.zarr (uint8, 255 = 1), and segmentation.json last. `identity` names image and networks: what is found
    in `out` is gone on with, or kept if finished, where identity and settings are the same. `rule(labels, box)` is
    applied to the labels of every part, which lies at `box`: the post-processing. The promise
    covers the process as a whole, on a GPU its main memory. Raises InputError where the memory cannot hold one window.
    """
    require_valid(image, mask, looking.directions)
    for direction in looking.directions:
        planned_grid(image.shape[-3:], direction, looking)  # a window that does not fit is refused before all work
    out, fusion = Path(out), fusion or MeanSoftmax()
    settings = {**asdict(looking), "fusion": repr(fusion), **asdict(calibration), "precision": precision}
    settings = json.loads(json.dumps({**settings, "shape": image.shape, **(identity or {})}, default=str))
    if finished(out, settings):
        log.info("%s is there already", out)
        return out
    key = hashlib.blake2b(json.dumps([settings, max_memory_gb], sort_keys=True).encode(), digest_size=8).hexdigest()
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
    fuse_directions(image.shape[-3:], looking, mask, fusion, calibration, plan, work, state, rule, description)
    for name in OUTPUTS:
        if (work / f"{name}.zarr").exists():
            shutil.rmtree(out / f"{name}.zarr", ignore_errors=True)
            (work / f"{name}.zarr").rename(out / f"{name}.zarr")
    record = {"settings": settings, "max_memory_gb": max_memory_gb, "precision": plan.precision, "voxel_nm": voxel_nm}
    record["seconds_since_start_or_restart"] = round(time.perf_counter() - begin, 1)
    record["peak_memory_gb"] = round(peak_resident_bytes() / 1e9, 3)
    write_json(out / FINISHED, record)
    shutil.rmtree(work, ignore_errors=True)
    return out


def finished(out: str | Path, settings: Mapping) -> bool:
    """Whether the folder holds a finished segmentation that was made with these settings (or part of them)."""
    record = Path(out) / FINISHED
    if not record.exists():
        return False
    made_with = json.loads(record.read_text())["settings"]
    return all(made_with.get(key) == value for key, value in json.loads(json.dumps(settings, default=str)).items())


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
        grid = planned_grid(image.shape[-3:], direction, looking, plan)
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
                    del planes, steps
                give_back_memory()
                state["swept"][name] = stop
                write_json(work / "state.json", state)


def fuse_directions(
    shape: Sequence[int],
    looking: Looking,
    mask: np.ndarray | None,
    fusion: Fusion,
    calibration: Calibration,
    plan: Plan,
    work: Path,
    state: dict,
    rule: Callable[[np.ndarray, tuple[slice, ...]], np.ndarray] | None,
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
                    result = fused(mean, winners, fusion, calibration, inside)
                    place = (..., slice(low - first, low - first + part[0].stop - low), part[1], slice(None))
                    whole = (*part, slice(None))
                    slab["labels"][place] = result.labels if rule is None else rule(result.labels, whole)
                    slab["probabilities"][place] = np.rint(255 * result.probabilities)
                    slab["entropy"][place] = np.rint(255 * np.clip(result.entropy(), 0, 1))
                    slab["disagreement"][place] = np.rint(255 * result.disagreement)
                bar.advance(min(low + THICK, last) - low)
            for name in OUTPUTS:
                drafts[name][..., first:last, :, :] = slab[name]
            give_back_memory()
            state["fused"] = last
            write_json(work / "state.json", state)


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
    with replacing(path) as draft:  # a store is there whole or not at all, whenever the run is killed
        zarr.create_array(
            draft,
            shape=(plan.phases, *shape),
            chunks=(plan.phases, *chunks),
            dtype=np.uint16,
            compressors=BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"),
        )
    return zarr.open_array(path, mode="r+")


def _state(work: Path, key: str) -> dict | None:
    """What a cut-off run with the same key left, or None."""
    file = work / "state.json"
    state = json.loads(file.read_text()) if file.exists() else {}
    if state.get("key") != key:
        return None
    log.warning("%s: going on where an earlier run was cut off", work.parent)
    return state
