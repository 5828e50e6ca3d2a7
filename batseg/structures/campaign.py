"""Many electrodes of one recipe into a campaign folder: NAME/labels.tif, instances.tif, report.json."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from batseg.structures.electrode import generate_electrode
from batseg.structures.recipe import draw_recipe
from batseg.volumes import Volume, write_json, write_volume


def parse_shape(shape: str | Sequence[int]) -> tuple[int, ...]:
    """Edges (z, y, x) from '96x224x224', '328' or a list."""
    try:
        edges = [int(edge) for edge in (str(shape).split("x") if isinstance(shape, (str, int)) else shape)]
    except (TypeError, ValueError):
        edges = []
    edges = edges * 3 if len(edges) == 1 else edges
    if len(edges) != 3 or min(edges) < 8:
        raise ValueError(f"shape: {shape!r} is not three edges of at least 8 voxels, as in 96x224x224 or [96,224,224]")
    return tuple(edges)


def write_electrode(
    folder: str | Path, recipe: Mapping, shape: Sequence[int], voxel_nm: float, seed: int, index: int
) -> Path:
    """Electrode number `index` of a recipe, drawn from (seed, index) alone."""
    electrode = generate_electrode(recipe, shape, voxel_nm, np.random.default_rng((seed, index)))
    provenance = {"made_by": "batseg.structures", "seed": [seed, index]}
    folder = Path(folder)
    write_volume(folder / "labels.tif", Volume(electrode.labels, voxel_nm, provenance))
    write_volume(folder / "instances.tif", Volume(electrode.instances, voxel_nm, provenance))
    write_json(folder / "report.json", {**electrode.report, **provenance})
    return folder


def write_campaign(
    out: str | Path,
    recipe: Mapping,
    count: int,
    shape: str | Sequence[int],
    voxel_nm: float,
    seed: int = 0,
    first: int = 0,
    name: str = "electrode",
    workers: int = 1,
    done: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Electrodes first..first+count as out/NAME_0000 ...; the same files whatever the number of workers."""
    edges = parse_shape(shape)
    if count < 1 or workers < 1:
        raise ValueError(f"count and workers must be at least 1, got {count} and {workers}")
    draw_recipe(recipe, np.random.default_rng(0))  # a mistake in the recipe shows before the work begins
    folders = [Path(out) / f"{name}_{index:04d}" for index in range(first, first + count)]
    jobs = [(folder, recipe, edges, voxel_nm, seed, first + k) for k, folder in enumerate(folders)]
    if workers == 1 or count == 1:
        for job in jobs:
            write_electrode(*job)
            done()
        return folders
    with ProcessPoolExecutor(min(workers, count), mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(write_electrode, *job) for job in jobs]):
            future.result()
            done()
    return folders
