"""Pack a fit into one file. Example: python scripts/make_bundle.py fit=runs/fits/hybrid-0123456789 out=hybrid.pt"""

import subprocess
from dataclasses import fields
from glob import glob
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from omegaconf import OmegaConf

from batseg.command import CONF, command
from batseg.inference import predict
from batseg.inference.bundle import save_bundle
from batseg.inference.calibration import Calibration, fit_calibration, reliability
from batseg.inference.familiarity import describe
from batseg.inference.planning import Looking
from batseg.inference.source import NormalisedImage
from batseg.normalisation import normalise, robust_scale, sample_mask
from batseg.phases import PHASES
from batseg.progress import track
from batseg.subvolumes import find_pairs
from batseg.training.fit import load_weights, use_cores
from batseg.volumes import InputError, open_volume, read_image, read_labels, require_same_shape, write_text


def training_sources(config: dict) -> list:
    """The sources a fit drew crops from."""
    data = config["data"]
    return [source for name, source in data["sources"].items() if data["counts"].get(name)]


def calibrate(networks: list, looking: dict, pairs: list, table: Path) -> tuple[Calibration, dict]:
    """Calibration of the fused probabilities on labelled tomograms, and its error before and after."""
    truths, probabilities = [], []
    for pair in pairs:
        images = [read_image(path, pair.voxel_nm).array for path in pair.images]
        truth = read_labels(pair.labels, pair.label_map).array
        require_same_shape(image=images[0], labels=truth)
        mask = sample_mask(images[0])
        scaled = [normalise(image, mask) for image in images]
        prediction = predict(networks, scaled[0] if len(scaled) == 1 else np.stack(scaled), mask=mask, **looking)
        known = (truth != 255) & mask
        truths.append(truth[known])
        probabilities.append(prediction.probabilities[:, known])
    truth, fused = np.concatenate(truths), np.concatenate(probabilities, axis=1)
    calibration = fit_calibration(truth, fused)
    before, after = reliability(truth, fused), reliability(truth, calibration(fused))
    lines = ["bin,voxels_before,confidence_before,accuracy_before,voxels_after,confidence_after,accuracy_after"]
    for row in zip(range(len(before.counts)), *(getattr(one, field) for one in (before, after) for field in FIELDS)):
        lines.append(",".join(f"{value:.6g}" for value in row))
    write_text(table, "\n".join(lines) + "\n")
    return calibration, {"ece_before": before.error, "ece_after": after.error, "voxels": int(truth.size)}


FIELDS = ("counts", "confidence", "accuracy")


@command("make_bundle")
def main(cfg):
    folders = [Path(path) for part in np.atleast_1d(cfg.fit) for path in sorted(glob(str(part))) or [str(part)]]
    for folder in folders:
        if not (folder / "fit.json").exists():
            raise InputError(f"{folder}: not a finished fit")
    configs = [OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")) for folder in folders]
    network = configs[0]["model"]
    if any(config["model"] != network for config in configs):
        raise InputError("the fits of an ensemble must have one network configuration")
    use_cores()
    networks = [load_weights(instantiate(network), folder, cfg.checkpoint) for folder in folders]
    known = {field.name for field in fields(Looking)}
    looking = {key: value for key, value in configs[0]["segment"].items() if key in known}
    looking |= OmegaConf.to_container(cfg.looking) if cfg.looking else {}
    Looking(**looking)
    sources = OmegaConf.to_container(cfg.training) if cfg.training else training_sources(configs[0])
    codes = {"label_map": configs[0]["data"]["label_map"], "voxel_nm": cfg.voxel_nm or configs[0]["data"]["voxel_nm"]}
    familiar = []
    for pair in track(find_pairs(sources, **codes), "training tomograms"):
        volume = open_volume(pair.images[0], pair.voxel_nm)
        mask = sample_mask(volume.array)
        image = NormalisedImage([(volume.array, *robust_scale(volume.array, mask))])
        familiar.append(describe(image, mask, volume.voxel_nm))
    calibration, judged = Calibration(), {}
    if cfg.validation is not None:
        pairs = find_pairs(OmegaConf.to_container(cfg)["validation"], **codes)
        calibration, judged = calibrate(networks, looking, pairs, Path(cfg.out).with_suffix(".calibration.csv"))
    sizes = {one["voxel_nm"] for one in familiar if one["voxel_nm"]}
    path = save_bundle(
        cfg.out,
        [network.state_dict() for network in networks],
        network,
        looking,
        calibration,
        cfg.voxel_nm or (sizes.pop() if len(sizes) == 1 else None),
        OmegaConf.to_container(cfg.postprocess),
        familiar,
        {"fits": [folder.name for folder in folders], "calibration": judged, "note": cfg.note, "commit": commit()},
        [dict(channel) for channel in OmegaConf.to_container(cfg)["reconstruction"]],
    )
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    if judged:
        offsets = ", ".join(f"{phase} {value:.2f}" for phase, value in zip(PHASES, calibration.offsets))
        print(f"temperature {calibration.temperature:.2f}, offsets {offsets}")
        print(f"calibration error {judged['ece_before']:.3f} -> {judged['ece_after']:.3f}")


def commit() -> str:
    """The version of the code, if it is known."""
    asked = subprocess.run(["git", "-C", CONF.parent, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


if __name__ == "__main__":
    main()
