"""What Dice does a result get against labels that err at the boundaries? Labels known exactly are displaced and scored.

python experiments/tomography/label_errors.py 'exact=path/*/labels.tif' 'found=path/*.tif'   (paired in sorted order)
"""

import sys
from glob import glob

import numpy as np
from scipy.ndimage import map_coordinates

from batseg.evaluation import confusion_matrix, dice
from batseg.phases import NOT_LABELLED, PHASES
from batseg.tomography.fields import smooth_field
from batseg.volumes import read_labels

AMPLITUDES = (0.0, 0.4, 0.45, 0.5, 0.55, 0.6)  # voxels, root mean square of each component
CORRELATION = 2.0  # voxels


def displaced(labels: np.ndarray, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Labels (z, y, x) read from places that are off by a smooth random vector."""
    places = [
        axis + amplitude * smooth_field(labels.shape, [CORRELATION] * 3, rng) for axis in np.indices(labels.shape)
    ]
    return map_coordinates(labels, places, order=0, mode="nearest")


def score(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Dice of the phases where both are labelled."""
    both = (truth != NOT_LABELLED) & (found != NOT_LABELLED)
    return dice(confusion_matrix(np.where(both, truth, NOT_LABELLED), np.where(both, found, 0)))


def main() -> None:
    patterns = dict(part.split("=", 1) for part in sys.argv[1:])
    pairs = list(zip(*(sorted(glob(patterns[name])) for name in ("exact", "found")), strict=True))
    print("displaced by, voxels |", ", ".join(PHASES), "of the exact labels | of the result")
    for amplitude in AMPLITUDES:
        rows = []
        for number, pair in enumerate(pairs):
            exact, found = (read_labels(path).array for path in pair)
            given = displaced(exact, amplitude, np.random.default_rng(number))
            rows.append([score(given, exact), score(given, found)])
        perfect, result = np.mean(rows, axis=0)
        print(f"{amplitude:.2f} |", *(f"{value:.3f}" for value in perfect), "|", *(f"{value:.3f}" for value in result))


if __name__ == "__main__":
    main()
