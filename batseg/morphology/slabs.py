"""Run compiled kernels that release the interpreter's lock on slabs of slices, one per processor."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np

WORKERS = len(os.sched_getaffinity(0))
SMALL = 64**3
"""Volumes up to this many voxels run in the calling thread: handing them out costs more than it brings."""


@cache
def _pool(pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(WORKERS)


def in_slabs(kernel: Callable, depth: int, voxels: int, *arguments) -> list:
    """`kernel(*arguments, start, stop)` for slabs start..stop of `depth` slices; the kernels' results, in order."""
    if voxels <= SMALL or WORKERS == 1 or depth == 1:
        return [kernel(*arguments, 0, depth)]
    edges = np.unique(np.linspace(0, depth, WORKERS + 1).astype(int)).tolist()
    pool = _pool(os.getpid())  # a forked process must not use its parent's threads
    jobs = [pool.submit(kernel, *arguments, start, stop) for start, stop in pairwise(edges)]
    return [job.result() for job in jobs]
