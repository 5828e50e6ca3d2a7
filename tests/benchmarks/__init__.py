"""Side-by-side benchmarks: `make bench` runs every bench_*.py here and prints one table (work, ours, peer, ratio)."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table. Times in seconds; `peer` names the peer; `note` carries agreement, memory, targets."""

    work: str
    ours_s: float
    peer: str = ""
    peer_s: float | None = None
    note: str = ""

    @property
    def ratio(self) -> str:
        return "" if self.peer_s is None else f"{self.peer_s / self.ours_s:.1f}x"


def seconds(function: Callable[[], object], repeats: int = 1) -> float:
    """Best wall-clock seconds of `repeats` calls, after nothing: warm up yourself where compiling would count."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best
