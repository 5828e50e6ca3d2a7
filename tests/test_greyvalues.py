import itertools
import subprocess
import sys

import numpy as np
import pytest

from batseg.greyvalues import kmeans_grey, kmeans_histogram
from batseg.volumes import InputError


def four_phases(shape=(40, 60, 60), seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, shape, p=[0.51, 0.35, 0.06, 0.08])
    return (labels * 10 + rng.normal(0, 1, shape)).astype(np.float32)


def test_the_centres_of_four_phases_are_found_in_ascending_order():
    centres, boundaries = kmeans_grey(four_phases())
    assert np.allclose(centres, [0, 10, 20, 30], atol=0.2)
    assert np.allclose(boundaries, [5, 15, 25], atol=0.2)


def test_the_division_is_the_best_of_all_divisions():
    rng = np.random.default_rng(1)
    values, counts = np.sort(rng.normal(size=12)), rng.integers(1, 9, 12)

    def within(cuts):
        parts = np.split(np.arange(12), cuts)
        return sum(np.sum(counts[p] * (values[p] - np.average(values[p], weights=counts[p])) ** 2) for p in parts)

    best = min(itertools.combinations(range(1, 12), 2), key=within)
    centres = [np.average(values[p], weights=counts[p]) for p in np.split(np.arange(12), best)]
    assert np.allclose(kmeans_histogram(counts, values, 3).centres, centres)


def test_a_few_hot_voxels_move_no_boundary():
    image = four_phases()
    clean = kmeans_grey(image).boundaries
    image.flat[::2003] = 1e6
    image.flat[1::2003] = -1e6
    assert np.allclose(kmeans_grey(image).boundaries, clean, atol=0.1)


def test_grey_values_outside_the_mask_play_no_part():
    image = four_phases()
    mask = np.ones(image.shape, bool)
    mask[:, :20] = False
    image[:, :20] = 500
    assert np.allclose(kmeans_grey(image, mask=mask).centres, [0, 10, 20, 30], atol=0.3)


def test_the_boundaries_follow_a_change_of_contrast_and_brightness():
    image = four_phases()
    assert np.allclose(kmeans_grey(3 * image - 7).boundaries, 3 * kmeans_grey(image).boundaries - 7, atol=0.01)


def test_an_image_with_too_few_grey_values_is_refused():
    with pytest.raises(InputError, match="found 2"):
        kmeans_grey(np.arange(1000).reshape(10, 10, 10) % 2)


@pytest.mark.parametrize("seed", range(3))
def test_a_sub_sampled_fit_equals_the_full_fit_within_a_thousandth(seed):
    image = four_phases((96, 96, 96), seed)
    full, part = kmeans_grey(image), kmeans_grey(image[::2])
    assert np.abs(full.boundaries - part.boundaries).max() < 1e-3 * (full.centres[-1] - full.centres[0])


MEASURED = """
import sys, time, numpy as np
from batseg.greyvalues import kmeans_grey
from batseg.inference.memory import peak_resident_bytes
from batseg.postprocessing import GreyThreshold
image = np.load(sys.argv[1], mmap_mode="r")
begin = time.process_time()
boundaries = kmeans_grey(image).boundaries
print(time.process_time() - begin)
begin = time.process_time()
rule = GreyThreshold(smoothing=0.7).fitted(image)
labels, changed = np.zeros((32, *image.shape[1:]), np.uint8), 0
for z in range(0, len(image), 32):
    changed += np.count_nonzero(rule(labels, (slice(z, z + 32), slice(None), slice(None))))
print(time.process_time() - begin, peak_resident_bytes() / 1e9, changed / image.size, *boundaries)
"""


@pytest.mark.slow
def test_the_papers_volume_is_thresholded_in_less_than_a_minute_and_two_gigabytes(tmp_path):
    tile = four_phases((64, 96, 96))
    volume = np.lib.format.open_memmap(tmp_path / "image.npy", "w+", np.float32, (768, 768, 768))
    for z in range(0, 768, 64):
        volume[z : z + 64] = np.tile(tile, (1, 8, 8))
    volume.flush()
    del volume
    run = subprocess.run([sys.executable, "-c", MEASURED, tmp_path / "image.npy"], stdout=subprocess.PIPE, check=True)
    # Seconds of the one thread it runs on: other work on the machine does not count.
    fit_s, threshold_s, peak_gb, cbd, *boundaries = map(float, run.stdout.split())
    print(f"fit {fit_s:.1f} s; smoothed fit and rule {threshold_s:.1f} s; peak {peak_gb:.2f} GB")
    assert fit_s < 60
    assert threshold_s < 60
    assert peak_gb < 2
    assert np.allclose(boundaries, [5, 15, 25], atol=0.3)
    assert 0 < cbd < 0.7
