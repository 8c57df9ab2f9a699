"""`faust -A app page`: serve the advisers' page."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import click
from faust.cli import option

from app.commands.base import Command
from app.errors import ConfigError
from app.ops.logs import say
from app.settings import Settings
from page.serve import serve

_LEVELS = ("debug", "info", "warning", "error", "critical")


class page(Command):
    """Serve the advisers' page: whom to contact, why, and what was done.

    Reads the output topics into a database of its own (RISK_PAGE_DATADIR). Runs beside any number of workers. On an
    address that others can reach (RISK_PAGE_BIND) it needs users: see `faust -A app page-user --help`.
    """

    options = (
        option(
            "--log-level",
            "-l",
            "level",
            type=click.Choice(_LEVELS, case_sensitive=False),
            default="info",
            show_default=True,
            help="What is logged.",
        ),
    )

    def main(self, *, level: str, **_: Any) -> int:
        """Serve it until SIGTERM or Ctrl-C."""
        settings: Settings = self.app.settings  # type: ignore[attr-defined]
        # the log in JSON tells processes apart by the host and the port of their pages
        settings = replace(settings, web_port=settings.page_port)
        # logs go to stderr, so there is no file to reopen; without this a closed terminal or a log rotation kills
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            serve(settings, level)
        except ConfigError as error:
            say(settings, str(error))
            return 1
        return 0
