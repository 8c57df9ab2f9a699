"""Programs of the app as processes of their own, started as a user starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from stack.ports import any_free
from stack.supervisor import die_with_parent

#: repository root, where `-A app` is importable
ROOT = Path(__file__).parents[2]
#: time a program has to exit after SIGTERM before it is killed [s]
STOP_S = 15.0


class E2EError(Exception):
    """An end-to-end run that did not complete; the message says what was observed."""


class Program:
    """`faust -A app …` with its own settings, logging to a file."""

    #: argument of `faust -A`
    module = "app"
    #: module that runs `faust`, which is then its first argument; empty: Python itself
    runner: tuple[str, ...] = ()
    #: what messages call it
    name = "program"

    def __init__(self, arguments: list[str], settings: Mapping[str, str], log: Path) -> None:
        """arguments: of `faust -A app`; settings: RISK_ variables, which override this process's environment."""
        self.log = log
        self._arguments = arguments
        self._environment = {**os.environ, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.stop()

    def start(self) -> Self:
        """Start the process."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.runner, "faust", "-A", self.module, *self._arguments],
                env=self._environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                preexec_fn=die_with_parent(os.getpid()),
            )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process. Raises E2EError if it was never started."""
        if self._process is None:
            raise E2EError(f"the {self.name} was not started")
        return self._process

    @property
    def running(self) -> bool:
        """Whether the process was started and has not exited."""
        return self._process is not None and self._process.poll() is None

    def require_running(self) -> None:
        """Raise E2EError, with the end of the log, if the process has exited."""
        if not self.running:
            raise E2EError(f"the {self.name} exited with {self.process.returncode}:\n{self.tail()}")

    def stop(self) -> int:
        """Send SIGTERM, then SIGKILL if the process has not exited after STOP_S. Return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Send SIGKILL. Return the exit code."""
        self.process.kill()
        return self.process.wait()

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def free_port() -> int:
    """Return a TCP port that is free at the moment, for a program that listens later, or again after it was killed.

    It is none of those that the kernel chooses: by then it might be that of somebody's outgoing connection.
    """
    return any_free()
