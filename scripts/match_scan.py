"""Imitate measured scans. Example: python scripts/match_scan.py raw=scan.h5 labels=a.tif out=conf/scan/mine.yaml

Where the projections are gone: image=tomogram.tif in place of raw.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from glob import glob
from multiprocessing import get_context
from pathlib import Path

import hydra
import numpy as np

from batseg.command import command
from batseg.phases import NOT_LABELLED
from batseg.progress import track
from batseg.report.figures import save_figure
from batseg.report.imitation import gallery, imitation_figure
from batseg.resolution import inscribed_block, shell_correlation
from batseg.tomography.exchange import read_scan
from batseg.tomography.gap import power_spectrum
from batseg.tomography.imitation import (
    Effort,
    Imitation,
    as_ranges,
    compare_reconstructed,
    imitate,
    imitate_tomogram,
    write_ranges,
)
from batseg.tomography.reconstruction import examine, reconstruct
from batseg.tomography.scan import ScanConditions, middle_conditions
from batseg.volumes import InputError, open_volume, read_labels, write_json, write_text


def match_one(path: str, cfg: dict) -> tuple[ScanConditions, dict, tuple]:
    """Imitate one scan and write its report; conditions, numbers, and a slice of either tomogram come back."""
    labels = read_labels(cfg["labels"], cfg["label_map"]).array
    effort = Effort(**{item.name: cfg[item.name] for item in fields(Effort)})
    imitation, tomograms, numbers = (from_scan if cfg["raw"] else from_tomogram)(path, labels, cfg, effort)
    numbers = {**imitation.numbers, **numbers}
    folder = Path(cfg["report"])
    write_json(folder / f"{numbers['scan']}.json", {**numbers, "conditions": imitation.conditions.record()})
    save_figure(report_figure(imitation, "1/cm" if cfg["raw"] else "normalised"), folder / numbers["scan"])
    return imitation.conditions, numbers, tuple(volume[len(volume) // 2] for volume in tomograms)


def from_scan(path: str, labels: np.ndarray, cfg: dict, effort: Effort) -> tuple[Imitation, tuple, dict]:
    """The imitation of a raw scan, measured and simulated tomogram to show, numbers of the full reconstruction."""
    scan = read_scan(path)
    found = examine(scan) if cfg["move"] else None
    alignment = None if found is None else found.alignment
    imitation = imitate(
        scan,
        labels,
        middle_conditions(cfg["scan"]),
        effort,
        jitter_px=None if alignment is None else movement(alignment),
        axis=None if alignment is None else alignment.axis,
    )
    if found is None or not (labels == NOT_LABELLED).any():
        return imitation, (imitation.measured, imitation.simulated), {}
    tomogram = reconstruct(scan, found).array
    simulated, apart = compare_reconstructed(tomogram, labels, scan.pixel_nm, imitation.conditions, cfg["seed"])
    return imitation, (tomogram, simulated), {"auc_reconstructed": apart.auc, "auc_reconstructed_spread": apart.spread}


def from_tomogram(path: str, labels: np.ndarray, cfg: dict, effort: Effort) -> tuple[Imitation, tuple, dict]:
    """The imitation of a reconstruction."""
    volume = open_volume(path, cfg["voxel_nm"])
    if volume.voxel_nm is None:
        raise InputError(f"{path}: the voxel size is not known; give voxel_nm=...")
    start = middle_conditions(cfg["scan"])
    imitation = imitate_tomogram(volume, labels, start, effort, filter=cfg["filter"], name=Path(path).stem)
    return imitation, (imitation.measured, imitation.simulated), {}


def movement(alignment) -> float:
    """Standard deviation of the sample's movement between projections, in pixels, both directions together."""
    return float(np.sqrt((alignment.shift_columns.var() + alignment.shift_rows.var()) / 2))


def report_figure(imitation: Imitation, unit: str):
    """Measured beside imitated, in slices and curves."""
    numbers, pairs = imitation.numbers, ("measured", "simulated")
    volumes = {name: getattr(imitation, name) for name in pairs}
    masks = {name: getattr(imitation, f"{name}_mask") for name in pairs}
    return imitation_figure(
        {name: volume[len(volume) // 2] for name, volume in volumes.items()},
        {name: volume[masks[name]] for name, volume in volumes.items()},
        {name: power_spectrum(volume, masks[name]) for name, volume in volumes.items()},
        {
            name: half_set_correlation(halves, masks[name])
            for name in pairs
            if (halves := getattr(imitation, f"{name}_halves"))
        },
        f"{numbers['scan']}: a classifier tells patches of the two apart with AUC {numbers['auc']:.2f}",
        unit,
    )


def half_set_correlation(halves: tuple, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(frequency in 1/pixel, FSC) of two half-sets in the block inside the sample."""
    radius = np.sqrt(mask[0].sum() / np.pi)
    block = inscribed_block(mask.shape, radius)
    curve = shell_correlation(*(half[block] for half in halves), voxel_nm=1.0)
    return curve.frequency, curve.correlation


@command("match_scan")
def main(cfg):
    cfg = hydra.utils.instantiate(cfg, _convert_="all")
    if bool(cfg["raw"]) == bool(cfg["image"]):
        raise InputError("give either raw=..., the projections, or image=..., a tomogram")
    pattern = cfg["raw"] or cfg["image"]
    paths = sorted(glob(pattern)) or [pattern]
    if Path(cfg["out"]).suffix != ".yaml":
        raise InputError(f"out must be a .yaml file, got {cfg['out']}")
    if cfg["workers"] > 1 and len(paths) > 1:
        with ProcessPoolExecutor(cfg["workers"], mp_context=get_context("spawn")) as pool:
            found = list(track(pool.map(match_one, paths, [cfg] * len(paths)), "imitating scans", len(paths)))
    else:
        found = [match_one(path, cfg) for path in track(paths, "imitating scans")]
    conditions, numbers, slices = zip(*found)
    names = [each["scan"] for each in numbers]
    write_json(Path(cfg["report"]) / "gaps.json", {each["scan"]: each for each in numbers})
    save_figure(gallery(dict(zip(names, slices))), Path(cfg["report"]) / "side_by_side")
    comment = f"Estimated by match_scan from {', '.join(names)}."
    write_text(cfg["out"], write_ranges(as_ranges(conditions, cfg["widen"]), [comment]))
    print(f"wrote {cfg['out']} from {len(paths)} scans; reports in {cfg['report']}")


if __name__ == "__main__":
    main()
