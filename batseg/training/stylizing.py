"""From basic structures to stylised ones: folders of labels in, folders of labels out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as lightning

from batseg.networks.cyclegan import Generator
from batseg.networks.restyle import stylize
from batseg.progress import track
from batseg.subvolumes import find_pairs
from batseg.training.fit import fit
from batseg.training.style import StyleModule
from batseg.training.style_data import StyleDataModule
from batseg.volumes import InputError, Volume, read_labels, read_volume, write_json, write_volume


def learn_and_apply(
    module: StyleModule,
    data: StyleDataModule,
    trainer: lightning.Trainer,
    folder: str | Path,
    structures: str | Path,
    out: str | Path,
    seed: int = 0,
) -> list[Path]:
    """Train a style in `folder` (or go on with it) and restyle the structures; returns their new folders.

    module, data and trainer are those of `python train.py +experiment=style`.
    """
    fit(module, data, trainer, folder, "auto")
    return stylize_folders(module.generator.eval(), structures, out, seed)


def stylize_folders(
    generator: Generator,
    structures: str | Path,
    out: str | Path,
    seed: int = 0,
    fractions: Sequence[float] | None = None,
    min_island: int = 8,
    axes: Sequence[int] = (0, 1, 2),
    label_map: Mapping[int, str] | None = None,
    voxel_nm: float | None = None,
    origin: str = "",
) -> list[Path]:
    """Restyle structures/NAME/labels.* into out/NAME/labels.tif, with instances.tif where there is one, and style.json.

    Structure i draws its noise from (seed, i). `origin` goes into the provenance. See `restyle.stylize`.
    """
    folders = []
    pairs = find_pairs({"folder": str(structures), "labels": "labels"}, label_map, voxel_nm)
    for index, pair in enumerate(track(pairs, "restyling")):
        source = Path(pair.labels).parent
        given = read_labels(pair.labels, label_map, voxel_nm)
        known = sorted(file for file in source.glob("instances.*") if file.suffix != ".json")
        instances = read_volume(known[0]).array if known else None
        rng = np.random.default_rng((seed, index))
        try:
            styled, carried = stylize(generator, given.array, rng, instances, fractions, min_island, axes)
        except ValueError as error:
            raise InputError(f"{pair.labels}: {error}") from error
        provenance = {**given.provenance, "restyled_by": origin, "style_seed": [seed, index]}
        folder = Path(out) / source.name
        write_volume(folder / "labels.tif", Volume(styled, given.voxel_nm, provenance))
        if carried is not None:
            write_volume(folder / "instances.tif", Volume(carried, given.voxel_nm, provenance))
        before, after = (np.bincount(labels.ravel(), minlength=4) / labels.size for labels in (given.array, styled))
        moved = float((styled != given.array).mean())
        report = {"fractions_before": before.tolist(), "fractions": after.tolist(), "share_of_voxels_changed": moved}
        write_json(folder / "style.json", report)
        folders.append(folder)
    return folders
