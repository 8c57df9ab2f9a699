"""`faust -A app grow`: divide the students among more partitions."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

import click
from faust.cli import option

from app.commands.base import Command
from app.errors import ConfigError
from app.ops import drain
from app.ops.failpoints import failpoints
from app.ops.grow import grow as divide
from app.settings import Settings


class grow(Command):
    """Divide the students among more partitions, so that more workers can share them. No worker may run.

    Adds partitions to the visits topic and to the changelog of students, and moves each student's state to
    its new partition, in one transaction. Everything counts once, also if this is killed: run it again. Run
    it with the workers' settings. The source topic may have any number of partitions, before and after.
    """

    options = (option("--partitions", type=click.IntRange(min=1), required=True, help="Number of partitions to have."),)

    def main(self, *, partitions: int, **_: Any) -> int:
        """Divide them; return the exit code."""
        settings: Settings = self.app.settings  # type: ignore[attr-defined]
        failpoints.arm(os.environ)
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs what becomes one line here
        asyncio.run(divide(settings, partitions, run_draining_worker, _report))
        return 0


async def run_draining_worker() -> None:
    """Run a worker that makes all positions even, to its end. Raises ConfigError if it fails."""
    command = (sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "warn", "--without-web")
    nothing = asyncio.subprocess.DEVNULL  # Faust's banner would go to stdout
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, drain.VARIABLE: str(os.getpid())}, stdin=nothing, stdout=nothing
    )
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if code:
        raise ConfigError(f"the worker that makes the positions even has ended with exit code {code}: run this again")


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
