"""Bytes arriving, shown on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

#: between two lines where there is no terminal [s]
LINE_S = 3.0


@contextmanager
def meter(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Within it, call what it yields with each number of bytes that has arrived, from any thread."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lines(label, total, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total)
        yield lambda count: progress.advance(task, count)


def lines(label: str, total: int, console: Console) -> Callable[[int], None]:
    """A counter that says where it stands: at the start, every LINE_S, at the end."""
    lock = threading.Lock()
    done, said = 0, time.monotonic()

    def say() -> None:
        console.print(f"{label}: {done / 1e6:.0f} of {total / 1e6:.0f} MB", highlight=False, soft_wrap=True)

    def advance(count: int) -> None:
        nonlocal done, said
        with lock:
            done += count
            if (total and done >= total) or time.monotonic() - said >= LINE_S:
                said = time.monotonic()
                say()

    say()
    return advance
