"""Judge a style: distances of basic and of stylised structures to templates that training has not seen.

Example: python scripts/compare_style.py basic=structures stylized=stylized templates=path/to/held_out out=runs/style
"""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from batseg.command import command
from batseg.evaluation.style import describe_style, pooled, style_distance
from batseg.progress import track
from batseg.report.figures import phase_legend, save_figure, show_labels
from batseg.subvolumes import find_pairs
from batseg.training.fit import use_cores
from batseg.training.realness import fresh_discriminator_accuracy
from batseg.volumes import read_labels, replacing, write_json


@command("compare_style")
def main(cfg):
    use_cores(cfg.threads)
    sides = {name: read_side(cfg[name], cfg.label_map, cfg.voxel_nm) for name in ("basic", "stylized", "templates")}
    described = {}
    for name, volumes in track(sides.items(), "describing", len(sides)):
        described[name] = pooled([describe_style(volume.array, volume.require_voxel_nm(name)) for volume in volumes])
    distances = {name: style_distance(described[name], described["templates"]) for name in ("basic", "stylized")}
    arrays = {name: [volume.array for volume in volumes] for name, volumes in sides.items()}
    accuracy = {}
    if cfg.discriminator_steps and min(map(len, arrays.values())) > 1:
        for name in track(("basic", "stylized"), "training discriminators afresh"):
            accuracy[name] = fresh_discriminator_accuracy(
                arrays[name], arrays["templates"], cfg.seed, cfg.discriminator_steps
            )
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "distances.csv") as draft, draft.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["measure", "basic to template", "stylised to template"])
        table.writerows(
            [key, f"{distances['basic'][key]:.4f}", f"{value:.4f}"] for key, value in distances["stylized"].items()
        )
    values = {name: means(one) for name, one in described.items()}
    write_json(out / "style.json", {"distances": distances, "discriminator_accuracy": accuracy, "means": values})
    figure, rows = plt.subplots(2, 3, figsize=(8, 5.6), layout="constrained")
    for column, (name, volumes) in enumerate(arrays.items()):
        show_labels(rows[0][column], volumes[0][len(volumes[0]) // 2], name)
        show_labels(rows[1][column], volumes[0][:, volumes[0].shape[1] // 2])
    phase_legend(figure)
    save_figure(figure, out / "style.png")
    for key, value in distances["stylized"].items():
        print(f"{key:24s} basic {distances['basic'][key]:.3f}  stylised {value:.3f}")
    print(*(f"discriminator trained afresh, {name}: {value:.2f}" for name, value in accuracy.items()), sep="\n")


def read_side(source, label_map, voxel_nm):
    source = {"folder": source, "labels": "labels"} if isinstance(source, str) else source
    return [read_labels(pair.labels, label_map, voxel_nm) for pair in find_pairs(source, label_map, voxel_nm)]


def means(description):
    """Fractions and the means of everything that is no curve."""
    numbers = {key: float(np.mean(value)) for key, value in description.items() if not key.startswith("correlation")}
    return {**numbers, "fractions": description["fractions"].tolist()}


if __name__ == "__main__":
    main()
