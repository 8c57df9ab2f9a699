"""The advisers' page as a process of its own, started as a user starts it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tools.e2e.programs import E2EError, Program, free_port

#: polling interval of /health [s]
_POLL_S = 0.1


class Page(Program):
    """`faust -A app page` with its own settings, logging to a file."""

    name = "page"

    def __init__(self, settings: Mapping[str, str], log: Path) -> None:
        """settings: RISK_ variables, which override this process's environment."""
        self.port = int(settings.get("RISK_PAGE_PORT", 0)) or free_port()
        super().__init__(["page"], {**settings, "RISK_PAGE_PORT": str(self.port)}, log)

    @property
    def url(self) -> str:
        """The address of the list of students."""
        return f"http://127.0.0.1:{self.port}/"

    def health(self) -> dict[str, Any]:
        """Return the content of /health; empty if there is no complete answer."""
        try:
            answer: dict[str, Any] = httpx.get(f"{self.url}health", trust_env=False, timeout=5.0).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return answer

    def wait(self, *, timeout: float, state: str = "live") -> None:
        """Wait until the page is in a state: loading (it answers), or live (it has read its topics).

        Raises E2EError after `timeout` s, or when the process exits.
        """
        deadline = time.monotonic() + timeout
        wanted = {"loading": {"loading", "live"}, "live": {"live"}}[state]
        while (health := self.health()).get("state") not in wanted:
            self.require_running()
            if time.monotonic() > deadline:
                raise E2EError(f"the page is not {state} after {timeout:g} s: {health}\n{self.tail()}")
            time.sleep(_POLL_S)
