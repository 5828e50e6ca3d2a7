"""Run the benchmarks: `python -m tests.benchmarks [name ...]`; each bench_*.py has `rows()` yielding Row objects."""

import importlib
import os
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

names = sys.argv[1:] or sorted(file.stem.removeprefix("bench_") for file in Path(__file__).parent.glob("bench_*.py"))
table = Table("work", "ours [s]", "peer", "peer [s]", "ratio", "note")
for name in names:
    print(f"benchmark {name} ...", file=sys.stderr, flush=True)
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # the one before may have counted core-seconds on one
    for row in importlib.import_module(f"tests.benchmarks.bench_{name}").rows():
        peer = "" if row.peer_s is None else f"{row.peer_s:.2f}"
        table.add_row(row.work, f"{row.ours_s:.2f}", row.peer, peer, row.ratio, row.note)
        print(f"  {row.work}: {row.ours_s:.2f} s {row.peer} {peer} {row.ratio} {row.note}", file=sys.stderr, flush=True)
Console(width=160).print(table)
