"""How much memory a forward pass takes, counted before it is run at full size."""

import ctypes
import resource
import weakref
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode

SAFETY = 1.4
"""What a forward pass may take beyond its tensors: work space of the convolutions, the allocator's gaps. Measured."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive; `peak` is the largest sum so far."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = 0, 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return result

    def count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self.seen or not size:
            return
        self.seen.add(address)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self.forget, address, size)

    def forget(self, address: int, size: int) -> None:
        self.seen.discard(address)
        self.alive -= size


def forward_bytes_per_voxel(
    forward: Callable[[torch.Tensor], torch.Tensor], channels: int, thin: int
) -> tuple[int, float]:
    """Number of phases, and peak bytes per voxel of a forward pass of windows (1, channels, thin, a, b)."""
    windows = torch.randn(1, channels, max(8, thin // 8 * 8), 32, 32)
    forward(windows)  # prepares the networks, whose weights are not to be counted
    with LiveBytes() as counter:
        phases = forward(windows).shape[1]
    return phases, SAFETY * (counter.peak / windows.numel() * channels + 4 * channels)


def resident_bytes() -> int:
    """Memory this process holds now."""
    return psutil.Process().memory_info().rss


def peak_resident_bytes() -> int:
    """The most memory this process has held (on Linux; elsewhere what the system counts for it).

    Not `ru_maxrss`, which a process inherits from the one that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def give_back_memory() -> None:
    """Return freed memory to the system (glibc; elsewhere nothing is done), so that gaps do not add up over hours."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
