"""`faust -A app demo`: show the pipeline at work on real students."""

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
from tools.demo import run as runner
from tools.e2e.workers import E2EError
from tools.replay import oulad

#: course seconds a second: a presentation takes about two minutes, …
SPEED = 100_000.0
#: … or four with Debezium, which captures some 10,000 rows a second
CDC_SPEED = 50_000.0


class demo(Command):
    """Replay real students through the whole pipeline and show live who is at risk, here and on the advisers' page.

    Starts Kafka, a schema registry, a worker and the page of its own; Ctrl-C stops them all. Needs no Kafka, Java or
    Docker: servers are downloaded on first use. --cdc needs the packages of MariaDB's server and client,
    which it does not download.
    """

    options = (
        option(
            "--directory",
            type=Path,
            default=Path(".demo"),
            show_default=True,
            help="Directory of logs and data; it is deleted at the start.",
        ),
        option(
            "--presentation",
            default="BBB-2013J",
            show_default=True,
            help="Course presentation to replay, MODULE-PRESENTATION.",
        ),
        option("--cdc", is_flag=True, help="Insert the rows into MariaDB and capture them with Debezium."),
        option("--limit", type=int, help="Replay only the first N rows."),
        option(
            "--speed",
            type=float,
            help=f"Course seconds replayed a second, 0: unlimited. [default: {SPEED:g}, with --cdc {CDC_SPEED:g}]",
        ),
        option(
            "--picture",
            type=Path,
            help="Write the view as SVG to this file, as it was while the log was replayed, and exit at the end.",
        ),
    )

    def main(
        self,
        *,
        directory: Path,
        presentation: str,
        speed: float | None,
        cdc: bool,
        limit: int | None,
        picture: Path | None,
        **_: Any,
    ) -> int:
        """Run the demo."""
        try:
            chosen = oulad.select_presentations([presentation])[0]
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if picture and not picture.absolute().parent.is_dir():
            raise ConfigError(f"--picture: {picture.absolute().parent} is not a directory")
        speed = (CDC_SPEED if cdc else SPEED) if speed is None else speed
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs every retry while topics are missing
        try:
            asyncio.run(runner.run(directory.resolve(), chosen, speed, Console(), cdc=cdc, limit=limit, svg=picture))
        except (stack.StackError, E2EError) as error:
            print(f"moodle-risk: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            pass  # the way to end it
        return 0
