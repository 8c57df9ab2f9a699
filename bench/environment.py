"""Servers, directory, console and argument types that the benchmarks share."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

import stack
from app.kafka import topics
from app.kafka.clients import new_admin
from app.settings import Settings

#: width of the tables if stderr is no terminal [columns]
WIDTH = 140


#: the figures are those of the work that KSQL and plain Faust do too: the totals model, without the new risk
SAME_WORK = {"RISK_MODEL": "v1"}


def own_settings(name: str, directory: Path) -> dict[str, str]:
    """Return the settings of a worker with group, output topics and a data directory of its own, called `name`."""
    return {"RISK_APP_ID": name, "RISK_TOPIC_PREFIX": f"{name}.", "RISK_DATADIR": str(directory / name)}


@contextmanager
def temporary_servers(name: str) -> Iterator[tuple[stack.Environment, Path]]:
    """Start servers in an empty directory; stop them and delete it afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"moodle-risk-{name}-") as path:
        directory = Path(path)
        servers = stack.up(directory / "stack", owner_pid=os.getpid())
        try:
            yield servers, directory
        finally:
            stack.down(directory / "stack")


async def create_topics(settings: Settings, sources: int, *, only: Container[str] | None = None) -> None:
    """Create the app's topics for a source topic of `sources` partitions; only: create just these."""
    admin = new_admin(settings)
    await admin.start()
    try:
        wanted = topics.wanted(settings.topic_names, sources)
        await topics.declare(admin, [topic for topic in wanted if only is None or topic.name in only], 1)
    finally:
        await admin.close()


def stderr_console() -> Console:
    """Return a console for tables and progress; stdout is for the line of JSON."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def at_least(minimum: int) -> Callable[[str], int]:
    """Return an argparse type for integers that are not less than `minimum`."""

    def number(text: str) -> int:
        if (value := int(text)) < minimum:
            raise argparse.ArgumentTypeError(f"{value} is less than {minimum}")
        return value

    return number
