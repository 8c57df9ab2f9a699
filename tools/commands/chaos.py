"""`faust -A app chaos`: inject faults and check every output row."""

from __future__ import annotations

import json
import logging
import random
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from click import Choice
from faust.cli import option

import stack
from app.commands.base import Command
from app.errors import ConfigError
from tools.e2e.chaos import run as runner
from tools.e2e.chaos.accelerated import AcceleratedResult, Load, run_accelerated
from tools.e2e.chaos.actions import ACTIONS, TAKEOVER_S
from tools.e2e.chaos.broker_actions import BROKER_ACTIONS, actions_for
from tools.e2e.chaos.run import Result
from tools.e2e.workers import E2EError


class chaos(Command):
    """Inject faults into workers and servers while a log is read, and check every output row.

    Workers are killed, wiped, suspended, stopped and joined by others; the broker and the schema registry
    are killed. Then every row of the output topics, the state and the disk are compared with an
    independent computation. With three brokers, these are killed, stopped, suspended, kept away and given empty
    disks one at a time, and leaders move. The last line of output is JSON. Exits with 1 unless everything is exact and
    killed workers were replaced in time. It starts its own servers.
    """

    options = (
        option("--seed", type=int, help="Seed of the log and of the schedule of faults. [default: random]"),
        option("--minutes", type=float, default=7.0, show_default=True, help="Time during which faults are injected."),
        option(
            "--session-timeout",
            type=float,
            default=6.0,
            show_default=True,
            help="RISK_SESSION_TIMEOUT of the workers.",
        ),
        option(
            "--takeover",
            type=float,
            default=TAKEOVER_S,
            show_default=True,
            help="Time allowed after the session timeout until a killed worker's partitions are taken over [s].",
        ),
        option(
            "--accelerated",
            is_flag=True,
            help="Let days of event time pass in a minute, while three workers are killed, stopped and suspended.",
        ),
        option("--rate", type=int, default=8_000, show_default=True, help="Rows a second, with --accelerated."),
        option("--days-per-minute", type=float, default=9.0, show_default=True, help="Event time, with --accelerated."),
        option("--only", default="", help=f"Inject only these faults, with commas between: {', '.join(ACTIONS)}."),
        option(
            "--brokers",
            type=Choice(["1", "3"]),
            default="1",
            show_default=True,
            help=f"Number of brokers. Three have faults of their own: {', '.join(BROKER_ACTIONS)}.",
        ),
        option(
            "--duplicates",
            is_flag=True,
            help="Send rows several times, to workers with RISK_DEDUPLICATE=log-id.",
        ),
        option("--keep", type=Path, help="Directory in which to keep logs and data. [default: a temporary one]"),
    )

    def main(
        self,
        *,
        seed: int | None,
        minutes: float,
        session_timeout: float,
        takeover: float,
        accelerated: bool,
        rate: int,
        days_per_minute: float,
        only: str,
        brokers: str,
        duplicates: bool,
        keep: Path | None,
        **_: Any,
    ) -> int:
        """Run the chaos test."""
        actions = actions_for(int(brokers))
        names = [name.strip() for name in only.split(",") if name.strip()]
        if unknown := [name for name in names if name not in actions]:
            raise ConfigError(f"--only: {', '.join(unknown)} is none of {', '.join(actions)}")
        logging.disable(logging.CRITICAL)  # clients log every outage of the broker
        seed = random.randrange(1_000_000) if seed is None else seed
        with tempfile.TemporaryDirectory(prefix="moodle-risk-chaos-") as temporary:
            directory = (keep or Path(temporary)).resolve()
            directory.mkdir(parents=True, exist_ok=True)
            result: Result | AcceleratedResult
            try:
                if accelerated:
                    load = Load(minutes * 60, rate, days_per_minute)
                    result = run_accelerated(seed, load, session_timeout, directory, _report)
                else:
                    result = runner.run(
                        seed, minutes * 60, session_timeout, directory, _report, names, int(brokers), duplicates
                    )
            except (stack.StackError, E2EError) as error:
                print(f"moodle-risk: seed {seed}: {error}", file=sys.stderr)
                return 1
        if isinstance(result, Result):
            result = replace(result, takeover_allowed_s=session_timeout + takeover)
        for failure in result.failures:
            print(failure, file=sys.stderr)
        line = asdict(result)
        del line["differences"]
        print(json.dumps(line))
        return 1 if result.failures else 0


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
