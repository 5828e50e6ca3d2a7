"""Where silicon of scripts/combine.py is wrong: python silicon_errors.py given_labels.tif combined_folder xtm.tif

Prints what the given silicon was called by its depth, and grey values inside silicon and binder in both contrasts.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from batseg.phases import CBD, NOT_LABELLED, PHASES, SILICON
from batseg.volumes import read_labels, read_volume

DEPTHS = {"first": (0, 1.5), "second": (1.5, 2.5), "deeper": (2.5, np.inf)}


def main(given: str, combined: str, xtm: str) -> None:
    truth, found = read_labels(given).array, read_labels(Path(combined) / "labels.tif").array
    both = (truth != NOT_LABELLED) & (found != NOT_LABELLED)
    depth = {phase: distance_transform_edt(truth == phase) for phase in (SILICON, CBD)}
    for name, (low, high) in DEPTHS.items():
        layer = both & (truth == SILICON) & (depth[SILICON] >= low) & (depth[SILICON] < high)
        shares = ", ".join(f"{phase} {(found[layer] == code).mean():.3f}" for code, phase in enumerate(PHASES))
        print(f"{name}: {layer.sum()} voxels, called {shares}")
    for name, image in (("density", Path(combined) / "density.tif"), ("absorption, 1/cm", xtm)):
        values = read_volume(image).array
        parts = [values[both & (depth[phase] > 1.5)] for phase in (SILICON, CBD)]
        (silicon, even), (binder, spread) = [(part.mean(), part.std()) for part in parts]
        apart = abs(silicon - binder) / np.sqrt((even**2 + spread**2) / 2)
        print(f"{name}: silicon {silicon:.3g} ± {even:.2g}, binder {binder:.3g} ± {spread:.2g}, {apart:.2f} apart")


if __name__ == "__main__":
    main(*sys.argv[1:])
