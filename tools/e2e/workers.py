"""Workers as processes of their own, started as a user starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from stack.supervisor import die_with_parent

#: repository root, where `-A app` is importable
ROOT = Path(__file__).parents[2]
#: time a worker has to exit after SIGTERM before it is killed [s]
STOP_S = 15.0
#: polling interval of /stats [s]; a request costs the worker a millisecond or two of CPU
_POLL_S = 0.1
#: timeout of a request to /stats [s]
_REQUEST_S = 5.0


class E2EError(Exception):
    """An end-to-end run that did not complete; the message says what was observed."""


class Worker:
    """`faust -A app worker` with its own settings, logging to a file."""

    #: argument of `faust -A`
    module = "app"

    def __init__(self, settings: Mapping[str, str], log: Path, *, level: str = "info") -> None:
        """settings: RISK_ variables, which override this process's environment."""
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
        """Start the process; it is ready once `stats` returns an answer without a problem."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faust", "-A", self.module, "worker", "-l", self._level],
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
            raise E2EError("the worker was not started")
        return self._process

    @property
    def running(self) -> bool:
        """Whether the process was started and has not exited."""
        return self._process is not None and self._process.poll() is None

    def stats(self) -> dict[str, Any] | None:
        """Return the content of /stats, or None if there is no complete answer."""
        try:
            response = _http().get(f"http://127.0.0.1:{self.port}/stats").raise_for_status()
            stats: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError):
            return None
        return stats

    def wait(self, done: Callable[[dict[str, Any]], bool], *, timeout: float) -> dict[str, Any]:
        """Poll /stats until `done` accepts it, and return it.

        Raises E2EError after `timeout` s, or when the worker exits.
        """
        deadline = time.monotonic() + timeout
        stats = None
        while time.monotonic() < deadline:
            if not self.running:
                raise E2EError(f"the worker exited with {self.process.returncode}:\n{self.tail()}")
            stats = self.stats()
            if stats is not None and done(stats):
                return stats
            time.sleep(_POLL_S)
        raise E2EError(f"condition not reached within {timeout:g} s; last /stats: {stats}\n{self.tail()}")

    def wait_idle(self, *, timeout: float, events: int = 0) -> dict[str, Any]:
        """Wait until the worker has processed everything in its topics, and at least `events` events.

        A single measurement of lag may fall between two hops, so the counts must still be the same two measurements
        later.
        """
        first: dict[str, Any] = {}

        def stable(stats: dict[str, Any]) -> bool:
            if not is_idle(stats) or stats["counts"].get("events", 0) < events:
                first.clear()
            elif first.get("counts") != stats["counts"]:
                first.update(stats)
            return bool(first) and stats["lag_looks"] >= first["lag_looks"] + 2

        return self.wait(stable, timeout=timeout)

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


@cache
def _http() -> httpx.Client:
    """Return a client that ignores proxies and keeps no connection open, since workers come and go."""
    return httpx.Client(trust_env=False, timeout=_REQUEST_S, limits=httpx.Limits(max_keepalive_connections=0))


def is_idle(stats: Mapping[str, Any], *, but: str | None = None) -> bool:
    """Whether a worker reports no problem, except perhaps the problem `but`, and no lag."""
    return stats["problem"] in (None, but) and bool(stats["lag"]) and not any(stats["lag"].values())


def free_port() -> int:
    """Return a TCP port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
