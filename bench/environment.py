"""Where something is measured: servers of its own and a directory, both gone afterwards."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

import stack

#: columns of the tables where no terminal says how many it has
WIDTH = 140
#: stack/'s JVMs stop at the first compiler, to start sooner; a broker that has run for long has the second one's code,
#: and takes half the time for a transaction
_STEADY = {"_JAVA_OPTIONS": "-XX:TieredStopAtLevel=4"}


@contextmanager
def place(name: str, *, steady: bool) -> Iterator[tuple[stack.Environment, Path]]:
    """Servers that die with this process, and an empty directory; steady: with the code of ones that ran for long."""
    with tempfile.TemporaryDirectory(prefix=f"moodle-risk-{name}-") as made:
        directory = Path(made)
        if steady:
            os.environ.update(_STEADY)
        servers = stack.up(directory / "stack", owner_pid=os.getpid())
        try:
            yield servers, directory
        finally:
            stack.down(directory / "stack")


def console() -> Console:
    """For a person; the last line of standard output is for programs."""
    made = Console(stderr=True)
    if not made.is_terminal:
        made.width = WIDTH
    return made


def at_least(least: int) -> Callable[[str], int]:
    """An argument's type: a whole number that is not less."""

    def number(text: str) -> int:
        if (found := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{found} is less than {least}")
        return found

    return number
