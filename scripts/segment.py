"""Segment tomograms. Example: python scripts/segment.py bundle=models/laptop.pt image=tomogram.tif out=segmented

From raw scans: python scripts/segment.py bundle=models/laptop.pt 'projections=raw/*.h5' out=segmented
"""

import logging
import shutil
from glob import glob
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from omegaconf import OmegaConf

from batseg.command import command
from batseg.inference.bundle import load_bundle
from batseg.inference.familiarity import describe, warnings
from batseg.inference.source import NormalisedImage
from batseg.inference.streaming import OUTPUTS, Looking, finished, segment
from batseg.normalisation import robust_scale, sample_mask
from batseg.training.fit import use_cores
from batseg.volumes import InputError, Volume, open_volume, split_path, write_json, write_volume

log = logging.getLogger(__name__)
LOOKING = ("window", "windows", "overlap", "directions", "halo", "window_fit", "mirror", "batch_size")


def matches(pattern: str) -> list[str]:
    """Paths of a glob, in order; a path as it is."""
    found = sorted(glob(pattern)) or [pattern]
    if not split_path(found[0])[0].exists():
        raise InputError(f"nothing matches {pattern}")
    return found


def tomograms(cfg: dict) -> list[tuple[str, list[str]]]:
    """(sample, paths of its channels, or of its raw scan) of everything to segment."""
    if (cfg["image"] is None) == (cfg["projections"] is None):
        raise InputError("give one of image=... (tomograms) and projections=... (raw scans)")
    if isinstance(cfg["image"], list):
        return [(split_path(cfg["image"][0])[0].stem, cfg["image"])]
    paths = matches(cfg["image"] or cfg["projections"])
    files = [split_path(path)[0] for path in paths]
    names = [file.parent.name if file.stem == "image" and len(files) > 1 else file.stem for file in files]
    if len(set(names)) < len(names):
        raise InputError(f"several of the {len(paths)} tomograms have the same name")
    return [(name, [path]) for name, path in zip(names, paths)]


def opened(paths: list[str], cfg: dict, name: str) -> list[Volume]:
    """The channels of a tomogram, reconstructed if raw scans are given."""
    if cfg["projections"] is None:
        return [open_volume(path, cfg["voxel_nm"]) for path in paths]
    from batseg.tomography.exchange import read_scan  # here, as who has tomograms needs no tomography libraries
    from batseg.tomography.reconstruction import examine, reconstruct

    scan = read_scan(paths[0])
    found = examine(scan)
    volumes = [reconstruct(scan, found, **settings) for settings in cfg["reconstruction"]]
    if cfg["tomograms"]:
        for number, volume in enumerate(volumes):
            write_volume(Path(cfg["tomograms"]) / f"{name}{f'_{number}' if number else ''}.tif", volume)
    return volumes


def stamp(path: str) -> list:
    """What tells one version of a file from another."""
    status = split_path(path)[0].stat()
    return [str(path), status.st_size, status.st_mtime_ns]


@command("segment")
def main(cfg):
    settings = OmegaConf.to_container(cfg, resolve=True)
    bundles = [load_bundle(path) for part in np.atleast_1d(settings["bundle"]) for path in matches(str(part))]
    looking = {**bundles[0].looking, **{key: settings[key] for key in LOOKING if settings[key] is not None}}
    post = bundles[0].postprocess if cfg.postprocess is None else instantiate(cfg.postprocess)
    if settings["reconstruction"] is None:
        settings["reconstruction"] = bundles[0].reconstruction
    samples, out = tomograms(settings), Path(cfg.out)
    if out.suffix == ".tif" and len(samples) > 1:
        raise InputError(f"out={out} is one file, but there are {len(samples)} tomograms; give a folder")
    use_cores(cfg.threads)
    for name, paths in samples:
        tiff, folder = (out, out.with_suffix("")) if out.suffix == ".tif" else (out / f"{name}.tif", out / name)
        made = {"bundles": [bundle.digest for bundle in bundles], "sources": [stamp(path) for path in paths]}
        chosen = {key: settings[key] for key in (*LOOKING, "mask", "voxel_nm", "precision", "reconstruction")}
        identity = {**made, "chosen": chosen, "postprocess": repr(post), "fusion": repr(cfg.fusion)}
        if finished(folder, identity) and tiff.exists():
            log.warning("%s is there already", tiff)
            continue
        volumes = opened(paths, settings, name)
        wanted = getattr(bundles[0].networks[0], "in_channels", len(volumes))
        if wanted != len(volumes):
            raise InputError(f"{name}: the network wants {wanted} channels, got {len(volumes)}; give image='[a,b]'")
        grey, voxel_nm = volumes[0].array, volumes[0].voxel_nm
        mask = None if cfg.mask == "none" else sample_mask(grey) if cfg.mask == "auto" else opened_mask(cfg.mask)
        image = NormalisedImage([(volume.array, *robust_scale(volume.array, mask)) for volume in volumes])
        channel = NormalisedImage(image.channels[:1])
        remarks = warnings(describe(channel, mask, voxel_nm), bundles[0].familiar)
        for remark in remarks:
            log.warning("%s is unlike the training data: %s", name, remark)
        segment(
            [network for bundle in bundles for network in bundle.networks],
            image,
            folder,
            Looking(**looking),
            mask,
            instantiate(cfg.fusion),
            bundles[0].calibration,
            cfg.precision,
            cfg.device,
            cfg.max_memory_gb,
            voxel_nm,
            identity,
            post.fitted(grey, mask),
            name,
        )
        provenance = {"made_by": "scripts/segment.py", **made, "remarks": remarks, "postprocess": repr(post)}
        write_volume(tiff, Volume(open_volume(folder / "labels.zarr").array, voxel_nm, provenance))
        write_json(folder / "remarks.json", remarks)
        if not cfg.zarr:
            for output in OUTPUTS:
                shutil.rmtree(folder / f"{output}.zarr", ignore_errors=True)
        print(tiff, flush=True)


def opened_mask(path: str) -> np.ndarray:
    """A mask volume as bool."""
    return np.asarray(open_volume(path).array[:]) > 0


if __name__ == "__main__":
    main()
