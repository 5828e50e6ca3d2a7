"""A discriminator trained afresh: how easily generated labels are told from templates."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from batseg.networks.cyclegan import PatchCritic, one_hot
from batseg.phases import NOT_LABELLED
from batseg.volumes import InputError


def fresh_discriminator_accuracy(
    generated: Sequence[np.ndarray],
    templates: Sequence[np.ndarray],
    seed: int = 0,
    steps: int = 150,
    edge: int = 48,
    batch: int = 8,
    judged: int = 200,
) -> float:
    """Share of patches of held-out volumes that a new critic assigns to the right side; 0.5 is indistinguishable.

    generated, templates: label volumes (z, y, x; 255 is avoided); the last of each is held out. The critic learns on
    slices across z of the others, for `steps` batches of each side.
    """
    if min(len(generated), len(templates)) < 2:
        raise InputError("a discriminator needs two volumes of each side: one to learn from, one to be judged on")
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = PatchCritic(width=16, layers=2)
        optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
        for _ in range(steps):
            maps = torch.cat([_patches(side[:-1], batch, edge, rng) for side in (templates, generated)])
            score = critic(maps).mean(dim=(1, 2, 3))
            target = torch.cat([torch.ones(batch), torch.zeros(batch)])
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(score, target).backward()
            optimizer.step()
        with torch.no_grad():
            real, made = (
                critic(_patches(side[-1:], judged, edge, rng)).mean(dim=(1, 2, 3)) for side in (templates, generated)
            )
    return float(0.5 * ((real > 0).float().mean() + (made <= 0).float().mean()))


def _patches(volumes: Sequence[np.ndarray], count: int, edge: int, rng: np.random.Generator) -> Tensor:
    """One-hot patches (count, phase, edge, edge) of slices across z."""
    patches = []
    for _ in range(200 * count):
        volume = volumes[rng.integers(len(volumes))]
        row, column = (int(rng.integers(0, length - edge + 1)) for length in volume.shape[1:])
        patch = volume[rng.integers(len(volume)), row : row + edge, column : column + edge]
        if not (patch == NOT_LABELLED).any():
            patches.append(patch)
        if len(patches) == count:
            return one_hot(torch.from_numpy(np.stack(patches)))
    raise InputError(f"no fully labelled slices of {edge} x {edge} pixels to judge")
