"""One row of Table 1: segment the evaluation volumes with a fit, post-process, score against their truth."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats
from torch import nn

from batseg.evaluation import confusion_matrix, dice, mean_dice
from batseg.evaluation.pairs import open_pair
from batseg.inference import predict
from batseg.inference.windows import fit_window
from batseg.normalisation import normalise, sample_mask
from batseg.phases import PHASES
from batseg.subvolumes import Pair
from batseg.training.runs import key_of
from batseg.volumes import (
    Volume,
    read_image,
    read_labels,
    read_volume,
    require_same_shape,
    write_json,
    write_text,
    write_volume,
)

log = logging.getLogger(__name__)

Postprocess = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def judge(
    network: nn.Module | None,
    pairs: Sequence[Pair],
    folder: str | Path,
    cache: str | Path,
    settings: Mapping,
    postprocess: Postprocess,
) -> dict:
    """Score a network on labelled volumes: {"dice": {phase: value}, "mean": ..., "volumes": [...]}.

    Labels are written to folder/labels.tif (labels_1.tif ... for further volumes). `cache` keeps what the network
    said before post-processing, for other rows of the same fit. settings : of `batseg.inference.predict`.
    Confusion matrices of several volumes are added up. A truth may cover only a range of slices (its sidecar's
    slice_range); only these are scored.
    """
    folder, total, volumes = Path(folder), 0, []
    for index, pair in enumerate(pairs):
        images = [read_image(path, pair.voxel_nm) for path in pair.images]
        require_same_shape(**dict(zip(pair.images, images)))
        mask = sample_mask(images[0].array)
        raw = segmented(network, images, mask, cache, settings, pair.images)
        labels = postprocess(raw, images[0].array, mask)
        path = folder / ("labels.tif" if index == 0 else f"labels_{index}.tif")
        provenance = {"image": list(map(str, pair.images)), "made_by": "train.py"}
        write_volume(path, Volume(labels, images[0].voxel_nm, provenance))
        confusion = 0
        for truth, prediction in open_pair(truth_in_own_codes(pair, folder, index), path).slabs():
            confusion = confusion + confusion_matrix(truth, prediction)
        total = total + confusion
        volumes.append(
            {"image": str(pair.images[0]), "truth": str(pair.labels), "labels": path.name, **scores(confusion)}
        )
    return {**scores(total), "volumes": volumes}


def check(pairs: Sequence[Pair], settings: Mapping) -> None:
    """Refuse volumes that cannot be judged, before anything is trained: InputError."""
    for pair in pairs:
        for path in pair.images:
            shape = read_image(path, pair.voxel_nm).shape
            for direction in settings["directions"]:
                fit_window(settings["window"], shape, direction, settings["window_fit"])
        read_labels(pair.labels, pair.label_map)


def segmented(
    network: nn.Module,
    images: Sequence[Volume],
    mask: np.ndarray,
    cache: str | Path,
    settings: Mapping,
    paths: Sequence[str],
) -> np.ndarray:
    """Labels (z, y, x) of one volume by the network alone, read from the cache if they are there."""
    known = Path(cache) / f"{key_of({'images': list(map(str, paths)), 'settings': dict(settings)})}.tif"
    if known.exists():
        return read_volume(known).array
    scaled = [normalise(image.array, mask) for image in images]
    image = scaled[0] if len(scaled) == 1 else np.stack(scaled)
    labels = predict(network, image, mask=mask, **settings).labels
    write_volume(known, Volume(labels, images[0].voxel_nm))
    return labels


def truth_in_own_codes(pair: Pair, folder: Path, index: int) -> str | Path:
    """The truth's path; where its codes are others (label_map), that of a copy in the codes of `phases`."""
    if pair.label_map is None:
        return pair.labels
    return write_volume(folder / f"truth_{index}.tif", read_labels(pair.labels, pair.label_map))


def scores(confusion: np.ndarray) -> dict:
    """Dice of each phase (null if absent), their mean, and the confusion matrix they come from."""
    values = {phase: None if np.isnan(value) else float(value) for phase, value in zip(PHASES, dice(confusion))}
    return {"dice": values, "mean": mean_dice(confusion), "confusion": confusion.tolist()}


def write_result(folder: str | Path, result: Mapping) -> Path:
    """result.json of a row; its presence says that the row is complete."""
    return write_json(Path(folder) / "result.json", result)


def show(name: str, seed: int, result: Mapping) -> None:
    """Print a row's Dice on standard output."""
    parts = [f"{phase} {value:.3f}" if value is not None else f"{phase} -" for phase, value in result["dice"].items()]
    print(f"{name} seed {seed}: Dice {'  '.join(parts)}  mean {result['mean']:.3f}", flush=True)


def summary(rows: str | Path) -> list[dict]:
    """One entry per row name with results under `rows`: seeds, and of each phase and the mean (value, half interval).

    The interval is that of 95 % confidence of the mean over seeds (Student's t); NaN for a single seed.
    """
    table = []
    for folder in sorted(path for path in Path(rows).glob("*") if path.is_dir()):
        results = [json.loads(path.read_text()) for path in sorted(folder.glob("seed*/result.json"))]
        if results:
            columns = {phase: [result["dice"][phase] for result in results] for phase in PHASES}
            columns["mean"] = [result["mean"] for result in results]
            scored = {key: mean_and_interval(values) for key, values in columns.items()}
            table.append({"name": folder.name, "seeds": len(results), **scored})
    return table


def mean_and_interval(values: Sequence[float | None]) -> tuple[float, float]:
    """Mean and half width of its 95 % confidence interval; None is left out, (NaN, NaN) if nothing is left."""
    known = np.array([value for value in values if value is not None], float)
    if len(known) < 2:
        return (float(known[0]) if len(known) else np.nan), np.nan
    half = stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return float(known.mean()), float(half)


def show_summary(rows: str | Path) -> None:
    """Print the table of all rows on standard output and write it as rows/table.csv."""
    table = summary(rows)
    if not table:
        return
    columns = (*PHASES, "mean")
    lines = [",".join(["name", "seeds", *(f"{column},{column}_interval" for column in columns)])]
    print(f"{'Dice':24s} {'seeds':>5s}  " + "  ".join(f"{column:>13s}" for column in columns))
    for row in table:
        cells = [f"{value:.3f}" + (f" ± {half:.3f}" if half == half else "") for value, half in map(row.get, columns)]
        print(f"{row['name']:24s} {row['seeds']:5d}  " + "  ".join(f"{cell:>13s}" for cell in cells), flush=True)
        numbers = [f"{number:.6g}" for column in columns for number in row[column]]
        lines.append(",".join([row["name"], str(row["seeds"]), *numbers]))
    write_text(Path(rows) / "table.csv", "\n".join(lines) + "\n")
