"""Resolution by Fourier shell correlation. Example: python scripts/resolution.py projections=scan.h5 out=resolution"""

from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from batseg.command import command
from batseg.report.figures import curves, save_figure
from batseg.report.table import write_csv
from batseg.resolution import CRITERIA, ShellCorrelation, inscribed_block, shell_correlation
from batseg.tomography.exchange import read_scan
from batseg.tomography.reconstruction import examine, half_scan, reconstruct, sample_radius
from batseg.volumes import InputError, read_image, require_same_shape, write_json


def of_scan(path: str, settings: dict) -> ShellCorrelation:
    """FSC between the tomograms of every other projection and of the rest, inside the sample."""
    scan = read_scan(path)
    if scan.pixel_nm is None:
        raise InputError(f"{path}: the pixel size is unknown; reconstruct halves and give first=, second=, voxel_nm=")
    found = examine(scan)
    halves = [reconstruct(*half_scan(scan, found, start), **settings) for start in (0, 1)]
    radius = sample_radius(found, scan.shape[2]) / settings.get("binning", 1)
    block = inscribed_block(halves[0].shape, radius)
    return shell_correlation(*(half.array[block] for half in halves), halves[0].voxel_nm)


def of_volumes(first: str, second: str, voxel_nm: float | None) -> ShellCorrelation:
    """FSC between two tomograms of one sample on one grid."""
    volumes = [read_image(path, voxel_nm) for path in (first, second)]
    require_same_shape(first=volumes[0], second=volumes[1])
    return shell_correlation(*(volume.array for volume in volumes), volumes[0].require_voxel_nm(first))


@command("resolution")
def main(cfg):
    if (cfg.projections is None) == (cfg.first is None or cfg.second is None):
        raise InputError("give projections=SCAN.h5, or two tomograms as first=... second=...")
    settings = OmegaConf.to_container(cfg.reconstruction, resolve=True)
    if cfg.projections is not None:
        fsc = of_scan(cfg.projections, settings)
    else:
        fsc = of_volumes(cfg.first, cfg.second, cfg.voxel_nm)
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    criteria = {name: fsc.threshold(name) for name in CRITERIA}
    rows = [
        {"frequency_per_nm": f, "period_nm": 1 / f, "fsc": c, **{name: v[i] for name, v in criteria.items()}}
        for i, (f, c) in enumerate(zip(fsc.frequency, fsc.correlation))
    ]
    write_csv(out / "fsc.csv", rows)
    result = {name: round(fsc.resolution_nm(name), 1) for name in CRITERIA}
    write_json(
        out / "resolution.json", {"resolution_nm": result, "voxel_nm": fsc.voxel_nm, "nyquist_nm": 2 * fsc.voxel_nm}
    )
    per_um = 1000 * fsc.frequency
    series = {"FSC": (per_um, fsc.correlation), **{name: (per_um, values) for name, values in criteria.items()}}
    figure = curves(series, "spatial frequency (1/µm)", "Fourier shell correlation")
    save_figure(figure, out / "fsc.png")
    print(", ".join(f"{name}: {'none' if np.isnan(nm) else f'{nm:g} nm'}" for name, nm in result.items()))


if __name__ == "__main__":
    main()
