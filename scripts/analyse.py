"""Measure segmented volumes: tables, summary and figures in a folder.

Example: python scripts/analyse.py labels=segmented.tif voxel_nm=61 through_plane=z out=analysis
         python scripts/analyse.py table=samples.csv out=analysis      (columns sample, cycles, labels)
Samples that are measured already, with the same files and settings, are not measured again.
"""

from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from batseg.analysis.files import (
    find_sources,
    load_analysed,
    read_probabilities,
    save_analysed,
    stamp,
    write_tables,
)
from batseg.analysis.sample import MEASURED
from batseg.analysis.series import analyse_source, series_tables, summary
from batseg.command import command
from batseg.report.microstructure import draw_figures
from batseg.volumes import read_labels


@command("analyse")
def main(cfg):
    cfg = OmegaConf.to_container(cfg, resolve=True)
    how = {key: cfg[key] for key in (*MEASURED, "subvolume_edge", "realisations", "correlation_nm", "seed")}
    series, voxel_nm = [], None
    for source in find_sources(cfg["labels"], cfg["table"], cfg["probabilities"]):
        volume = read_labels(source.labels, cfg["label_map"], cfg["voxel_nm"])
        voxel_nm = volume.require_voxel_nm(source.labels)
        kept, identity = Path(cfg["out"]) / "samples" / f"{source.sample}.json", stamp(source, how, voxel_nm)
        analysed = load_analysed(kept, identity)
        if analysed is None:
            print(f"{source.sample}: {volume.shape} voxels of {voxel_nm:g} nm", flush=True)
            probabilities = source.probabilities and read_probabilities(source.probabilities, volume.shape)
            analysed = analyse_source(source.sample, source.cycles, volume.array, voxel_nm, probabilities, **how)
            save_analysed(kept, analysed, identity)
        series.append(analysed)
    tables = series_tables(series, np.random.default_rng(cfg["seed"]), cfg["similar"], cfg["change"])
    write_tables(cfg["out"], tables, summary(tables, {"voxel_nm": voxel_nm} | how))
    if cfg["figures"]:
        draw_figures(cfg["out"], Path(cfg["out"]) / "figures")
    print(f"tables and summary.json in {cfg['out']}")


if __name__ == "__main__":
    main()
