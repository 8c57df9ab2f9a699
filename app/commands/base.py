"""Base class of all commands: they run without a worker, and print a ConfigError as one line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from faust.cli import AppCommand

from app.errors import ConfigError


class Command(AppCommand):
    """A command whose `main` does the work and returns the exit code."""

    abstract = True

    #: options and arguments, made with faust.cli
    options: Any = ()
    #: does the work and returns the exit code
    main: ClassVar[Callable[..., int]]

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run `main` and exit. SIGTERM ends the program as Ctrl-C does, so that child processes end too."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            code = self.main(**self.kwargs)
        except ConfigError as error:
            print(f"moodle-risk: {error}", file=sys.stderr)
            code = 1
        except KeyboardInterrupt:
            code = 130
        raise SystemExit(code)
