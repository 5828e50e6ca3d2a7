"""Carbon-black-binder domain: the highest pore voxels of a score whose surface affinities meet the asked coverages.

score = grain + cluster + bridge + film + ... (weighted, normalised fields) + b_silicon exp(-d/reach) + b_graphite
exp(-d/reach). The affinities b are solved for, so that the volume fraction and the coverage of each phase come out as
asked. The idea of weights per surface follows Mistry, Smith & Mukherjee, ACS Appl. Mater. Interfaces 10 (2018); the
one-step solution by quantiles is ours.
"""

import cc3d
import edt
import numpy as np
from numba import njit
from scipy import ndimage

from batseg.morphology.interfaces import DIRECTIONS, LENGTHS, WEIGHTS
from batseg.morphology.slabs import WORKERS, in_slabs
from batseg.phases import CBD, GRAPHITE, PORE, SILICON
from batseg.structures.fields import gaussian_lattice, sample
from batseg.structures.recipe import Binder

FAR = 40.0  # voxels; distances are stored up to here, in steps of FAR / 255
HALO = 40
SAMPLE = 400_000
STEPS = 2000.0  # of the score per unit, as stored
SHIFT = 16.0
ACTIVE = (GRAPHITE, SILICON)
FACTORS = (2 * WEIGHTS / LENGTHS).astype(np.float32)


def add_binder(labels: np.ndarray, rule: Binder, fraction: float, voxel_nm: float, rng: np.random.Generator) -> dict:
    """Write CBD into the pores of `labels` (in place); returns the affinities that were solved for.

    The fraction is met exactly (without small islands: within what the last of them hold), coverages exactly where they
    are compatible with it, else as near as possible.
    """
    wanted = round(fraction * labels.size)
    pores = np.count_nonzero(labels == PORE)
    if wanted > pores:
        raise ValueError(
            f"fractions.cbd: {fraction:g} asked, but only {pores / labels.size:.3f} is pore: fewer particles"
        )
    if not wanted:
        return {"graphite": 0.0, "silicon": 0.0}
    distances = {code: _distances(labels, code) for code in ACTIVE}
    base = _base_score(labels, distances, rule, voxel_nm, rng)
    contact = np.zeros((2, *labels.shape), np.uint8)
    total = sum(in_slabs(_contacts, labels.shape[0], labels.size, labels, DIRECTIONS, FACTORS, contact))
    # a voxel's weights are stored in steps of 1/20 voxel face
    reach = np.array([rule.reach_graphite_nm, rule.reach_nm]) / voxel_nm
    asked = np.array([rule.coverage.graphite, rule.coverage.silicon])
    asked = np.where((total > 0) & (asked >= 0), asked * total, -1.0)
    affinity = _solve(labels, base, distances, contact, asked, wanted, reach, rng)
    score = base
    in_slabs(
        _add_affinity, labels.shape[0], labels.size,
        score, labels, distances[GRAPHITE], distances[SILICON], affinity.astype(np.float32), reach.astype(np.float32),
    )  # fmt: skip
    _threshold(labels, score, contact, asked, wanted)
    for last in (False,) * 4 + (True,) if rule.smallest_voxels > 1 else ():
        islands = labels == CBD
        islands &= cc3d.dust(islands, rule.smallest_voxels, connectivity=26) == 0
        labels[islands if last else labels == CBD] = PORE
        score[islands] = 0
        if not last:
            _threshold(labels, score, contact, asked, wanted)
    return {"graphite": float(affinity[0]), "silicon": float(affinity[1])}


