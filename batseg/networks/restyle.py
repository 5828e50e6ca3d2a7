"""A trained generator applied to whole label volumes: probabilities, labels of given fractions, instances carried."""

from collections.abc import Sequence

import cc3d
import numpy as np
import torch
from torch.nn import functional

from batseg.networks.cyclegan import Generator, grains, one_hot
from batseg.phases import CBD, GRAPHITE, PORE, SILICON


def stylize(
    generator: Generator,
    labels: np.ndarray,
    rng: np.random.Generator,
    instances: np.ndarray | None = None,
    fractions: Sequence[float] | None = None,
    min_island: int = 8,
    axes: Sequence[int] = (0, 1, 2),
) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels (z, y, x; uint8, 0 to 3) in the generator's style, and the particle numbers carried along.

    fractions: of the four phases; by default those of the labels given. Islands of fewer than `min_island` voxels are
    removed (0: none). See `labels_with_fractions`.
    """
    if labels.max() > CBD:
        raise ValueError(f"labels must be 0 to 3 everywhere to be restyled, got {labels.max()}")
    if fractions is None:
        fractions = np.bincount(labels.ravel(), minlength=generator.phases) / labels.size
    styled = labels_with_fractions(restyle(generator, labels, rng, axes), fractions, min_island)
    if instances is None:
        return styled, None
    carried, styled = carry_instances(instances, labels, styled)
    return styled, carried


@torch.inference_mode()
def restyle(
    generator: Generator, labels: np.ndarray, rng: np.random.Generator, axes: Sequence[int] = (0, 1, 2), batch: int = 8
) -> np.ndarray:
    """Phase probabilities (phase, z, y, x; float32) of the restyled labels (z, y, x; 0 to 3).

    A 2D generator translates the slices across each of `axes`; the probabilities of the directions are averaged, as in
    the paper's segmentation. A 3D one translates the volume at once. The noise is one random volume for all directions,
    smoothed in 3D, so that grains agree between slices.
    """
    noise = rng.standard_normal((generator.noise, *labels.shape), dtype=np.float32)
    device = next(generator.parameters()).device
    whole = torch.from_numpy(np.ascontiguousarray(labels))
    noise = grains(torch.from_numpy(noise)[None], generator.grain_size)[0]
    if generator.dimensions == 3:
        return _translated(generator, whole[None], noise[None], device)[0].numpy()
    total = torch.zeros(generator.phases, *labels.shape)
    for axis in axes:
        slices, noises = whole.movedim(axis, 0), noise.movedim(axis + 1, 0)
        for first in range(0, len(slices), batch):
            part = _translated(generator, slices[first : first + batch], noises[first : first + batch], device)
            total.movedim(axis + 1, 0)[first : first + batch] += part / len(axes)
    return total.numpy()


def _translated(generator: Generator, labels: torch.Tensor, noise: torch.Tensor, device) -> torch.Tensor:
    """Probabilities (batch, phase, ...) of a batch of any size, padded to what the generator can halve."""
    sides = labels.shape[1:]
    pads = [pad for side in reversed(sides) for pad in (0, -side % generator.divisor)]
    both = torch.cat([one_hot(labels, generator.phases), noise], dim=1)
    both = functional.pad(both, pads, mode="replicate").to(device)
    maps, noise = both[:, : generator.phases], both[:, generator.phases :]
    probabilities = generator(maps, noise).softmax(dim=1).float().cpu()
    return probabilities[(..., *(slice(side) for side in sides))]


def labels_with_fractions(
    probabilities: np.ndarray, fractions: Sequence[float], min_island: int = 0, tolerance: float = 1e-3
) -> np.ndarray:
    """Labels (uint8) of the phases' fractions as given, without islands of fewer than `min_island` voxels (0: with).

    What a phase loses with its islands is asked for in addition, until all fractions are within `tolerance` or three
    attempts are over; the nearest of them counts.
    """
    wanted = asked = np.asarray(fractions, float)
    nearest, least = None, np.inf
    for _ in range(3 if min_island > 1 else 1):
        labels = thresholded(probabilities, asked, tolerance)
        if min_island > 1:
            labels = without_islands(labels, min_island)
        missing = wanted - np.bincount(labels.ravel(), minlength=len(wanted)) / labels.size
        if np.abs(missing).max() < least:
            nearest, least = labels, np.abs(missing).max()
        if least < tolerance:
            break
        asked = np.where(wanted > 0, np.clip(asked + missing, 0, 1), 0)
    return nearest


def thresholded(
    probabilities: np.ndarray, fractions: Sequence[float], tolerance: float = 1e-3, rounds: int = 30
) -> np.ndarray:
    """Labels (uint8) of the highest p_k exp(b_k), the biases b tuned so that the phases take the given fractions.

    Rounds of b_k += log(wanted / reached), on every eighth voxel of large volumes, until all fractions are within
    `tolerance` or `rounds` are over (a phase whose probabilities are all 0 or 1 cannot be tuned).
    """
    wanted = np.asarray(fractions, float)
    log_p = np.log(np.clip(probabilities.reshape(len(wanted), -1), 1e-6, None))
    sample = log_p[:, :: 8 if log_p.shape[1] > 2**22 else 1]
    bias = np.zeros(len(wanted), np.float32)
    for _ in range(rounds):
        reached = np.bincount((sample + bias[:, None]).argmax(axis=0), minlength=len(wanted)) / sample.shape[1]
        if np.abs(reached - wanted).max() < tolerance:
            break
        ratio = np.where(wanted > 0, wanted, 1e-6) / np.maximum(reached, 1e-6)
        bias += 0.7 * np.clip(np.log(ratio), -2, 2).astype(np.float32)
        bias -= bias[PORE]
    best, labels = log_p[0] + bias[0], np.zeros(log_p.shape[1], np.uint8)
    for phase in range(1, len(wanted)):
        score = log_p[phase] + bias[phase]
        labels[score > best] = phase
        np.maximum(best, score, out=best)
    return labels.reshape(probabilities.shape[1:])


def without_islands(labels: np.ndarray, voxels: int = 8) -> np.ndarray:
    """Labels without 6-connected islands of fewer than `voxels` voxels of a phase; they take the phase around them."""
    small = np.zeros(labels.shape, bool)
    for phase in (PORE, GRAPHITE, SILICON, CBD):
        mask = labels == phase
        small |= mask & ~cc3d.dust(mask, threshold=voxels, connectivity=6).astype(bool)
    return _grown(np.where(small, 0, labels + 1).astype(np.uint8), small) - 1


def carry_instances(instances: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Particle numbers for restyled labels, and the labels with particles that nobody knows taken back.

    A voxel keeps its number where graphite stayed graphite or silicon silicon; voxels that a particle gained take the
    number of the neighbour they grew from. New islands of graphite or silicon that touch no known particle of their
    phase return to the label before (pore if that was the same phase).
    """
    carried, labels = np.zeros_like(instances), after.copy()
    for phase in (GRAPHITE, SILICON):
        mask = after == phase
        known = np.where(mask & (before == phase), instances, 0)
        gained = mask & (known == 0)
        known = _grown(known, gained)
        carried += known
        lost = mask & (known == 0)
        labels[lost] = np.where(before[lost] == phase, PORE, before[lost])
    return carried, labels


def _grown(values: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Values spread from face neighbours into the voxels of a mask, nearest first; 0 is no value."""
    values = values.copy()
    places = np.argwhere(into)
    while len(places):
        found = np.zeros(len(places), values.dtype)
        for axis in range(3):
            for step in (-1, 1):
                neighbours = places.copy()
                neighbours[:, axis] = np.clip(neighbours[:, axis] + step, 0, values.shape[axis] - 1)
                there = values[tuple(neighbours.T)]
                found = np.where(found == 0, there, found)
        if not found.any():
            break
        values[tuple(places.T)] = found
        places = places[found == 0]
    return values
