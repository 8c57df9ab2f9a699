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
from tools.demo import run as demos
from tools.e2e.workers import TrialError
from tools.replay import oulad

#: seconds of the course a second: a presentation takes about two minutes, …
SPEED = 100_000.0
#: … or four with Debezium, which follows some 10,000 rows a second
CDC_SPEED = 50_000.0


class demo(Command):
    """Start Kafka, a registry and a worker, replay real students, and show live who is in risk.

    Ctrl-C stops everything. Needs no Kafka, Java or Docker; the first time servers are downloaded.
    --cdc needs MariaDB's server and client, which it does not download.
    """

    options = (
        option("--directory", type=Path, default=Path(".demo"), show_default=True, help="Wiped at the start."),
        option("--presentation", default="BBB-2013J", show_default=True, help="MODULE-PRESENTATION to replay."),
        option("--cdc", is_flag=True, help="Through MariaDB and Debezium instead of a replay into Kafka."),
        option("--limit", type=int, help="Only the first so many rows."),
        option("--speed", type=float, help=f"Course seconds a second [{SPEED:g}, --cdc: {CDC_SPEED:g}], 0: no limit."),
    )

    def main(
        self, *, directory: Path, presentation: str, speed: float | None, cdc: bool, limit: int | None, **_: Any
    ) -> int:
        """Run the demo."""
        try:
            chosen = oulad.named([presentation])
        except ValueError as error:
            raise ConfigError(str(error)) from error
        speed = (CDC_SPEED if cdc else SPEED) if speed is None else speed
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it waits for topics, aloud
        try:
            asyncio.run(demos.run(directory.resolve(), chosen[0], speed, Console(), cdc=cdc, limit=limit))
        except (stack.StackError, TrialError) as error:
            print(f"moodle-risk: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            pass  # the way to end it
        return 0
