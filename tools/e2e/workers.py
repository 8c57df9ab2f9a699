"""A worker as a process of its own, as a user would start it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stack.supervisor import dying_with

#: where `-A app` is found
ROOT = Path(__file__).parents[2]
#: how long a worker gets to end by itself after SIGTERM [s]
STOP_S = 15.0
#: pause between two looks at a worker [s]
_LOOK_S = 0.05


class TrialError(Exception):
    """What was tried did not come to its end; the text says what was seen."""


class Worker:
    """`faust -A app worker` with settings of its own, logging to a file."""

    def __init__(self, settings: Mapping[str, str], log: Path, *, level: str = "info") -> None:
        """settings: RISK_ variables, put over this process's environment."""
        self.port = int(settings.get("RISK_WEB_PORT", 0)) or free_port()
        self.log = log
        self._environment = {**os.environ, **settings, "RISK_WEB_PORT": str(self.port)}
        self._level = level
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.stop()

    def start(self) -> Worker:
        """Start the process; it is ready when `stats` has an answer without a problem."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", self._level],
                env=self._environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                preexec_fn=dying_with(os.getpid()),
            )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process. Raises TrialError if it was never started."""
        if self._process is None:
            raise TrialError("the worker was not started")
        return self._process

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stats(self) -> dict[str, Any] | None:
        """What /stats says; None while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (urllib.error.URLError, OSError, ValueError):
            return None

    def wait(self, done: Callable[[dict[str, Any]], bool], *, timeout: float) -> dict[str, Any]:
        """Look at /stats until `done` with it. Raises TrialError after `timeout` s, or if the worker ended."""
        until = time.monotonic() + timeout
        stats = None
        while time.monotonic() < until:
            if not self.running:
                raise TrialError(f"the worker ended with {self.process.returncode}:\n{self.tail()}")
            stats = self.stats()
            if stats is not None and done(stats):
                return stats
            time.sleep(_LOOK_S)
        raise TrialError(f"not done after {timeout:g} s; last seen: {stats}\n{self.tail()}")

    def wait_idle(self, *, timeout: float, events: int = 0) -> dict[str, Any]:
        """Wait until everything that is in the topics has been processed, and `events` at least.

        One look may fall between two hops: it counts only if two looks later nothing has changed.
        """
        first: dict[str, Any] = {}

        def settled(stats: dict[str, Any]) -> bool:
            if not is_idle(stats) or stats["counts"].get("events", 0) < events:
                first.clear()
            elif first.get("counts") != stats["counts"]:
                first.update(stats)
            return bool(first) and stats["lag_looks"] >= first["lag_looks"] + 2

        return self.wait(settled, timeout=timeout)

    def stop(self) -> int:
        """SIGTERM, and SIGKILL for one that does not obey; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL; the exit code."""
        self.process.kill()
        return self.process.wait()

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def is_idle(stats: Mapping[str, Any]) -> bool:
    """Whether a worker has nothing left to do, as far as it knows."""
    return stats["problem"] is None and bool(stats["lag"]) and not any(stats["lag"].values())


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
