"""The sample campaign: labelled tomograms made from structure recipes and scan conditions, folder by folder.

    folder/real/0/{labels,image}.tif  folder/evaluation/0/...  folder/synthetic/0/...
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from batseg.progress import progress_bar
from batseg.structures.electrode import generate_electrode
from batseg.tomography.scan import draw_conditions
from batseg.tomography.synthetic import simulate_tomogram, turn_cylinder
from batseg.volumes import Volume, write_volume

PARTS = ("real", "evaluation", "synthetic")


def make_sample(
    folder: str | Path,
    voxel_nm: float,
    seed: int,
    workers: int,
    real: Mapping,
    evaluation: Mapping,
    synthetic: Mapping,
) -> Path:
    """Make whatever of the campaign is not there yet and return its folder.

    real, evaluation, synthetic : {count, shape (z, y, x), structure, scan, diameter_px}; with a diameter a cylinder is
        turned from the structure (255 outside), without one the block is scanned inside a larger cylinder.
    A volume depends on (seed, part, index) alone. It is complete when its image is there, which is written last.
    """
    folder = Path(folder)
    parts = dict(zip(PARTS, (real, evaluation, synthetic)))
    jobs = [
        (folder / part / str(index), settings, voxel_nm, (seed, PARTS.index(part), index))
        for part, settings in parts.items()
        for index in range(settings["count"])
    ]
    jobs = [job for job in jobs if not (job[0] / "image.tif").exists()]
    if not jobs:
        return folder
    with progress_bar("making the sample campaign", len(jobs)) as bar:
        with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
            for future in as_completed([pool.submit(make_tomogram, *job) for job in jobs]):
                future.result()
                bar.advance()
    return folder


def make_tomogram(folder: Path, settings: Mapping, voxel_nm: float, seed: Sequence[int]) -> None:
    """One structure, its scan and reconstruction: folder/labels.tif and folder/image.tif."""
    rng = np.random.default_rng(seed)
    labels = generate_electrode(settings["structure"], settings["shape"], voxel_nm, rng).labels
    if settings["diameter_px"] is not None:
        labels = turn_cylinder(labels, settings["diameter_px"], labels.shape[-1])
    conditions = draw_conditions(settings["scan"], rng)
    image, labels, _ = simulate_tomogram(labels, voxel_nm, conditions, rng, threads=1)
    origin = {"simulated": True, "seed": list(seed)}
    write_volume(folder / "labels.tif", Volume(labels, voxel_nm, origin))
    write_volume(folder / "image.tif", Volume(image.array, voxel_nm, {**image.provenance, **origin}))
