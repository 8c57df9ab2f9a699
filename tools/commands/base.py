"""What the commands share: no worker around them, and one line for what a person must mend."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from faust.cli import AppCommand

from app.errors import ConfigError


class Command(AppCommand):
    """A command that just runs: `main` returns the exit code."""

    abstract = True

    #: faust.cli's options and arguments
    options: Any = ()
    #: does it, and returns the exit code
    main: ClassVar[Callable[..., int]]

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, and end the program; SIGTERM ends it as Ctrl-C does, so that nothing is left running."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            code = self.main(**self.kwargs)
        except ConfigError as error:
            print(f"moodle-risk: {error}", file=sys.stderr)
            code = 1
        except KeyboardInterrupt:
            code = 130
        raise SystemExit(code)
