"""Many electrodes of one recipe into a folder: NAME/{labels.tif, instances.tif, report.json} and asked_reached.csv."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from batseg.structures.electrode import generate_electrode
from batseg.structures.recipe import draw_recipe
from batseg.volumes import Volume, write_json, write_text, write_volume


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
    else:
        with ProcessPoolExecutor(min(workers, count), mp_context=get_context("spawn")) as pool:
            for future in as_completed([pool.submit(write_electrode, *job) for job in jobs]):
                future.result()
                done()
    write_summary(Path(out) / "asked_reached.csv", folders)
    return folders


def write_summary(path: str | Path, folders: Sequence[Path]) -> Path:
    """One line per electrode and measure: what the recipe asked and what was reached."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["electrode", "measure", "phase", "asked", "reached"])
    for folder in folders:
        report = json.loads((folder / "report.json").read_text())
        pairs = [("fraction", phase, pair) for phase, pair in report["fractions"].items()]
        pairs += [("coverage by cbd", phase, pair) for phase, pair in report["coverage"].items()]
        for phase, measures in report["particles"].items():
            pairs += [(name, phase, measures[name]) for name in ("median_nm", "flatness", "mean_cos2")]
        for measure, phase, pair in pairs:
            asked = "" if pair["asked"] is None else f"{pair['asked']:.5g}"
            writer.writerow([folder.name, measure, phase, asked, f"{pair['reached']:.5g}"])
    return write_text(path, text.getvalue())
