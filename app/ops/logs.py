"""The log: lines for people, or one JSON object for each event (RISK_LOG_FORMAT=json)."""

from __future__ import annotations

import faulthandler
import json
import logging
import logging.config
import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from app.settings import Settings

#: file descriptor
STDERR = 2
#: upper bound for the stacks of all threads: what a pipe holds on Linux [bytes]
_STACKS_BYTES = 1 << 16
log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """Formats an event as one line: a JSON object with ts, level, logger, message, app and worker.

    Events with an error also have `exception`: its traceback as one string. Whatever else libraries attach to an
    event is left out.
    """

    def __init__(self, app: str, worker: str) -> None:
        """app: RISK_APP_ID; worker: host name and web port, which differ between the workers of one app."""
        super().__init__()
        self._identity = {"app": app, "worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of an event, without a line end."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit: logging would write a traceback
            message = str(record.msg)
        errors = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            errors.append(self.formatStack(record.stack_info))
        return self.line(record.levelname, record.name, message, "\n".join(errors), record.created)

    def line(self, level: str, logger: str, message: str, exception: str = "", at_s: float | None = None) -> str:
        """Return a line of an event at `at_s` [epoch s], by default now. Takes no lock of the logging module."""
        at = datetime.fromtimestamp(time.time() if at_s is None else at_s, UTC)
        event = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level.lower(),
            "logger": logger,
            "message": message.strip("\n"),
            **({"exception": exception} if exception else {}),
            **self._identity,
        }
        # bytes that are no UTF-8 arrive as lone surrogates, which strict parsers refuse
        return json.dumps({name: text.encode("utf-8", "backslashreplace").decode() for name, text in event.items()})


def formatter(settings: Settings) -> JsonLines | None:
    """Return the formatter of JSON lines; None if lines are for people."""
    if settings.log_format != "json":
        return None
    return JsonLines(settings.app_id, f"{socket.gethostname()}:{settings.web_port}")


def say(settings: Settings, message: str, exception: str = "") -> None:
    """Write a line of the program itself to stderr: `moodle-risk: MESSAGE`, after the text `exception` if any.

    Writes to the file descriptor, and takes no lock: Faust has replaced sys.stderr by a logger, and the thread that
    holds the logger's lock may be the one that is stuck.
    """
    lines = formatter(settings)
    if lines is None:
        text = f"{exception}moodle-risk: {message}"
    else:
        text = lines.line("critical", "moodle-risk", message, exception)
    os.write(STDERR, f"{text}\n".encode("utf-8", "backslashreplace"))


def config(settings: Settings, level: str | int, file: object = None) -> dict[str, Any] | None:
    """Return the configuration of the logging module, for logging.config.dictConfig; None: as Faust does it.

    file: name of the file to write to; anything else: stderr.
    """
    lines = formatter(settings)
    if lines is None:
        return None
    level = level.upper() if isinstance(level, str) else level
    where = {"class": "logging.StreamHandler", "stream": sys.stderr}
    if isinstance(file, str):
        where = {"class": "logging.FileHandler", "filename": file}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": lambda: lines}},
        "handlers": {"default": {**where, "level": level, "formatter": "json"}},
        "root": {"level": level, "handlers": ["default"]},
    }


def log_uncaught_errors() -> None:
    """Log what Python itself would write to stderr: uncaught and ignored errors, and warnings."""
    logging.captureWarnings(True)

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("%s", kind.__name__, exc_info=(kind, error, trace))

    def ignored(event: Any) -> None:
        text = event.err_msg or "an error was ignored"
        log.error("%s", text, exc_info=(event.exc_type, event.exc_value or event.exc_type(), event.exc_traceback))

    def in_thread(event: threading.ExceptHookArgs) -> None:
        if event.exc_type is not SystemExit:
            uncaught(event.exc_type, event.exc_value or event.exc_type(), event.exc_traceback)

    sys.excepthook, sys.unraisablehook, threading.excepthook = uncaught, ignored, in_thread


def stacks() -> str:
    """Return the stacks of all threads, without the values of variables, which may be secret or personal.

    Takes no lock. As long as fits the buffer of a pipe, which faulthandler can write to at any time.
    """
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        faulthandler.dump_traceback(writer)
        return os.read(reader, _STACKS_BYTES).decode("utf-8", "replace")
    finally:
        os.close(reader)
        os.close(writer)
