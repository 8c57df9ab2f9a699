"""`faust -A app worker`: look before starting, and end with a line instead of a traceback."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from dataclasses import replace
from typing import Any, NoReturn

import faust.worker

from app.errors import ConfigError
from app.ops.failpoints import failpoints
from app.ops.preflight import check_machine, preflight
from app.ops.watchdog import in_a_line


class Worker(faust.worker.Worker):
    """Faust's worker, which first checks the broker, the registry and the topics."""

    def execute_from_commandline(self) -> NoReturn:
        """Run until stopped; exit code 1 if it cannot start or had to give up."""
        app: Any = self.app
        # from `-l warn` on Faust turns a spinner for every line that any library would log for debugging, and has
        # them all written for that: a fourteenth of the time
        self.spinner = None
        try:
            failpoints.arm(os.environ)
            settings = replace(app.settings, web_bind=app.conf.web_bind, web_port=app.conf.web_port)
            check_machine(settings, web=app.conf.web_enabled)
            asyncio.run(preflight(app.pipeline))
        except ConfigError as error:
            print(f"moodle-risk: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        app.conf.topic_partitions = app.pipeline.sources
        rest_the_collector()
        try:
            super().execute_from_commandline()
        finally:
            if app.crash_reason is not None:
                print(f"moodle-risk: gave up: {in_a_line(app.crash_reason)}", file=sys.stderr, flush=True)


def rest_the_collector() -> None:
    """Let Python's cycle collector look rarely: two thirds of the reader's time were its rounds.

    A fetch makes a hundred thousand short-lived objects without a cycle among them, which trips the
    collector a hundred times with its default thresholds. Reference counting frees them all the same.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
