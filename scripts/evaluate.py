"""Score a segmentation. Example: python scripts/evaluate.py truth=labels.tif prediction=predicted.tif out=m.json"""

from pathlib import Path

from rich.console import Console

from batseg.command import command
from batseg.evaluation.pairs import open_pair
from batseg.evaluation.table import as_csv, preset_columns, printed, score_slabs
from batseg.volumes import write_json, write_text


@command("evaluate")
def main(cfg):
    columns = preset_columns(cfg.preset)
    out = Path(cfg.out)
    if out.suffix != ".json":
        raise ValueError(f"out names the JSON file (.json), got {out}")
    for source in filter(None, (cfg.truth, cfg.prediction, cfg.mask)):
        if out.resolve() == Path(source).with_suffix(".json").resolve():
            raise ValueError(f"out={out} would overwrite the description of {source}; choose another name")
    pair = open_pair(cfg.truth, cfg.prediction, cfg.mask, cfg.slices, cfg.label_map)
    if cfg.unit not in ("voxel", "nm"):
        raise ValueError(f"unit is voxel or nm, got {cfg.unit!r}")
    voxel_nm = cfg.voxel_nm or pair.volumes[0].voxel_nm
    if cfg.unit == "nm" and not voxel_nm:
        raise ValueError(f"{cfg.truth}: the voxel size is unknown; give voxel_nm=...")
    scores = score_slabs(
        pair.slabs(),
        pair.shape,
        compat=cfg.compat,
        distances=cfg.distances,
        surface=cfg.surface,
        unit_per_voxel=voxel_nm if cfg.unit == "nm" else 1.0,
    )
    scored = {
        "voxels": int(scores.confusion.sum()),
        "coverage": scores.coverage,
        "confusion": scores.confusion.tolist(),
        "unit": cfg.unit,
        "compat": cfg.compat,
    }
    write_json(out, scores.metrics | {"scored": scored})
    write_text(out.with_suffix(".csv"), as_csv(scores.metrics))
    Console().print(printed(scores.metrics, columns, f"{cfg.preset}; distances in {cfg.unit}"))
    if scores.coverage < 1:
        print(f"coverage: the prediction names a phase for {scores.coverage:.2%} of the labelled voxels")
    print(f"{out}, {out.with_suffix('.csv')}")


if __name__ == "__main__":
    main()
