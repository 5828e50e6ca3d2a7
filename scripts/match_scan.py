"""Imitate measured scans. Example: python scripts/match_scan.py raw=scan.h5 labels=a.tif out=conf/scan/mine.yaml"""

from concurrent.futures import ProcessPoolExecutor
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
from batseg.tomography.imitation import Imitation, as_ranges, compare_reconstructed, imitate, write_ranges
from batseg.tomography.reconstruction import examine, reconstruct
from batseg.tomography.scan import ScanConditions, middle_conditions
from batseg.volumes import InputError, read_labels, write_json, write_text


def match_one(path: str, cfg: dict) -> tuple[ScanConditions, dict, tuple]:
    """Imitate one scan and write its report; conditions, numbers, and a slice of either tomogram come back."""
    scan = read_scan(path)
    labels = read_labels(cfg["labels"], cfg["label_map"]).array
    found = examine(scan) if cfg["move"] else None
    alignment = None if found is None else found.alignment
    imitation = imitate(
        scan,
        labels,
        start=middle_conditions(cfg["scan"]),
        **{key: cfg[key] for key in ("seed", "same_structure", "fitted", "rows", "rounds")},
        jitter_px=None if alignment is None else movement(alignment),
        axis=None if alignment is None else alignment.axis,
    )
    folder, numbers = Path(cfg["report"]), imitation.numbers
    slices = tuple(volume[len(volume) // 2] for volume in (imitation.measured, imitation.simulated))
    if found is not None and (labels == NOT_LABELLED).any():
        tomogram = reconstruct(scan, found).array
        simulated, apart = compare_reconstructed(tomogram, labels, scan.pixel_nm, imitation.conditions, cfg["seed"])
        slices = tuple(volume[len(volume) // 2] for volume in (tomogram, simulated))
        numbers |= {"auc_reconstructed": apart.auc, "auc_reconstructed_spread": apart.spread}
    write_json(folder / f"{scan.name}.json", {**numbers, "conditions": imitation.conditions.record()})
    save_figure(report_figure(imitation), folder / scan.name)
    return imitation.conditions, numbers, slices


def movement(alignment) -> float:
    """Standard deviation of the sample's movement between projections, in pixels, both directions together."""
    return float(np.sqrt((alignment.shift_columns.var() + alignment.shift_rows.var()) / 2))


def report_figure(imitation: Imitation):
    """Measured beside imitated, in slices and curves."""
    numbers, pairs = imitation.numbers, ("measured", "simulated")
    volumes = {name: getattr(imitation, name) for name in pairs}
    masks = {name: getattr(imitation, f"{name}_mask") for name in pairs}
    return imitation_figure(
        {name: volume[len(volume) // 2] for name, volume in volumes.items()},
        {name: volume[masks[name]] for name, volume in volumes.items()},
        {name: power_spectrum(volume, masks[name]) for name, volume in volumes.items()},
        {name: half_set_correlation(getattr(imitation, f"{name}_halves"), masks[name]) for name in pairs},
        f"{numbers['scan']}: a classifier tells patches of the two apart with AUC {numbers['auc']:.2f}",
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
    paths = sorted(glob(cfg["raw"])) or [cfg["raw"]]
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
