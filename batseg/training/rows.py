"""One row of Table 1: segment the evaluation volumes with a fit, post-process, score against their truth."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from batseg.evaluation import confusion_matrix, dice, mean_dice
from batseg.evaluation.pairs import open_pair
from batseg.inference import predict
from batseg.normalisation import normalise, sample_mask
from batseg.phases import PHASES
from batseg.subvolumes import Pair
from batseg.training.runs import key_of
from batseg.volumes import Volume, read_image, read_volume, require_same_shape, write_json, write_volume

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
        for truth, prediction in open_pair(pair.labels, path, mapping=None).slabs():
            confusion = confusion + confusion_matrix(truth, prediction)
        total = total + confusion
        volumes.append(
            {"image": str(pair.images[0]), "truth": str(pair.labels), "labels": path.name, **scores(confusion)}
        )
    return {**scores(total), "volumes": volumes}


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
