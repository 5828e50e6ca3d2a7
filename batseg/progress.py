"""One way to show progress: a rich bar with elapsed time and ETA on standard error."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")
console = Console(stderr=True)


class LinePrinter:
    """Stands in for the bar where standard error is no terminal: a line now and then, so that logs stay readable."""

    def __init__(self, description: str, total: int | None):
        self.description, self.total, self.done, self.shown = description, total, 0, -1
        self.begin = time.monotonic()
        print(f"{description} ...", file=sys.stderr, flush=True)

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        tenth = int(10 * self.done / self.total) if self.total else 0
        if tenth > self.shown and self.done > 0 and self.total:
            self.shown = tenth
            left = (time.monotonic() - self.begin) * (self.total / self.done - 1)
            print(f"{self.description}: {self.done}/{self.total}, {left:.0f} s left", file=sys.stderr, flush=True)


class Bar:
    """A running bar; `advance` moves it on."""

    def __init__(self, progress: Progress, task):
        self.progress, self.task = progress, task

    def advance(self, steps: int = 1) -> None:
        self.progress.advance(self.task, steps)


@contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[Bar | LinePrinter]:
    """A bar that says what is being done, how far it is and when it will end; call `.advance(n)` on it."""
    if not console.is_terminal:
        yield LinePrinter(description, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, progress.add_task(description, total=total))


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over `items` under a progress bar."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(description, total) as bar:
        for item in items:
            yield item
            bar.advance()
