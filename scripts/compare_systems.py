"""Several segmentations against one truth: all metrics, intervals, paired tests, where they fail (Table S2).

Example: python scripts/compare_systems.py truth=t.tif 'systems={kmeans: a.tif, hybrid: b.tif}' out=runs/s2
"""

from pathlib import Path

import numpy as np

from batseg.command import command
from batseg.evaluation.comparison import compare, cropped
from batseg.evaluation.pairs import open_pair
from batseg.evaluation.table import preset_columns
from batseg.report.comparison import failure_figure
from batseg.report.figures import save_figure
from batseg.report.table import markdown, write_csv
from batseg.volumes import write_text


@command("compare_systems")
def main(cfg):
    if cfg.unit not in ("voxel", "nm"):
        raise ValueError(f"unit is voxel or nm, got {cfg.unit!r}")
    if not hasattr(cfg.systems, "items") or not cfg.systems:
        raise ValueError("systems names the segmentations, as in 'systems={kmeans: a.tif, hybrid: b.tif}'")
    preset_columns(cfg.preset)
    predictions = {}
    for name, path in cfg.systems.items():
        pair = open_pair(cfg.truth, path, cfg.mask, cfg.slices, cfg.label_map)
        truth, predictions[name] = (np.concatenate(slabs) for slabs in zip(*pair.slabs()))
    voxel_nm = cfg.voxel_nm or pair.volumes[0].voxel_nm
    if cfg.unit == "nm" and not voxel_nm:
        raise ValueError(f"{cfg.truth}: the voxel size is unknown; give voxel_nm=...")
    tables = compare(
        *cropped(truth, predictions),
        preset=cfg.preset,
        compat=cfg.compat,
        unit_per_voxel=voxel_nm if cfg.unit == "nm" else 1.0,
        block=cfg.block,
        resamples=cfg.resamples,
        deepest=cfg.deepest,
        seed=cfg.seed,
    )
    out = Path(cfg.out)
    for name, rows in tables.items():
        write_csv(out / f"{name}.csv", rows)
    save_figure(failure_figure(tables), out / "failures")
    write_text(out / "table_s2.md", markdown(tables["table_s2"]) + "\n")
    for name in ("intervals", "paired", "boundary", "contact"):
        if name in tables:
            print(f"\n{name}\n{markdown(tables[name])}")
    if "ranks" in tables:
        known = [row for row in tables["ranks"] if row["best"] is not None]
        print(
            f"\n{sum(row['same'] for row in known)} of {len(known)} metrics x phases name the same best system as Dice"
        )
    print(out)


if __name__ == "__main__":
    main()
