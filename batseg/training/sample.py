"""The sample campaign: labelled tomograms made from structure recipes, a learnt style and scan conditions.

folder/real/0/{labels,image}.tif  folder/evaluation/0/...    scanned as generated
folder/basic/0/labels.tif -> style -> folder/styled/0/labels.tif -> folder/synthetic/0/{labels,image}.tif
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from batseg.progress import progress_bar
from batseg.structures.electrode import generate_electrode
from batseg.tomography.scan import draw_conditions
from batseg.tomography.synthetic import simulate_tomogram, turn_cylinder
from batseg.training.stylizing import learn_and_apply
from batseg.volumes import Volume, read_labels, write_volume

STREAMS = ("real", "evaluation", "basic", "synthetic")
"""Volume i of a part draws from default_rng((seed, place of the part in this tuple, i))."""

VARIANTS = {
    "synthetic": ("styled", False),
    "synthetic_no_style": ("basic", False),
    "synthetic_fixed_scan": ("styled", True),
}
"""Folders of synthetic tomograms: where their structures come from, and whether all share the first one's scan."""


def make_sample(
    folder: str | Path,
    voxel_nm: float,
    seed: int,
    workers: int,
    real: Mapping,
    evaluation: Mapping,
    synthetic: Mapping,
    style: Mapping[str, Callable],
    images: Mapping[str, Mapping],
    variants: Sequence[str] = ("synthetic",),
) -> Path:
    """Make whatever of the campaign is not there yet and return its folder.

    real, evaluation, synthetic : {count, shape (z, y, x), structure, scan, diameter_px}; with a diameter a cylinder is
        turned from the structure (255 outside), without one the block is scanned inside a larger cylinder.
    style : {module, data, trainer} of the style transfer, each a factory without arguments left to give.
    images : {name: settings of the reconstruction}, the tomograms of each scan.
    variants : of VARIANTS, the synthetic folders wanted. A volume is complete when its last file is there.
    """
    folder = Path(folder)
    unknown = set(variants) - set(VARIANTS)
    if unknown:
        raise ValueError(f"variants are {', '.join(VARIANTS)}; got {', '.join(sorted(unknown))}")

    def todo(part: str, count: int, last: str = f"{list(images)[-1]}.tif") -> list[tuple[Path, int]]:
        targets = [(folder / part / str(index), index) for index in range(count)]
        return [(target, index) for target, index in targets if not (target / last).exists()]

    def key(part: str, index: int) -> tuple[int, int, int]:
        return seed, STREAMS.index(part), index

    jobs = [
        (make_tomogram, target, settings, voxel_nm, images, key(part, index))
        for part, settings in (("real", real), ("evaluation", evaluation))
        for target, index in todo(part, settings["count"])
    ]
    basic = todo("basic", synthetic["count"], "labels.tif")
    jobs += [(make_labels, target, synthetic, voxel_nm, key("basic", index)) for target, index in basic]
    together(jobs, workers, "making electrodes and scans")
    if todo("styled", synthetic["count"], "style.json") and any(VARIANTS[name][0] == "styled" for name in variants):
        parts = {name: style[name]() for name in ("module", "data", "trainer")}
        learn_and_apply(**parts, folder=folder / "style", structures=folder / "basic", out=folder / "styled", seed=seed)
    jobs = [
        (scan_labels, folder / VARIANTS[name][0] / str(index) / "labels.tif", target, synthetic["scan"], images, keys)
        for name in variants
        for target, index in todo(name, synthetic["count"])
        for keys in [(key("synthetic", 0 if VARIANTS[name][1] else index), key("synthetic", index))]
    ]
    together(jobs, workers, "scanning synthetic electrodes")
    return folder


def together(jobs: Sequence[tuple], workers: int, description: str) -> None:
    """Run jobs (function, arguments ...) in `workers` processes under a progress bar."""
    if not jobs:
        return
    with progress_bar(description, len(jobs)) as bar:
        with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
            for future in as_completed([pool.submit(*job) for job in jobs]):
                future.result()
                bar.advance()


def make_labels(folder: Path, settings: Mapping, voxel_nm: float, seed: Sequence[int]) -> np.ndarray:
    """One structure in folder/labels.tif; a cylinder if the settings give a diameter. Returns the labels."""
    rng = np.random.default_rng(seed)
    labels = generate_electrode(settings["structure"], settings["shape"], voxel_nm, rng).labels
    if settings["diameter_px"] is not None:
        labels = turn_cylinder(labels, settings["diameter_px"], labels.shape[-1])
    write_volume(folder / "labels.tif", Volume(labels, voxel_nm, {"simulated": True, "seed": list(seed)}))
    return labels


def make_tomogram(
    folder: Path, settings: Mapping, voxel_nm: float, images: Mapping[str, Mapping], seed: Sequence[int]
) -> None:
    """One structure with its scan: folder/labels.tif and folder/image.tif."""
    make_labels(folder, settings, voxel_nm, seed)
    scan_labels(folder / "labels.tif", folder, settings["scan"], images, ((*seed, 1), (*seed, 2)))


def scan_labels(
    source: Path, folder: Path, scan: Mapping, images: Mapping[str, Mapping], seeds: Sequence[Sequence[int]]
) -> None:
    """Scan a structure and reconstruct it; seeds : of the conditions and of everything else that is random."""
    volume = read_labels(source)
    conditions = draw_conditions(scan, np.random.default_rng(seeds[0]))
    rng = np.random.default_rng(seeds[1])
    tomograms, labels, _ = simulate_tomogram(volume.array, volume.voxel_nm, conditions, rng, images, threads=1)
    if not (folder / "labels.tif").exists():
        write_volume(folder / "labels.tif", Volume(labels, volume.voxel_nm, volume.provenance))
    for name, image in tomograms.items():
        origin = {**image.provenance, "simulated": True, "seeds": [list(seed) for seed in seeds]}
        write_volume(folder / f"{name}.tif", Volume(image.array, volume.voxel_nm, origin))
