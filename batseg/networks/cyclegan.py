"""CycleGAN on label maps: generators, 2D critics, history pool, losses (paper, Supplementary Note 3; Zhu et al. 2017).

Label maps are one-hot, (batch, phase, y, x) or (batch, phase, z, y, x). What the paper leaves open is our choice: a
generator returns logits that begin at its input, so that particles stay where they are; critics see one-hot maps from
both sides (straight through), blurred alike, so that no critic can tell them by their softness.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from batseg.phases import CBD, GRAPHITE, PORE, SILICON

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def _block(dimensions: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution with reflected borders, instance norm, ReLU."""
    padding = {"padding": kernel // 2, "padding_mode": "reflect"}
    conv = CONV[dimensions](inputs, outputs, kernel, stride, bias=False, **padding)
    return nn.Sequential(conv, NORM[dimensions](outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, dimensions: int, width: int):
        super().__init__()
        padding = {"padding": 1, "padding_mode": "reflect", "bias": False}
        self.first = _block(dimensions, width, width)
        self.second = nn.Sequential(CONV[dimensions](width, width, 3, **padding), NORM[dimensions](width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class Generator(nn.Module):
    """Logits of the restyled phases: sharpness * input + correction(input, noise) + grain * noise near binder.

    Down-sampling by two `downs` times, `blocks` residual blocks, up-sampling by nearest neighbour and convolution
    (where the reference has transposed convolutions, which leave a checkerboard in the correction). `noise` channels of
    noise, smoothed by `grain_size` voxels, give it something to draw grains from. `grain` is the weight of the first of
    them on the binder, in pore and binder up to `grain_reach` voxels from binder (particles and open pores get no
    specks): without it noise that turns no voxel has no gradient through one-hot maps, and stays unused. The input is
    blurred by `input_blur` voxels: cores of particles remain certain, boundaries and thin features are open to the
    style of the templates. Graphite and silicon come and go within `margin` voxels of their surface
    alone: particles stay where they are. Paper scale: width 64, downs 2, blocks 9.
    """

    def __init__(
        self,
        dimensions: int = 2,
        phases: int = 4,
        width: int = 64,
        downs: int = 2,
        blocks: int = 9,
        noise: int = 1,
        sharpness: float = 4.0,
        input_blur: float = 0.0,
        grain: float = 0.0,
        grain_size: float = 0.0,
        grain_reach: int = 3,
        margin: int = 1,
    ):
        super().__init__()
        self.dimensions, self.phases, self.noise, self.sharpness = dimensions, phases, noise, sharpness
        self.input_blur, self.grain, self.margin = input_blur, grain, margin
        self.grain_size, self.grain_reach = grain_size, grain_reach
        self.divisor = 2**downs
        layers = [_block(dimensions, phases + noise, width, kernel=7 if dimensions == 2 else 5)]
        for level in range(downs):
            layers.append(_block(dimensions, width * 2**level, width * 2 ** (level + 1), stride=2))
        layers += [Residual(dimensions, width * self.divisor) for _ in range(blocks)]
        for level in reversed(range(downs)):
            layers += [nn.Upsample(scale_factor=2), _block(dimensions, width * 2 ** (level + 1), width * 2**level)]
        last = CONV[dimensions](width, phases, 3, padding=1, padding_mode="reflect")
        self.correction = nn.Sequential(*layers, last)
        initialise(self)

    def forward(self, maps: Tensor, noise: Tensor | None = None) -> Tensor:
        """maps: (batch, phase, ...) with sides that are multiples of 2**downs; noise: `grains`, drawn if not given."""
        if any(side % self.divisor for side in maps.shape[2:]):
            raise ValueError(f"sides {tuple(maps.shape[2:])} must be multiples of {self.divisor}")
        if noise is None and self.noise:
            noise = torch.randn(len(maps), self.noise, *maps.shape[2:], device=maps.device, dtype=maps.dtype)
            noise = grains(noise, self.grain_size)
        place = binder_places(maps, self.grain_reach) if self.grain else None
        held = held_particles(maps, self.margin)
        maps = soften(maps, self.input_blur)
        inputs = torch.cat([maps, noise], dim=1) if self.noise else maps
        logits = self.sharpness * (2 * maps - 1) + self.correction(2 * inputs - 1)
        if self.grain and self.noise:
            logits = torch.cat([logits[:, :CBD], logits[:, CBD:] + self.grain * place * noise[:, :1]], dim=1)
        return logits + held


class PatchCritic(nn.Module):
    """PatchGAN on 2D label maps: one score for each patch of 70 x 70 pixels with 3 `layers`, as published."""

    def __init__(self, phases: int = 4, width: int = 64, layers: int = 3):
        super().__init__()
        modules: list[nn.Module] = [nn.Conv2d(phases, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for level in range(layers):
            inputs, outputs = width * min(2**level, 8), width * min(2 ** (level + 1), 8)
            stride = 2 if level < layers - 1 else 1
            modules += [nn.Conv2d(inputs, outputs, 4, stride, 1, bias=False), nn.InstanceNorm2d(outputs)]
            modules += [nn.LeakyReLU(0.2, inplace=True)]
        modules.append(nn.Conv2d(outputs, 1, 4, 1, 1))
        self.score = nn.Sequential(*modules)
        initialise(self)

    def forward(self, maps: Tensor) -> Tensor:
        return self.score(maps)


class PlaneCritics(nn.Module):
    """2D critics on volumes: slices across z, y and x go to a critic of their own (SliceGAN, Kench & Cooper 2021).

    Of each volume `slices` planes per direction are judged, evenly spaced with a random beginning.
    """

    def __init__(self, phases: int = 4, width: int = 64, layers: int = 3, slices: int = 8):
        super().__init__()
        self.critics = nn.ModuleList(PatchCritic(phases, width, layers) for _ in range(3))
        self.slices = slices

    def forward(self, maps: Tensor) -> Tensor:
        """maps (batch, phase, z, y, x); all scores in one vector."""
        scores = []
        for axis, critic in enumerate(self.critics):
            step = max(1, maps.shape[axis + 2] // self.slices)
            first = int(torch.randint(step, ()))
            planes = maps.movedim(axis + 2, 1)[:, first::step].flatten(0, 1)  # (batch * plane, phase, a, b)
            scores.append(critic(planes).flatten())
        return torch.cat(scores)


class HistoryPool(nn.Module):
    """The last generated maps: a critic sees one of them instead of the newest with probability 1/2 (size 50).

    The maps are buffers, so that they are part of a checkpoint. Size 0 hands everything through.
    """

    def __init__(self, size: int, shape: Sequence[int]):
        super().__init__()
        self.size = size
        self.register_buffer("maps", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def exchange(self, maps: Tensor) -> Tensor:
        """One map for each map given: itself, or an older one whose place it takes."""
        chosen = maps.detach().clone()
        for index in range(len(maps) if self.size else 0):
            if self.filled < self.size:
                self.maps[self.filled] = chosen[index]
                self.filled += 1
            elif torch.rand(()) < 0.5:
                place = int(torch.randint(self.size, ()))
                older = self.maps[place].clone()
                self.maps[place] = chosen[index]
                chosen[index] = older
        return chosen


def initialise(network: nn.Module) -> None:
    """Convolution weights from N(0, 0.02), as published."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def one_hot(labels: Tensor, phases: int = 4) -> Tensor:
    """Labels (batch, ...) as float maps (batch, phase, ...)."""
    return (
        functional.one_hot(labels.long(), phases)
        .movedim(-1, 1)
        .to(torch.float32, memory_format=torch.contiguous_format)
    )


def straight_through(logits: Tensor) -> Tensor:
    """One-hot maps of the most likely phase, with the gradient of the softmax (Bengio et al. 2013)."""
    soft = logits.softmax(dim=1)
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


def soften(maps: Tensor, std: float, noise: float = 0.0) -> Tensor:
    """Maps blurred by a Gaussian of `std` voxels (reflected borders) plus white noise: what critics see."""
    if std > 0:
        reach = max(1, round(3 * std))
        offsets = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
        kernel = torch.exp(-0.5 * (offsets / std) ** 2)
        kernel = kernel / kernel.sum()
        for axis in range(2, maps.ndim):  # sums of shifted maps: several times faster than a grouped convolution here
            pads = [0] * (2 * (maps.ndim - 2))
            pads[2 * (maps.ndim - 1 - axis) : 2 * (maps.ndim - axis)] = [reach, reach]
            padded, length = functional.pad(maps, pads, mode="replicate"), maps.shape[axis]
            maps = sum(weight * padded.narrow(axis, start, length) for start, weight in enumerate(kernel))
    return maps + noise * torch.randn_like(maps) if noise > 0 else maps


def grains(noise: Tensor, size: float) -> Tensor:
    """White noise (batch, channel, ...) smoothed by `size` voxels along every axis, of standard deviation 1 again."""
    if size <= 0:
        return noise
    reach = max(1, round(3 * size))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / size) ** 2)
    gain = float((kernel / kernel.sum()).square().sum().sqrt())
    return soften(noise, size) / gain ** (noise.ndim - 2)


def binder_places(maps: Tensor, reach: int) -> Tensor:
    """1 in pore and binder within `reach` voxels of binder, along axes and diagonals, else 0; (batch, 1, ...)."""
    maps = maps.detach()
    near = _dilated(maps[:, CBD:], reach)
    return ((near > 0.5) & (maps[:, PORE : PORE + 1] + maps[:, CBD:] > 0.5)).to(maps.dtype)


def held_particles(maps: Tensor, margin: int, strength: float = 20.0) -> Tensor:
    """Logits (batch, phase, ...) that hold graphite and silicon beyond `margin` voxels from their surfaces.

    +strength for a particle phase deeper inside than that, -strength farther outside, 0 for the other phases.
    """
    particles = maps.detach()[:, GRAPHITE : SILICON + 1]
    outside = (_dilated(particles, margin) < 0.5).to(maps.dtype)
    inside = (_dilated(1 - particles, margin) < 0.5).to(maps.dtype)
    held = torch.zeros_like(maps)
    held[:, GRAPHITE : SILICON + 1] = strength * (inside - outside)
    return held


def _dilated(maps: Tensor, reach: int) -> Tensor:
    """Largest value within `reach` voxels along axes and diagonals."""
    pool = functional.max_pool2d if maps.ndim == 4 else functional.max_pool3d
    for axis in range(maps.ndim - 2):
        sides = [2 * reach + 1 if each == axis else 1 for each in range(maps.ndim - 2)]
        maps = pool(maps, sides, stride=1, padding=[side // 2 for side in sides])
    return maps


def least_squares(scores: Tensor, target: float) -> Tensor:
    """LSGAN loss: mean (score - target)^2; target 1 for templates, 0 for generated maps. Mao et al. 2017."""
    return (scores - target).square().mean()


def cycle_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the maps that came back against the labels that were sent."""
    return functional.cross_entropy(logits, labels)


def fraction_loss(generated: Tensor, maps: Tensor) -> Tensor:
    """Mean absolute difference of the phase fractions of a batch of generated maps and of the maps given."""
    axes = [0, *range(2, maps.ndim)]
    return (generated.mean(dim=axes) - maps.mean(dim=axes)).abs().mean()


def keep_loss(logits: Tensor, labels: Tensor, groups: Sequence[Sequence[int]] = ((0, 3), (1,), (2,))) -> Tensor:
    """Mean negative log probability of staying in one's group of phases, so that particles stay where they are.

    By default pore and cbd may turn into one another, graphite and silicon stay what they are.
    """
    log_p = logits.log_softmax(dim=1)
    loss = torch.zeros((), device=logits.device)
    for group in groups:
        phases = torch.tensor(list(group), device=labels.device)
        loss = loss - (log_p[:, phases].logsumexp(dim=1) * torch.isin(labels, phases)).mean()
    return loss


def neighbour_statistics(maps: Tensor, lags: Sequence[int] = (1, 2, 3, 5, 8)) -> Tensor:
    """Joint probabilities of the phases of two voxels `lag` apart, (axis and lag, phase, phase), symmetric, each sum 1.

    The two-point statistics of all phases at once: their slope at short lags is surface and coverage.
    """
    joint = []
    maps = maps.movedim(1, 0).contiguous()  # phases first: one matrix product for the whole batch
    for axis in range(2, maps.ndim):
        for lag in lags:
            length = maps.shape[axis] - lag
            both = maps.narrow(axis, 0, length).flatten(1) @ maps.narrow(axis, lag, length).flatten(1).T
            joint.append((both + both.T) / (2 * both.sum()))
    return torch.stack(joint)


class StatisticsLoss(nn.Module):
    """Squared differences between generated maps and templates in how one phase (the binder) lies among the others.

    For each lag: how likely the phase goes on; where it ends, on which other phase; and which share of the ends of each
    other phase it takes. At lag 1 that is chord length and coverage, independent of the fractions. Single patches are
    too small to judge, so running means (buffers) of both sides are compared; the gradient goes through the newest
    patch. A short memory of the generated ones keeps the difference from overshooting. Texture by statistics beside
    texture by critic: our addition, which makes minutes suffice.
    """

    def __init__(
        self,
        dimensions: int,
        phases: int = 4,
        lags: Sequence[int] = (1, 2, 3, 5, 8),
        phase: int = CBD,
        momenta: tuple[float, float] = (0.8, 0.98),
    ):
        super().__init__()
        self.lags, self.phase, self.momenta = tuple(lags), phase, momenta
        shape = (dimensions * len(self.lags), phases, phases)
        for name in ("generated", "templates"):
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, generated: Tensor, templates: Tensor) -> Tensor:
        means = []
        for name, maps, momentum in zip(("generated", "templates"), (generated, templates), self.momenta):
            new, old = neighbour_statistics(maps, self.lags), getattr(self, name)
            mean = momentum * old + (1 - momentum) * new if old.any() else new
            getattr(self, name).copy_(mean.detach())
            means.append(contacts(mean))
        square = (means[0] - means[1].detach()).square().mean(dim=0)
        others = [phase for phase in range(len(square)) if phase != self.phase]
        return (square[self.phase].sum() + square[others, self.phase].sum()) / (1 - self.momenta[0])


def contacts(joint: Tensor) -> Tensor:
    """(..., phase, phase) of joint probabilities: P(stays) on the diagonal, beside it where lines that leave end."""
    given = joint / joint.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    same = torch.eye(joint.shape[-1], device=joint.device)
    leaving = given * (1 - same)
    return given * same + leaving / leaving.sum(dim=-1, keepdim=True).clamp(min=1e-6)