def _distances(labels: np.ndarray, code: int) -> np.ndarray:
    """Distance to a phase in steps of FAR / 255 voxels (uint8), from blocks of slices with a halo."""
    out = np.full(labels.shape, 255, np.uint8)
    block = max(32, 2**25 // labels[0].size)
    for start in range(0, labels.shape[0], block):
        low, high = max(0, start - HALO), min(labels.shape[0], start + block + HALO)
        outside = labels[low:high] != code
        if not outside.all():
            distance = edt.edt(outside.view(np.uint8), black_border=False, parallel=WORKERS)
            stop = min(start + block, labels.shape[0])
            out[start:stop] = np.minimum(distance[start - low : stop - low] * (255 / FAR), 255)
    return out


def _base_score(labels, distances, rule: Binder, voxel_nm: float, rng) -> np.ndarray:
    """The score without surface affinities in pore voxels, stored as (score + SHIFT) * STEPS (uint16)."""
    shape = labels.shape
    grains = [gaussian_lattice(shape, max(rule.grain_nm / voxel_nm, 0.8), rng) for _ in range(2)]
    cluster = gaussian_lattice(shape, max(rule.cluster_nm / voxel_nm, 0.8), rng)
    crowd, silicon = _crowding(labels, rule, voxel_nm)
    weights = np.array([rule.grain, rule.web, rule.cluster, rule.bridge, rule.film, rule.near_silicon, rule.gap,
                        rule.mid_pore], np.float32)  # fmt: skip
    lengths = np.array([rule.film_nm, rule.gap_nm, rule.mid_pore_nm], np.float32) / np.float32(voxel_nm)
    out = np.zeros(shape, np.uint16)
    in_slabs(
        _score, shape[0], labels.size, labels, distances[GRAPHITE], distances[SILICON],
        grains[0].values, grains[1].values, grains[0].step, cluster.values, cluster.step,
        crowd[0], crowd[1], silicon[0], silicon[1], weights, lengths, out,
    )  # fmt: skip
    return out


def _crowding(labels: np.ndarray, rule: Binder, voxel_nm: float) -> tuple[tuple, tuple]:
    """Smoothed solid share (high in necks and corners) and smoothed silicon, normalised, on coarse grids with steps."""
    coarse = []
    for mask, length, weight in (
        ((labels == GRAPHITE) | (labels == SILICON), rule.bridge_nm, rule.bridge),
        (labels == SILICON, rule.near_silicon_nm, rule.near_silicon),
    ):
        if weight == 0:
            coarse.append((np.zeros((1, 1, 1), np.float32), 1.0))
            continue
        step = max(1, min(int(length / voxel_nm / 2), min(labels.shape)))
        ends = [edge // step * step for edge in labels.shape]
        blocks = mask[: ends[0], : ends[1], : ends[2]]
        parts = [n for edge in ends for n in (edge // step, step)]
        small = blocks.reshape(parts).mean(axis=(1, 3, 5), dtype=np.float32)
        small = ndimage.gaussian_filter(small, length / voxel_nm / step / np.sqrt(2), mode="nearest")
        coarse.append(((small - small.mean()) / max(small.std(), 1e-6), float(step)))
    return coarse[0], coarse[1]


@njit(nogil=True, cache=True)
def _clamped(values, z, y, x):
    """Trilinear value at lattice coordinates, held at the border."""
    z = min(max(z, 0.0), values.shape[0] - 1.001)
    y = min(max(y, 0.0), values.shape[1] - 1.001)
    x = min(max(x, 0.0), values.shape[2] - 1.001)
    return sample(values, max(z, 0.0), max(y, 0.0), max(x, 0.0))


@njit(nogil=True, cache=True)
def _score(labels, d_graphite, d_silicon, grain, other, grain_step, cluster, cluster_step, crowd, crowd_step, silicon,
           silicon_step, weights, lengths, out, start, stop):  # fmt: skip
    scale = FAR / 255
    for k in range(start, stop):
        for j in range(labels.shape[1]):
            for i in range(labels.shape[2]):
                if labels[k, j, i] != 0:
                    continue
                z, y, x = k / grain_step[0], j / grain_step[1], i / grain_step[2]
                g = sample(grain, z, y, x)
                if weights[1] > 0:
                    sheet = (0.8 - abs(sample(other, z, y, x))) / 0.6
                    g = ((1 - weights[1]) * g + weights[1] * sheet) / np.sqrt((1 - weights[1]) ** 2 + weights[1] ** 2)
                s = weights[0] * g
                if weights[2] > 0:
                    s += weights[2] * sample(cluster, k / cluster_step[0], j / cluster_step[1], i / cluster_step[2])
                if weights[3] != 0:
                    half = 0.5 - 0.5 * crowd_step
                    s += weights[3] * _clamped(crowd, (k + half) / crowd_step, (j + half) / crowd_step,
                                               (i + half) / crowd_step)  # fmt: skip
                if weights[5] != 0:
                    half = 0.5 - 0.5 * silicon_step
                    s += weights[5] * _clamped(silicon, (k + half) / silicon_step, (j + half) / silicon_step,
                                               (i + half) / silicon_step)  # fmt: skip
                ds = max(d_silicon[k, j, i] * scale - 1, 0.0)
                d = min(max(d_graphite[k, j, i] * scale - 1, 0.0), ds)
                if weights[4] != 0:
                    s += weights[4] * np.exp(-d / lengths[0])
                if weights[6] != 0:
                    s -= weights[6] * np.exp(-0.5 * ((ds - lengths[1]) / (0.6 * lengths[1])) ** 2)
                if weights[7] != 0:
                    s += weights[7] * min(max(d_graphite[k, j, i] * scale - 1, 0.0) / lengths[2], 1.5)
                out[k, j, i] = min(max((s + SHIFT) * STEPS, 1.0), 65535.0)


@njit(nogil=True, cache=True)
def _contacts(labels, directions, factors, contact, start, stop):
    """Crofton weight of every pore voxel's contact with graphite and silicon; returns the two phases' whole surface."""
    depth, height, width = labels.shape
    total = np.zeros(2)
    for k in range(start, stop):
        for j in range(height):
            for i in range(width):
                here = labels[k, j, i]
                sums = np.zeros(2, np.float32)
                for n in range(directions.shape[0]):
                    for sign in (-1, 1):
                        z = k + sign * directions[n, 0]
                        y = j + sign * directions[n, 1]
                        x = i + sign * directions[n, 2]
                        if not (0 <= z < depth and 0 <= y < height and 0 <= x < width):
                            continue
                        there = labels[z, y, x]
                        if there != here and (there == 1 or there == 2):
                            sums[there - 1] += factors[n]
                total += sums
                if here == 0:
                    contact[0, k, j, i] = min(int(sums[0] * 50 + 0.5), 255)
                    contact[1, k, j, i] = min(int(sums[1] * 50 + 0.5), 255)
    return total * 50


def _solve(labels, base, distances, contact, asked, wanted, reach, rng) -> np.ndarray:
    """Affinities (graphite, silicon) that meet the fraction and the coverages together, on a sample of the pores."""
    pores = np.flatnonzero(labels.ravel() == PORE)
    if pores.size > SAMPLE:
        pores = pores[np.sort(rng.integers(0, pores.size, SAMPLE))]
    share = np.count_nonzero(labels == PORE) / pores.size  # voxels that one sampled voxel stands for
    score = base.ravel()[pores] / STEPS - SHIFT
    weight = contact.reshape(2, -1)[:, pores].astype(float) * share
    decay = [
        np.exp(-np.maximum(distances[c].ravel()[pores] * (FAR / 255) - 1, 0) / reach[n]) for n, c in enumerate(ACTIVE)
    ]
    affinity = np.zeros(2)
    for step in range(12):
        total = score + affinity[0] * decay[0] + affinity[1] * decay[1]
        threshold = np.quantile(total, 1 - min(wanted / share / pores.size, 1.0))
        for code in (0, 1):
            if asked[code] < 0:
                continue
            near = weight[code] > 0
            order = np.argsort(-total[near])
            covered = np.cumsum(weight[code][near][order])
            last = min(int(np.searchsorted(covered, asked[code])), covered.size - 1)
            change = threshold - total[near][order[last]]
            affinity[code] = np.clip(affinity[code] + (0.8 if step < 9 else 0.4) * change, -8, 8)
    return affinity


@njit(nogil=True, cache=True)
def _add_affinity(score, labels, d_graphite, d_silicon, affinity, reach, start, stop):
    scale = FAR / 255
    for k in range(start, stop):
        for j in range(labels.shape[1]):
            for i in range(labels.shape[2]):
                if labels[k, j, i] == 0:
                    a = np.exp(-max(d_graphite[k, j, i] * scale - 1, 0.0) / reach[0]) * affinity[0]
                    b = np.exp(-max(d_silicon[k, j, i] * scale - 1, 0.0) / reach[1]) * affinity[1]
                    s = score[k, j, i] + (a + b) * STEPS
                    score[k, j, i] = min(max(s, 1.0), 65535.0)


@njit(nogil=True, cache=True)
def _weighted_histograms(labels, score, contact, start, stop):
    """Voxels and contact weights by score: (bulk, at graphite, at silicon, at both; 3 measures; levels)."""
    out = np.zeros((4, 3, 65536), np.int64)
    for k in range(start, stop):
        for j in range(labels.shape[1]):
            for i in range(labels.shape[2]):
                if labels[k, j, i] == 0:
                    a, b = contact[0, k, j, i], contact[1, k, j, i]
                    kind = (1 if a > 0 else 0) + (2 if b > 0 else 0)
                    s = score[k, j, i]
                    out[kind, 0, s] += 1
                    out[kind, 1, s] += a
                    out[kind, 2, s] += b
    return out


def _threshold(labels: np.ndarray, score: np.ndarray, contact: np.ndarray, asked: np.ndarray, wanted: int) -> None:
    """Label as CBD the voxels above the threshold of their kind; kinds differ so that every target is met."""
    histograms = sum(in_slabs(_weighted_histograms, labels.shape[0], labels.size, labels, score, contact))
    above = np.cumsum(histograms[:, :, ::-1], axis=2)[:, :, ::-1]  # above[kind, measure, t]: of voxels with score >= t
    limit = _first_at_most(above[:, 0].sum(axis=0), wanted)
    limits = np.full(4, limit, np.int64)
    both = above[3, :, limit]
    if asked[1] >= 0:
        limits[2] = _first_at_most(above[2, 2], max(asked[1] - both[2], 0))
    if asked[0] >= 0:
        limits[1] = _first_at_most(above[1, 1], max(asked[0] - both[1], 0))
    spent = sum(above[kind, 0, limits[kind]] for kind in (1, 2, 3))
    limits[0] = _first_at_most(above[0, 0], max(wanted - spent, 0))
    in_slabs(_apply, labels.shape[0], labels.size, labels, score, contact, limits)


def _first_at_most(decreasing: np.ndarray, value: float) -> int:
    """Smallest level t with decreasing[t] <= value (one past the end if there is none)."""
    return int(np.searchsorted(-decreasing, -value))


@njit(nogil=True, cache=True)
def _apply(labels, score, contact, limits, start, stop):
    for k in range(start, stop):
        for j in range(labels.shape[1]):
            for i in range(labels.shape[2]):
                if labels[k, j, i] == 0:
                    a, b = contact[0, k, j, i], contact[1, k, j, i]
                    if score[k, j, i] >= limits[(1 if a > 0 else 0) + (2 if b > 0 else 0)]:
                        labels[k, j, i] = 3
