"""Labels from PXCT and XTM. Example: python scripts/combine.py xtm=xtm.tif pxct=pxct.h5:/volume out=combined"""

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from batseg.command import command
from batseg.evaluation import confusion_matrix, dice
from batseg.inference import predict
from batseg.inference.bundle import Bundle, load_bundle
from batseg.normalisation import normalise
from batseg.phases import NOT_LABELLED, PHASES
from batseg.registration import combine, register, resample
from batseg.report.figures import orthogonal_slices, save_figure
from batseg.training.fit import use_cores
from batseg.volumes import (
    InputError,
    Volume,
    read_image,
    read_labels,
    read_volume,
    require_same_shape,
    write_json,
    write_volume,
)


def read_density(path: str, voxel_nm: float | None, outside: float | None) -> tuple[Volume, np.ndarray]:
    """PXCT tomogram in the units of its file, and where it is valid."""
    raw = read_volume(path, voxel_nm)
    inside = np.ones(raw.shape, bool) if outside is None else raw.array != outside
    scale, offset = (float(raw.provenance.get(key, start)) for key, start in (("scale", 1.0), ("offset", 0.0)))
    values = raw.array.astype(np.float32) * np.float32(scale) + np.float32(offset)
    return Volume(np.where(inside, values, 0), raw.require_voxel_nm(path)), inside


def load_network(path: str) -> Bundle:
    """Bundle of a network that looks at XTM and PXCT together."""
    bundle = load_bundle(path)
    channels = getattr(bundle.networks[0], "in_channels", 2)
    if channels != 2:
        raise InputError(f"{path}: a network of {channels} channel(s); one of two is wanted, XTM and PXCT")
    return bundle


def network_labels(bundle: Bundle, xtm: np.ndarray, density: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Labels (z, y, x; uint8, 255 outside) by the network, the sample ending where PXCT does."""
    channels = [normalise(np.where(inside, channel, 0), inside) for channel in (xtm, density)]
    return predict(
        bundle.networks, np.stack(channels), mask=inside, calibration=bundle.calibration, **bundle.looking
    ).labels


@command("combine")
def main(cfg):
    bundle = None if cfg.bundle is None else load_network(cfg.bundle)
    xtm = read_image(cfg.xtm, cfg.xtm_voxel_nm)
    xtm.require_voxel_nm(cfg.xtm)
    density, inside = read_density(cfg.pxct, cfg.pxct_voxel_nm, cfg.outside)
    calm = Volume(gaussian_filter(xtm.array, 1), xtm.voxel_nm)
    transform = register(density, calm, inside, list(cfg.shrink), list(cfg.tilts_deg), seed=cfg.seed + 1)
    labels, thresholds = combine(density, xtm, transform, inside)
    registered = resample(density, transform.inverse(), xtm, outside=0.0)
    if bundle is not None:
        use_cores(cfg.threads)
        labels = network_labels(bundle, xtm.array, registered, labels != NOT_LABELLED)
    record = {
        "rotation_deg": transform.angle_deg,
        "matrix": transform.matrix.tolist(),
        "offset_nm": transform.offset_nm.tolist(),
        "mutual_information": transform.similarity,
        "thresholds": thresholds,
        "bundle": bundle and bundle.digest,
        "fractions": {name: float((labels == code).sum() / (labels != 255).sum()) for code, name in enumerate(PHASES)},
    }
    shown = {"combined": labels}
    if cfg.truth is not None:
        truth = read_labels(cfg.truth).array
        require_same_shape(truth=truth, xtm=xtm)
        both = np.where((truth != 255) & (labels != 255), truth, 255).astype(np.uint8)
        score = np.atleast_1d(dice(confusion_matrix(both, np.where(labels == 255, 0, labels).astype(np.uint8))))
        record["dice"] = {name: float(value) for name, value in zip(PHASES, score)}
        shown["given"] = truth
        print(", ".join(f"{name} {value:.3f}" for name, value in record["dice"].items()))
    out = Path(cfg.out)
    write_volume(out / "labels.tif", Volume(labels, xtm.voxel_nm, {"xtm": str(cfg.xtm), "pxct": str(cfg.pxct)}))
    write_volume(out / "density.tif", Volume(registered, xtm.voxel_nm))
    write_json(out / "combine.json", record)
    save_figure(orthogonal_slices(xtm.array, shown), out / "combine.png")


if __name__ == "__main__":
    main()
