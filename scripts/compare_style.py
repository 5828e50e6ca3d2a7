"""Judge a style: distances of basic and of stylised structures to templates that training has not seen.

Example: python scripts/compare_style.py basic=structures stylized=stylized templates=path/to/held_out out=runs/style
Several seeds: stylized='[stylized0, stylized1, stylized2]'; the table then has their mean and standard deviation.
"""

import csv
from pathlib import Path

import numpy as np

from batseg.command import command
from batseg.evaluation.style import describe_style, pooled, style_distance
from batseg.progress import track
from batseg.report.figures import save_figure
from batseg.report.style import style_figure
from batseg.subvolumes import find_pairs
from batseg.training.fit import use_cores
from batseg.training.realness import fresh_discriminator_accuracy
from batseg.volumes import read_labels, replacing, write_json


@command("compare_style")
def main(cfg):
    use_cores(cfg.threads)
    several = cfg.stylized if not isinstance(cfg.stylized, str) and "labels" not in cfg.stylized else [cfg.stylized]
    sources = {"basic": cfg.basic, "templates": cfg.templates}
    sources |= {f"stylized {run}": source for run, source in enumerate(several)}
    sides = {name: read_side(source, cfg.label_map, cfg.voxel_nm) for name, source in sources.items()}
    described = {}
    for name, volumes in track(sides.items(), "describing", len(sides)):
        described[name] = pooled([describe_style(volume.array, volume.require_voxel_nm(name)) for volume in volumes])
    distances = {name: style_distance(one, described["templates"]) for name, one in described.items()}
    del distances["templates"]
    arrays = {name: [volume.array for volume in volumes] for name, volumes in sides.items()}
    accuracy = {}
    if cfg.discriminator_steps and min(map(len, arrays.values())) > 1:
        for name in track(list(distances), "training discriminators afresh"):
            accuracy[name] = fresh_discriminator_accuracy(
                arrays[name], arrays["templates"], cfg.seed, cfg.discriminator_steps
            )
    values = {name: means(one) for name, one in described.items()}
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "style.json", {"distances": distances, "discriminator_accuracy": accuracy, "means": values})
    write_table(out / "values.csv", values)
    write_table(out / "distances.csv", distances)
    columns = {"basic": "basic", "stylised": "stylized 0", "template": "templates"}
    save_figure(style_figure({title: arrays[name][0] for title, name in columns.items()}), out / "style.png")
    for key, (basic, *runs) in rows(distances).items():
        print(f"{key:24s} basic {basic:.3f}  stylised {np.mean(runs):.3f}")
    print(*(f"discriminator trained afresh, {name}: {value:.2f}" for name, value in accuracy.items()), sep="\n")


def rows(values):
    """Of {side: {measure: number or list}}, {measure: [basic, stylised 0, 1, ...]}, phases of lists on their own."""
    table = {}
    for side in (name for name in values if name != "templates"):
        for key, value in flat(values[side]).items():
            table.setdefault(key, []).append(value)
    return table


def flat(numbers):
    flattened = {}
    for key, value in numbers.items():
        each = {f"{key}_{phase}": part for phase, part in enumerate(value)} if isinstance(value, list) else {key: value}
        flattened |= each
    return flattened


def write_table(path, values):
    """Measure, basic, mean and standard deviation (n - 1) of the stylised ones, template where it has a value."""
    templates = flat(values.get("templates", {}))
    with replacing(path) as draft, draft.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["measure", "basic", "stylised", "spread"] + ["template"] * bool(templates))
        for key, (basic, *runs) in rows(values).items():
            numbers = [basic, np.mean(runs), np.std(runs, ddof=1) if len(runs) > 1 else 0.0]
            numbers += [templates[key]] if templates else []
            table.writerow([key, *(f"{number:.4f}" for number in numbers)])


def read_side(source, label_map, voxel_nm):
    source = {"folder": source, "labels": "labels"} if isinstance(source, str) else source
    return [read_labels(pair.labels, label_map, voxel_nm) for pair in find_pairs(source, label_map, voxel_nm)]


def means(description):
    """Fractions and the means of everything that is no curve."""
    numbers = {key: float(np.mean(value)) for key, value in description.items() if not key.startswith("correlation")}
    return {**numbers, "fractions": description["fractions"].tolist()}


if __name__ == "__main__":
    main()
