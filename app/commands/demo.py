"""`faust -A app demo`: the pipeline at work on real students, with its own Kafka."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

from faust.cli import option
from rich.console import Console

import stack
from app.commands.base import Command
from app.errors import ConfigError
from app.replaying import oulad
from app.trial import demo as demos
from app.trial.workers import TrialError

#: seconds of the course a second: a presentation takes about two minutes
SPEED = 100_000.0


class demo(Command):
    """Start Kafka, a registry and a worker, replay real students, and show live who is in risk.

    Ctrl-C stops everything. Needs no Kafka, Java or Docker; the first time servers are downloaded.
    """

    options = (
        option("--directory", type=Path, default=Path(".demo"), show_default=True, help="Wiped at the start."),
        option("--presentation", default="BBB-2013J", show_default=True, help="MODULE-PRESENTATION to replay."),
        option("--speed", type=float, default=SPEED, show_default=True, help="Course seconds a second, 0: no limit."),
    )

    def main(self, *, directory: Path, presentation: str, speed: float, **_: Any) -> int:
        """Run the demo."""
        try:
            chosen = oulad.named([presentation])
        except ValueError as error:
            raise ConfigError(str(error)) from error
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it waits for topics, aloud
        try:
            asyncio.run(demos.run(directory.resolve(), chosen[0], speed, Console()))
        except (stack.StackError, TrialError) as error:
            print(f"moodle-risk: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            pass  # the way to end it
        return 0
