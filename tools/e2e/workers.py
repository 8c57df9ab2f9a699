"""Workers as processes of their own, started as a user starts them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from app.state.place import web_file
from tools.e2e.programs import ROOT, STOP_S, E2EError, Program, free_port

__all__ = ["ROOT", "STOP_S", "E2EError", "Worker", "free_port", "is_idle"]

#: polling interval of /stats [s]; a request costs the worker a millisecond or two of CPU
_POLL_S = 0.1
#: timeout of a request to /stats [s]
_REQUEST_S = 5.0


class Worker(Program):
    """`faust -A app worker` with its own settings, logging to a file. It is ready once `stats` has no problem."""

    name = "worker"

    def __init__(self, settings: Mapping[str, str], log: Path, *, level: str = "info") -> None:
        """settings: RISK_ variables, which override this process's environment; a free port if they have none."""
        self.settings = {"RISK_WEB_PORT": str(free_port()), **settings}
        super().__init__(["worker", "-l", level], self.settings, log)

    @property
    def port(self) -> int:
        """The port of the pages. With RISK_WEB_PORT=0 raises E2EError until the worker has taken one."""
        if self.settings["RISK_WEB_PORT"] != "0":
            return int(self.settings["RISK_WEB_PORT"])
        target = json.loads(web_file(Path(self.settings["RISK_DATADIR"]), self.place).read_text("utf-8"))[0]["targets"][
            0
        ]
        return int(target.rpartition(":")[2])

    @property
    def place(self) -> int:
        """The number of its place. Raises E2EError until the worker has one."""
        for lock in Path(self.settings["RISK_DATADIR"]).glob("*/lock"):
            if lock.read_text().split()[:1] == [str(self.process.pid)]:
                return int(lock.parent.name)
        raise E2EError("the worker has no place yet")

    def stats(self) -> dict[str, Any] | None:
        """Return the content of /stats, or None if there is no complete answer."""
        try:
            response = _http().get(f"http://127.0.0.1:{self.port}/stats").raise_for_status()
            stats: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError, E2EError, FileNotFoundError):
            return None
        return stats

    def wait(self, done: Callable[[dict[str, Any]], bool], *, timeout: float) -> dict[str, Any]:
        """Poll /stats until `done` accepts it, and return it.

        Raises E2EError after `timeout` s, or when the worker exits.
        """
        deadline = time.monotonic() + timeout
        stats = None
        while time.monotonic() < deadline:
            self.require_running()
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


@cache
def _http() -> httpx.Client:
    """Return a client that ignores proxies and keeps no connection open, since workers come and go."""
    return httpx.Client(trust_env=False, timeout=_REQUEST_S, limits=httpx.Limits(max_keepalive_connections=0))


def is_idle(stats: Mapping[str, Any], *, but: str | None = None) -> bool:
    """Whether a worker reports no problem, except perhaps the problem `but`, and no lag."""
    return stats["problem"] in (None, but) and bool(stats["lag"]) and not any(stats["lag"].values())
