"""`faust -A app chaos`: break everything, recount everything; ends by itself."""

from __future__ import annotations

import json
import logging
import random
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from faust.cli import option

import stack
from app.commands.base import Command
from app.errors import ConfigError
from tools.e2e.chaos import run as trials
from tools.e2e.chaos.actions import DEEDS, TAKEOVER_S
from tools.e2e.workers import TrialError


class chaos(Command):
    """Kill, wipe, suspend, stop and join workers, and take broker and registry away, while a log is read.

    Then every row of the four topics, the state and the disk are compared with a recount. Prints one line of
    JSON last; exits 1 unless all is exact, and whatever a killed worker had was taken over in time. Needs no
    servers: it starts its own.
    """

    options = (
        option("--seed", type=int, help="Of the log and of the schedule; a random one if left out."),
        option("--minutes", type=float, default=7.0, show_default=True, help="How long things are broken."),
        option("--session-timeout", type=float, default=6.0, show_default=True, help="The workers' [s]."),
        option(
            "--takeover",
            type=float,
            default=TAKEOVER_S,
            show_default=True,
            help="How long after that a killed worker's partitions may rest [s].",
        ),
        option("--only", default="", help=f"One fault over and over: {', '.join(DEEDS)}."),
        option("--keep", type=Path, help="Directory for logs and data, kept; a temporary one if left out."),
    )

    def main(
        self,
        *,
        seed: int | None,
        minutes: float,
        session_timeout: float,
        takeover: float,
        only: str,
        keep: Path | None,
        **_: Any,
    ) -> int:
        """Run it."""
        if only and only not in DEEDS:
            raise ConfigError(f"--only: {only!r} is none of {', '.join(DEEDS)}")
        logging.disable(logging.CRITICAL)  # brokers come and go here, and clients say so
        seed = random.randrange(1_000_000) if seed is None else seed
        with tempfile.TemporaryDirectory(prefix="moodle-risk-chaos-") as temporary:
            directory = (keep or Path(temporary)).resolve()
            directory.mkdir(parents=True, exist_ok=True)
            try:
                result = trials.run(seed, minutes * 60, session_timeout, directory, _say, only)
            except (stack.StackError, TrialError) as error:
                print(f"moodle-risk: seed {seed}: {error}", file=sys.stderr)
                return 1
        result = replace(result, takeover_allowed_s=session_timeout + takeover)
        for shortcoming in result.shortcomings:
            print(shortcoming, file=sys.stderr)
        line = asdict(result)
        del line["differences"]
        print(json.dumps(line))
        return 1 if result.shortcomings else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
