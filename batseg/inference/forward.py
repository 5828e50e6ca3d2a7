"""From a batch of windows to probabilities: one or several networks, mirrored copies, precision, memory format."""

import copy
from collections.abc import Sequence
from itertools import chain, combinations

import torch
from torch import nn

from batseg.inference.folding import first_logits, fold_batch_norm

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Forward:
    """Maps windows (b, channel, thin, a, b) to probabilities (b, phase, thin, a, b) in float32.

    Parameters
    ----------
    networks : one, or several whose probabilities are averaged (an ensemble). They are copied, not changed.
    mirror : network axes (t, a, b) whose mirrored copies are averaged: "ab" costs four times, "tab" eight times.
    """

    def __init__(
        self,
        networks: nn.Module | Sequence[nn.Module],
        device: str | torch.device | None = None,
        mirror: str = "",
        precision: str = "fp32",
    ):
        if set(mirror) - set("tab"):
            raise ValueError(f"mirror {mirror!r}: expected letters of 'tab' (thin, a, b)")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        networks = [networks] if isinstance(networks, nn.Module) else list(networks)
        self.networks = [copy.deepcopy(network).eval().to(self.device) for network in networks]
        axes = [-3 + "tab".index(letter) for letter in mirror]
        self.flips = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))
        self.use(precision)

    def use(self, precision: str) -> None:
        """Compute in fp32 or bf16 from now on."""
        if precision not in DTYPES:
            raise ValueError(f"precision {precision!r}: expected fp32, bf16 or auto")
        self.precision, self.dtype, self.prepared = precision, DTYPES[precision], None

    @torch.inference_mode()
    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        windows = windows.to(self.device)
        if self.prepared is None:
            self.prepare(windows)
        windows = windows.to(self.dtype).contiguous(memory_format=torch.channels_last_3d)
        total = None
        for network in self.prepared:
            for flip in self.flips:
                logits = first_logits(network(windows.flip(flip) if flip else windows))
                probabilities = torch.softmax(logits.float(), 1)
                probabilities = probabilities.flip(flip) if flip else probabilities
                total = probabilities if total is None else total.add_(probabilities)
        copies = len(self.prepared) * len(self.flips)
        return total if copies == 1 else total.div_(copies)

    def prepare(self, windows: torch.Tensor) -> None:
        """Fold batch norms and lay weights out for speed. The probe is a corner of the first batch."""
        probe = windows[:1, :, :16, :32, :32].clone()
        folded = [fold_batch_norm(copy.deepcopy(network), probe) for network in self.networks]
        self.prepared = [network.to(self.dtype, memory_format=torch.channels_last_3d) for network in folded]
