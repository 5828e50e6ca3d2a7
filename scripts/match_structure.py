"""Estimate a structure recipe from labels. Example: python scripts/match_structure.py labels=a.tif out=recipe.yaml"""

import csv
import io
from pathlib import Path

import hydra
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from batseg.command import command
from batseg.progress import progress_bar
from batseg.report.figures import phase_legend, show_labels
from batseg.structures.matching import compare, imitate, match_recipe, with_ranges
from batseg.volumes import InputError, read_labels, replacing, write_text


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


def draw_side_by_side(labels: list[np.ndarray], made: list[np.ndarray]) -> Figure:
    """Slices of the labels (upper rows) and of generated volumes (lower rows): four along z, two along y."""
    rows = [("labels", volume, [volume] * 4) for volume in labels[:2]]
    rows += [("recipe", made[4 * k], made[4 * k : 4 * k + 4]) for k in range(len(made) // 4)][:2]
    figure, axes = plt.subplots(len(rows), 6, figsize=(12, 2.1 * len(rows)), squeeze=False, layout="constrained")
    for line, (title, first, volumes) in zip(axes, rows):
        for k, volume in enumerate(volumes):
            show_labels(line[k], volume[(2 * k + 1) * volume.shape[0] // 8], f"{title}, z")
        for k in (0, 1):
            show_labels(line[4 + k], first[:, (k + 1) * first.shape[1] // 3], f"{title}, y")
    phase_legend(figure)
    return figure


@command("match_structure")
def main(cfg):
    cfg = hydra.utils.instantiate(cfg, _convert_="all")
    labels, voxel_nm = read_windows(cfg["labels"], cfg["label_map"], cfg["voxel_nm"])
    out, recipe = Path(cfg["out"]), cfg["structure"]
    if cfg["iterations"]:
        with progress_bar("matching the structure", cfg["iterations"]) as bar:
            settings = (voxel_nm, cfg["iterations"], cfg["volumes"], cfg["seed"])
            recipe = with_ranges(match_recipe(recipe, labels, *settings, done=bar.advance), cfg["spread"])
    made = imitate(recipe, labels, voxel_nm, cfg["compared"], (cfg["seed"], 10**6))
    rows = compare(labels, made, voxel_nm)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: v if isinstance(v, str) else f"{v:.4g}" for k, v in row.items()} for row in rows])
    write_text(out, f"# {cfg['note']}\n" + OmegaConf.to_yaml(OmegaConf.create(recipe)))
    write_text(out.with_suffix(".csv"), table.getvalue())
    with replacing(out.with_suffix(".png")) as draft:
        draw_side_by_side(labels, made).savefig(draft, dpi=90)


if __name__ == "__main__":
    main()
