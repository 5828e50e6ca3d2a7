"""Finished rows as one HTML page: table beside the paper's, training curves, slices.

Example: python scripts/make_report.py 'rows=[real,hybrid]' out=runs/report/index.html
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from batseg.baselines import constant_fractions, kmeans
from batseg.command import command
from batseg.evaluation import confusion_matrix, dice, mean_dice
from batseg.evaluation.pairs import open_pair
from batseg.normalisation import sample_mask
from batseg.phases import PHASES
from batseg.report.figures import curves, orthogonal_slices, save_figure
from batseg.report.page import Section, write_page
from batseg.report.table import markdown, table_1, write_csv
from batseg.volumes import InputError, read_image, read_labels, read_volume, write_text

BASELINES = {"k-means": kmeans, "constant fractions": constant_fractions}


def read_results(runs: Path, rows: Sequence[str]) -> dict[str, list[dict]]:
    """Results of each row, one a seed. Raises InputError for a row that is not finished."""
    results = {}
    for row in rows:
        files = sorted((runs / "rows" / row).glob("seed*/result.json"))
        if not files:
            raise InputError(f"{runs}/rows/{row}: no finished result; run python train.py +experiment={row}")
        results[row] = [json.loads(file.read_text()) for file in files]
    return results


def mean_over_seeds(results: Sequence[dict]) -> dict[str, float]:
    known = [result["dice"] | {"mean": result["mean"]} for result in results]
    return {key: float(np.mean([dice[key] for dice in known])) for key in (*PHASES, "mean")}


def judge_baselines(volume: dict, folder: Path) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
    """Dice of the baselines on an evaluation volume, and their labels."""
    image = read_image(volume["image"]).array
    mask, scores, labels = sample_mask(image), {}, {}
    for name, method in BASELINES.items():
        labels[name] = method(image, mask)
        confusion = sum(confusion_matrix(*slab) for slab in open_pair(volume["truth"], labels[name]).slabs())
        scores[name] = dict(zip(PHASES, map(float, dice(confusion)))) | {"mean": mean_dice(confusion)}
    return scores, labels


def training_curves(results: dict[str, list[dict]]) -> dict[str, tuple[list[float], list[float]]]:
    """Training loss by step of each fit behind the rows (rows that share one show it once)."""
    series = {}
    for name, (first, *_) in results.items():
        if first["fit"] in {known for known, *_ in series.values()}:
            continue
        with open(Path(first["fit"]) / "metrics.csv") as file:
            points = [
                (float(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file) if row.get("train/loss")
            ]
        series[name] = (first["fit"], *zip(*points)) if points else (first["fit"], (), ())
    return {name: (steps, losses) for name, (_, steps, losses) in series.items()}


@command("make_report")
def main(cfg):
    out, runs = Path(cfg.out), Path(cfg.runs)
    results = read_results(runs, list(cfg.rows))
    volume = next(iter(results.values()))[0]["volumes"][0]
    baselines, baseline_labels = judge_baselines(volume, out.parent)
    rows = table_1(baselines | {name: mean_over_seeds(seeds) for name, seeds in results.items()})
    write_csv(out.with_name("table.csv"), rows)

    image, truth = read_image(volume["image"]).array, read_labels(volume["truth"])
    shown = {"k-means": baseline_labels["k-means"]}
    for name in results:
        shown[name] = read_volume(runs / "rows" / name / f"seed{results[name][0]['seed']}" / "labels.tif").array
    shown |= {name: read_labels(path).array for name, path in (cfg.further or {}).items()}
    if len(truth.array) < len(image):  # a range of slices is labelled: the others are not shown
        labelled = slice(*truth.provenance["slice_range"])
        image, shown = image[labelled], {name: labels[labelled] for name, labels in shown.items()}
    slices = save_figure(orthogonal_slices(image, {"truth": truth.array} | shown), out.with_name("slices"))
    losses = save_figure(curves(training_curves(results), "step", "training loss"), out.with_name("training"))

    text = ["Dice on the evaluation volume; the paper's values (its Table 1, measured data) stand beside ours."]
    if {"real", "synthetic"} <= set(results):
        gap = mean_over_seeds(results["real"])["mean"] - mean_over_seeds(results["synthetic"])["mean"]
        text.append(
            f"Domain gap: on the same real volume, learning from synthetic volumes alone costs {gap:.3f} "
            "of mean Dice against learning from real ones alone."
        )
    sections = [
        Section("Table 1", text, rows, command=cfg.command),
        Section("Slices", [f"Evaluation volume {volume['image']}, cut through its centre."], figures=[slices]),
        Section("Training", figures=[losses]),
    ]
    write_page(out, cfg.title, sections, cfg.note)
    write_text(out.with_name("table.md"), "\n".join([markdown(rows), "", *text[1:], ""]))
    print(out.with_name("table.md").read_text())
    print(out)


if __name__ == "__main__":
    main()
