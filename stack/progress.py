"""Download progress on stderr: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

#: interval between lines where stderr is no terminal [s]
LINE_S = 3.0


@contextmanager
def meter(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts received bytes and may be called from any thread; total: [bytes], 0 if unknown."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lines(label, total, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total)
        yield lambda count: progress.advance(task, count)


def lines(label: str, total: int, console: Console) -> Callable[[int], None]:
    """Return a counter that prints a line at the start, every LINE_S and at the end."""
    lock = threading.Lock()
    received, printed_at = 0, time.monotonic()

    def print_line() -> None:
        console.print(f"{label}: {received / 1e6:.0f} of {total / 1e6:.0f} MB", highlight=False, soft_wrap=True)

    def advance(count: int) -> None:
        nonlocal received, printed_at
        with lock:
            received += count
            if (total and received >= total) or time.monotonic() - printed_at >= LINE_S:
                printed_at = time.monotonic()
                print_line()

    print_line()
    return advance
