"""`faust -A app worker`: run the preflight checks first; failures are one line instead of a traceback."""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.config
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import faust.worker

from app.errors import ConfigError
from app.faust_app import ANY_PORT
from app.kafka.clients import without_silent_brokers
from app.kafka.refusals import REFUSALS
from app.ops import drain, logs
from app.ops.failpoints import failpoints
from app.ops.logs import say
from app.ops.preflight import check_machine, preflight, silent
from app.ops.watchdog import in_a_line, with_hint
from app.ops.web_server import listen
from app.settings import Settings
from app.state.place import take
from app.topology import assemble

log = logging.getLogger(__name__)


class Worker(faust.worker.Worker):
    """Faust's worker, preceded by the preflight checks."""

    #: prints Faust's banner, which names port and directory; set by the command
    say_banner: Callable[[], None] = staticmethod(lambda: None)

    def execute_from_commandline(self) -> NoReturn:
        """Run until stopped. Exits with code 1 if the worker cannot start or gives up."""
        app: Any = self.app
        # from `-l warn` on, Faust's spinner has every library format its debug lines: a fourteenth of the CPU time
        self.spinner = None
        # logs go to stderr, so there is no file to reopen; without a handler a closed terminal or a log rotation kills
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # as process 1 of a container, a worker without a handler would not end until it is killed
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        # the command line may have set others
        port = 0 if (app.settings.web_port, app.conf.web_port) == (0, ANY_PORT) else app.conf.web_port
        app.settings = replace(app.settings, web_bind=app.conf.web_bind, web_port=port)
        self._log_in(app.settings)
        try:
            self._run()
        finally:
            if app.place is not None:
                app.place.withdraw()

    def _run(self) -> NoReturn:
        app: Any = self.app
        try:
            failpoints.arm(os.environ)
            for line in Settings.misspelt(os.environ):
                log.warning("%s", line)
            self._occupy()
            self.say_banner()
            check_machine(app.settings)
            drain_for = int(os.environ[drain.VARIABLE]) if drain.VARIABLE in os.environ else None
            with silent("aiokafka"):
                app.settings = asyncio.run(without_silent_brokers(app.settings))
            checked = asyncio.run(preflight(app.settings, draining=drain_for is not None))
        except ConfigError as error:
            say(app.settings, str(error))
            raise SystemExit(1) from None
        assemble(app, checked, drain_for=drain_for)
        relax_garbage_collection()
        try:
            super().execute_from_commandline()
        finally:
            if app.crash_reason is not None:
                reason = with_hint(in_a_line(app.crash_reason), REFUSALS.reason(app.settings))
                say(app.settings, f"gave up: {reason}")

    def _occupy(self) -> None:
        """Take a port for the pages, and a place for the state. Raises ConfigError."""
        app: Any = self.app
        settings: Settings = app.settings
        listener = listen(settings.web_address, settings.web_port) if app.conf.web_enabled else None
        directory = settings.datadir.expanduser().absolute()
        place = take(directory, settings.app_id) if settings.store == "rocksdb://" else None
        app.occupy(listener, place)
        if listener is not None:
            self._log_in(app.settings)  # the lines name the port
            if place is not None:
                place.publish(settings.web_address, app.settings.web_port)

    def _log_in(self, settings: Settings) -> None:
        """Log in the format of the settings, from now on; Faust, which does it again, until the end."""
        if str(self.loglevel).upper() == "CRIT":  # offered by Faust, unknown to the logging module
            self.loglevel = logging.CRITICAL
        self.logging_config = logs.config(settings, self.loglevel or logging.WARNING, self.logfile)
        if self.logging_config is not None:
            logging.config.dictConfig(self.logging_config)
            logs.log_uncaught_errors()
            self.quiet = True  # what mode prints is no JSON

    def install_signal_handlers(self) -> None:
        """Let SIGUSR1 log the stacks of all threads, and SIGUSR2 do nothing.

        mode would write the value of every variable to the log, and stop the event loop in a debugger.
        """
        super().install_signal_handlers()
        self.loop.add_signal_handler(signal.SIGUSR1, lambda: log.warning("SIGUSR1:\n%s", logs.stacks()))
        self.loop.add_signal_handler(signal.SIGUSR2, lambda: None)


def relax_garbage_collection() -> None:
    """Run Python's cycle collector rarely: with its default thresholds it takes two thirds of the reader's time.

    A fetch creates a hundred thousand short-lived objects, which trigger the collector a hundred times. They have no
    cycles, so reference counting frees them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
