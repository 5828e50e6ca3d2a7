"""Reconstruct raw scans. Example: python scripts/reconstruct.py projections='scans/*.h5' out=tomograms"""

from glob import glob
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from skimage.io import imsave

from batseg.command import command
from batseg.tomography.exchange import read_scan
from batseg.tomography.reconstruction import crop_volume, examine, provenance, reconstruct_slabs
from batseg.tomography.retrieval import half_pass_nm
from batseg.volumes import InputError, Volume, create_zarr, open_volume, replacing, write_json, write_volume

EXAMINING = ("axis", "illumination", "move")
SLABS = ("filter", "cutoff", "stripes", "stripe_width", "half_pass_nm", "binning", "slab_rows", "backend")


def targets(pattern: str, out: str, ending: str) -> list[tuple[str, Path]]:
    """(scan, tomogram) of every scan to reconstruct."""
    paths = [pattern] if Path(pattern).exists() else sorted(glob(pattern))
    if not paths:
        raise InputError(f"no raw scan matches {pattern}")
    if Path(out).suffix in (".tif", ".tiff", ".zarr"):
        if len(paths) > 1:
            raise InputError(f"out={out} is one file, but {len(paths)} scans match {pattern}; give a folder")
        return [(paths[0], Path(out))]
    if ending not in (".tif", ".zarr"):
        raise InputError(f"ending must be .tif or .zarr, got {ending}")
    return [(path, Path(out) / f"{Path(path).stem}{ending}") for path in paths]


def reconstruct_one(path: str, out: Path, cfg: dict) -> None:
    """Reconstruct one scan into `out`, a PNG of its middle slice beside it and the numbers in OUT.json."""
    scan = read_scan(path, cfg["rotation_deg"])
    settings = {key: cfg[key] for key in SLABS}
    if cfg["delta_over_beta"] is not None:
        distance = cfg["distance_m"] or scan.distance_m
        if distance is None or scan.energy_kev is None:
            raise InputError(f"{path}: no distance or energy in the file; give half_pass_nm=... instead")
        settings["half_pass_nm"] = half_pass_nm(cfg["delta_over_beta"], distance, scan.energy_kev)
    found = examine(scan, **{key: cfg[key] for key in EXAMINING})
    record = {**provenance(scan, found, {**settings, "crop": cfg["crop"]}), "file": Path(path).name}
    voxel_nm = None if scan.pixel_nm is None else scan.pixel_nm * cfg["binning"]
    slabs = reconstruct_slabs(scan, found, **settings)
    if out.suffix == ".zarr" and cfg["crop"] == "none":
        volume = stream(out, slabs, [int(n / cfg["binning"] + 1e-9) for n in scan.shape[1:]], voxel_nm, record)
    else:
        volume = Volume(np.concatenate([slab for _, slab in slabs]), voxel_nm, record)
        volume = crop_volume(volume, cfg["crop"], found, cfg["binning"])
        write_volume(out, volume)
    write_preview(out.with_suffix(".png"), np.asarray(volume.array[volume.shape[0] // 2]))
    write_json(
        out.with_suffix(".json"), {"axes": "zyx", "shape": list(volume.shape), "voxel_size_nm": voxel_nm, **record}
    )


def stream(out: Path, slabs, size: list[int], voxel_nm: float | None, record: dict) -> Volume:
    """Write slabs to OME-Zarr as they come: the tomogram never has to fit into memory."""
    with replacing(out) as draft:
        store = create_zarr(draft, (size[0], size[1], size[1]), np.float32, voxel_nm, record)
        for first, slab in slabs:
            store[first : first + len(slab)] = slab
    return open_volume(out)


def write_preview(path: Path, image: np.ndarray) -> None:
    """The middle slice as an 8-bit PNG, from the 0.5th to the 99.5th percentile."""
    low, high = np.percentile(image, (0.5, 99.5))
    grey = np.clip((image - low) / max(high - low, 1e-30) * 255, 0, 255).astype(np.uint8)
    with replacing(path) as draft:
        imsave(draft, grey, check_contrast=False)


@command("reconstruct")
def main(cfg):
    settings = OmegaConf.to_container(cfg, resolve=True)
    for path, out in targets(settings["projections"], settings["out"], settings["ending"]):
        if out.exists() and not settings["overwrite"]:
            continue
        reconstruct_one(path, out, settings)


if __name__ == "__main__":
    main()
