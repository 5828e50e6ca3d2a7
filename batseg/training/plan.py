"""What a training step costs on this machine: memory and time, measured in a process of its own."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from math import prod
from multiprocessing import get_context

import psutil
import torch
from hydra.utils import instantiate

from batseg.networks.losses import CrossEntropy, deeply_supervised
from batseg.training.fit import is_out_of_memory, peak_memory_gb, use_cores


@dataclass(frozen=True)
class Cost:
    """Peak memory (GB = 1e9 bytes; of the GPU, or of the whole process on a CPU) and seconds of one training step."""

    patch: tuple[int, int, int]
    width: int
    batch_size: int
    memory_gb: float | None
    step_s: float | None
    measured: bool

    @property
    def work(self) -> float:
        """What the memory of a step grows with: voxels times channels."""
        return prod(self.patch) * self.batch_size * self.width


def measure(model: Mapping, patch: Sequence[int], batch_size: int, steps: int, accelerator: str) -> tuple[float, float]:
    """Peak memory (GB) and median seconds of a training step with random data, in this process.

    model : configuration of the network. bf16 on a GPU, fp32 on a CPU, as in training. Raises MemoryError if it does
    not fit.
    """
    use_cores()
    device = torch.device("cuda" if accelerator == "auto" and torch.cuda.is_available() else "cpu")
    network = instantiate(model, _convert_="all").to(device, memory_format=torch.channels_last_3d)
    optimizer, loss = torch.optim.AdamW(network.parameters()), CrossEntropy().to(device)
    image = torch.randn(batch_size, model["in_channels"], *patch, device=device)
    image = image.to(memory_format=torch.channels_last_3d)
    labels = torch.randint(0, model["phases"], (batch_size, *patch), device=device)
    seconds = []
    try:
        for _ in range(steps + 1):
            start = time.perf_counter()
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                outputs = network(image)
            deeply_supervised(loss, outputs, labels).backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from None
        raise
    return peak_memory_gb(device), sorted(seconds[1:])[len(seconds[1:]) // 2]


def available_gb(accelerator: str = "auto") -> float:
    """Memory that a training could use now: of the GPU if there is one, else of the machine."""
    if accelerator == "auto" and torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 1e9
    return psutil.virtual_memory().available / 1e9


def plan(
    model: Mapping,
    patches: Sequence[Sequence[int]],
    widths: Sequence[int],
    batch_sizes: Sequence[int],
    memory_gb: float,
    steps: int,
    accelerator: str,
    done: Callable[[Cost], None] = lambda cost: None,
) -> list[Cost]:
    """Costs of all combinations, the small ones first; none is tried that would pass 1.2 times `memory_gb`.

    Whether it would is extrapolated from the largest one measured (memory grows with voxels times channels); those are
    marked as not measured and have no time.
    """
    costs: list[Cost] = []
    choices = sorted(
        product(map(tuple, patches), widths, batch_sizes), key=lambda choice: prod(choice[0]) * prod(choice[1:])
    )
    for patch, width, batch_size in choices:
        expected = extrapolated(costs, patch, width, batch_size)
        if expected is not None and expected > 1.2 * memory_gb:
            cost = Cost(patch, width, batch_size, expected, None, measured=False)
        else:
            cost = in_own_process({**model, "width": width}, patch, width, batch_size, steps, accelerator)
        costs.append(cost)
        done(cost)
    return costs


def in_own_process(
    model: Mapping, patch: tuple[int, int, int], width: int, batch_size: int, steps: int, accelerator: str
) -> Cost:
    """The cost of one combination; no memory and no time where it did not fit."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            memory, seconds = pool.submit(measure, model, patch, batch_size, steps, accelerator).result()
        except (MemoryError, OSError):  # a killed process too
            return Cost(patch, width, batch_size, None, None, measured=True)
    return Cost(patch, width, batch_size, memory, seconds, measured=True)


def extrapolated(costs: Sequence[Cost], patch: tuple[int, int, int], width: int, batch_size: int) -> float | None:
    """Memory of a combination on the line through the smallest and the largest measured one, over voxels x channels.

    None before two different ones are measured.
    """
    measured = sorted((cost for cost in costs if cost.measured and cost.memory_gb is not None), key=lambda c: c.work)
    if not measured or measured[0].work == measured[-1].work:
        return None
    small, large = measured[0], measured[-1]
    slope = (large.memory_gb - small.memory_gb) / (large.work - small.work)
    return small.memory_gb + slope * (prod(patch) * width * batch_size - small.work)
