"""Estimate a structure recipe from labels. Example: python scripts/match_structure.py labels=a.tif out=recipe.yaml"""

import csv
import io
from pathlib import Path

import hydra
import numpy as np
from omegaconf import OmegaConf

from batseg.command import command
from batseg.progress import progress_bar
from batseg.structures.matching import compare, match_recipe, with_ranges
from batseg.volumes import InputError, read_labels, write_text


def read_windows(paths: str | list[str], mapping: dict | None, voxel_nm: float | None) -> tuple[list, float]:
    """Label volumes cropped to their labelled region, and their common voxel size."""
    windows, sizes = [], set()
    for path in [paths] if isinstance(paths, str) else paths:
        volume = read_labels(path, mapping, voxel_nm)
        sizes.add(volume.require_voxel_nm(path))
        inside = volume.array != 255
        box = tuple(
            slice(*(np.flatnonzero(inside.any(axis=other))[[0, -1]] + [0, 1])) for other in ((1, 2), (0, 2), (0, 1))
        )
        windows.append(np.ascontiguousarray(volume.array[box]))
    if len(sizes) > 1:
        raise InputError(f"the label volumes differ in voxel size: {sorted(sizes)} nm; bin them first")
    return windows, sizes.pop()


@command("match_structure")
def main(cfg):
    cfg = hydra.utils.instantiate(cfg, _convert_="all")
    labels, voxel_nm = read_windows(cfg["labels"], cfg["label_map"], cfg["voxel_nm"])
    with progress_bar("matching the structure", cfg["iterations"]) as bar:
        settings = (voxel_nm, cfg["iterations"], cfg["volumes"], cfg["seed"])
        recipe = match_recipe(cfg["structure"], labels, *settings, done=bar.advance)
    ranged = with_ranges(recipe, cfg["spread"])
    write_text(cfg["out"], f"# {cfg['note']}\n" + OmegaConf.to_yaml(OmegaConf.create(ranged)))
    rows = compare(recipe, labels, voxel_nm, cfg["compared"], cfg["seed"])
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: v if isinstance(v, str) else f"{v:.5g}" for k, v in row.items()} for row in rows])
    write_text(Path(cfg["out"]).with_suffix(".csv"), table.getvalue())


if __name__ == "__main__":
    main()
