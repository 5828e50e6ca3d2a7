"""From a batch of windows to probabilities: one or several networks, mirrored copies, temperature, precision."""

import copy
from collections.abc import Sequence
from itertools import chain, combinations

import torch
from torch import nn


class Forward:
    """Maps windows (b, channel, thin, a, b) to probabilities (b, phase, thin, a, b) in float32.

    Several networks are averaged (an ensemble); `mirror` names network axes (t, a, b) whose mirrored copies are
    averaged too (test-time augmentation: "ab" costs four times, "tab" eight times). `temperature` divides the logits.
    """

    def __init__(
        self,
        networks: nn.Module | Sequence[nn.Module],
        device: str | torch.device | None = None,
        mirror: str = "",
        temperature: float = 1.0,
    ):
        if set(mirror) - set("tab"):
            raise ValueError(f"mirror {mirror!r}: expected letters of 'tab' (thin, a, b)")
        if temperature <= 0:
            raise ValueError(f"temperature {temperature}: expected a positive number")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        networks = [networks] if isinstance(networks, nn.Module) else list(networks)
        self.networks = [copy.deepcopy(network).eval().to(self.device) for network in networks]
        axes = [-3 + "tab".index(letter) for letter in mirror]
        self.flips = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))
        self.temperature = temperature

    @torch.inference_mode()
    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        windows = windows.to(self.device)
        total = None
        for network in self.networks:
            for flip in self.flips:
                flipped = windows.flip(flip) if flip else windows
                logits = network(flipped)
                logits = logits[0] if isinstance(logits, (list, tuple)) else logits
                probabilities = torch.softmax(logits.float() / self.temperature, 1)
                probabilities = probabilities.flip(flip) if flip else probabilities
                total = probabilities if total is None else total.add_(probabilities)
        return total.div_(len(self.networks) * len(self.flips))
