"""Simulate scans of label volumes. Example: python scripts/simulate_scans.py labels='structures/*.tif' out=synthetic"""

from concurrent.futures import ProcessPoolExecutor, as_completed
from glob import glob
from multiprocessing import get_context
from pathlib import Path

import hydra
import numpy as np

from batseg.command import command
from batseg.progress import progress_bar
from batseg.tomography.exchange import write_scan
from batseg.tomography.scan import draw_conditions
from batseg.tomography.synthetic import simulate_tomogram, turn_cylinder
from batseg.volumes import InputError, Volume, read_labels, write_volume


def simulate_one(path: str, name: str, index: int, cfg: dict) -> str:
    """Scan number `index` of one label volume into out/name."""
    rng = np.random.default_rng((cfg["seed"], index))
    volume = read_labels(path, cfg["label_map"], cfg["voxel_nm"])
    labels, voxel_nm = volume.array, volume.require_voxel_nm(path)
    conditions = draw_conditions(cfg["scan"], rng)
    if cfg["cylinder_px"] is not None:
        diameter = rng.uniform(*cfg["cylinder_px"])
        labels = turn_cylinder(labels, diameter, cfg["columns"] or int(np.ceil(cfg["cylinder_px"][1])) + 16)
    threads = 1 if cfg["workers"] > 1 else 0
    images, labels, scan = simulate_tomogram(labels, voxel_nm, conditions, rng, cfg["images"], threads, cfg["pxct"])
    folder = Path(cfg["out"]) / name
    source = {"seed": [cfg["seed"], index], "structure": str(path)}
    if cfg["raw"]:
        write_scan(folder / "scan.h5", scan)
    write_volume(folder / "labels.tif", Volume(labels, voxel_nm, {**volume.provenance.get("provenance", {}), **source}))
    for image, tomogram in images.items():
        write_volume(folder / f"{image}.tif", Volume(tomogram.array, voxel_nm, {**tomogram.provenance, **source}))
    return name


def jobs(pattern: str, repeats: int) -> list[tuple[str, str, int]]:
    """(path, name, index) of every scan to make; a file called labels.* is named by its folder."""
    paths = sorted(glob(pattern)) or ([pattern] if Path(pattern).exists() else [])
    if not paths:
        raise InputError(f"no label volume matches {pattern}")
    names = [path.parent.name if path.stem == "labels" else path.stem for path in map(Path, paths)]
    if len(set(names)) < len(names):
        raise InputError(f"several of the {len(paths)} label volumes of {pattern} have the same name")
    made = [(path, name, repeat) for path, name in zip(paths, names) for repeat in range(repeats)]
    return [
        (path, name if repeats == 1 else f"{name}_{repeat}", index) for index, (path, name, repeat) in enumerate(made)
    ]


@command("simulate_scans")
def main(cfg):
    cfg = hydra.utils.instantiate(cfg, _convert_="all")
    todo = jobs(cfg["labels"], cfg["repeats"])
    draw_conditions(cfg["scan"], np.random.default_rng(0))  # a mistake in the ranges shows before the work begins
    with progress_bar("simulating scans", len(todo)) as bar:
        if cfg["workers"] <= 1 or len(todo) == 1:
            for job in todo:
                simulate_one(*job, {**cfg, "workers": 1})
                bar.advance()
            return
        with ProcessPoolExecutor(min(cfg["workers"], len(todo)), mp_context=get_context("spawn")) as pool:
            for future in as_completed([pool.submit(simulate_one, *job, cfg) for job in todo]):
                future.result()
                bar.advance()


if __name__ == "__main__":
    main()
