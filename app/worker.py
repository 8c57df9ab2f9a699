"""`faust -A app worker`: run the preflight checks first; failures are one line instead of a traceback."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from dataclasses import replace
from typing import Any, NoReturn

import faust.worker

from app.errors import ConfigError
from app.kafka.clients import order_brokers
from app.ops import drain
from app.ops.failpoints import failpoints
from app.ops.preflight import check_machine, preflight, silent
from app.ops.watchdog import in_a_line
from app.topology import assemble


class Worker(faust.worker.Worker):
    """Faust's worker, preceded by the preflight checks."""

    def execute_from_commandline(self) -> NoReturn:
        """Run until stopped. Exits with code 1 if the worker cannot start or gives up."""
        app: Any = self.app
        # from `-l warn` on, Faust's spinner has every library format its debug lines: a fourteenth of the CPU time
        self.spinner = None
        # logs go to stderr, so there is no file to reopen; without a handler a closed terminal or a log rotation kills
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            failpoints.arm(os.environ)
            settings = replace(app.settings, web_bind=app.conf.web_bind, web_port=app.conf.web_port)
            check_machine(settings, web=app.conf.web_enabled)
            drain_for = int(os.environ[drain.VARIABLE]) if drain.VARIABLE in os.environ else None
            with silent("aiokafka"):
                app.settings = asyncio.run(order_brokers(app.settings))
            settings = replace(settings, broker=app.settings.broker)
            checked = asyncio.run(preflight(settings, draining=drain_for is not None))
        except ConfigError as error:
            print(f"moodle-risk: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        assemble(app, checked, drain_for=drain_for)
        relax_garbage_collection()
        try:
            super().execute_from_commandline()
        finally:
            if app.crash_reason is not None:
                print(f"moodle-risk: gave up: {in_a_line(app.crash_reason)}", file=sys.stderr, flush=True)


def relax_garbage_collection() -> None:
    """Run Python's cycle collector rarely: with its default thresholds it takes two thirds of the reader's time.

    A fetch creates a hundred thousand short-lived objects, which trigger the collector a hundred times. They have no
    cycles, so reference counting frees them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
