"""Give basic structures the style that a fit has learnt.

Example: python scripts/stylize.py fit=runs/fits/style-1a2b3c structures=runs/structures out=runs/stylized
"""

from pathlib import Path

import numpy as np

from batseg.command import command
from batseg.networks.restyle import stylize
from batseg.progress import track
from batseg.subvolumes import find_pairs
from batseg.training.fit import use_cores
from batseg.training.style import load_generator
from batseg.volumes import InputError, Volume, read_labels, read_volume, write_json, write_volume


@command("stylize")
def main(cfg):
    use_cores(cfg.threads)
    generator = load_generator(cfg.fit)
    pairs = find_pairs({"folder": cfg.structures, "labels": "labels"}, cfg.label_map, cfg.voxel_nm)
    for index, pair in enumerate(track(pairs, "restyling")):
        folder = Path(pair.labels).parent
        given = read_labels(pair.labels, cfg.label_map, cfg.voxel_nm)
        known = sorted(file for file in folder.glob("instances.*") if file.suffix != ".json")
        instances = read_volume(known[0]).array if known else None
        try:
            styled, carried = stylize(
                generator, given.array, np.random.default_rng((cfg.seed, index)), instances, cfg.fractions,
                cfg.min_island, cfg.axes,
            )  # fmt: skip
        except ValueError as error:
            raise InputError(f"{pair.labels}: {error}") from error
        origin = {**given.provenance, "restyled_by": str(cfg.fit), "style_seed": [cfg.seed, index]}
        out = Path(cfg.out) / folder.name
        write_volume(out / "labels.tif", Volume(styled, given.voxel_nm, origin))
        if carried is not None:
            write_volume(out / "instances.tif", Volume(carried, given.voxel_nm, origin))
        counts = [np.bincount(labels.ravel(), minlength=4) / labels.size for labels in (given.array, styled)]
        moved = float((styled != given.array).mean())
        write_json(out / "style.json", {"fractions_before": counts[0].tolist(), "fractions": counts[1].tolist(),
                                        "share_of_voxels_changed": moved})  # fmt: skip
        print(f"{out}: {100 * moved:.1f} % of the voxels changed")


if __name__ == "__main__":
    main()
