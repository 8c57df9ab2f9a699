"""Base class of the commands: no worker around them, and one line for errors that the user can correct."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from faust.cli import AppCommand

from app.errors import ConfigError


class Command(AppCommand):
    """A command whose `main` returns the exit code."""

    abstract = True

    #: options and arguments of faust.cli
    options: Any = ()
    #: run the command and return the exit code
    main: ClassVar[Callable[..., int]]

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command and exit. SIGTERM unwinds the stack as Ctrl-C does, so that no child is left running."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            code = self.main(**self.kwargs)
        except ConfigError as error:
            print(f"moodle-risk: {error}", file=sys.stderr)
            code = 1
        except KeyboardInterrupt:
            code = 130
        raise SystemExit(code)
