"""Failpoints: steps of a flush at which a worker can be made to die, stop or hang, for `chaos` and the tests.

MOODLE_RISK_FAULT=kill@sent:3 kills the worker with SIGKILL the third time it is between sending a transaction and
committing it. Without the variable the failpoints do nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Mapping

from app.errors import ConfigError

#: deliberately no RISK_ setting: only tests want it
VARIABLE = "MOODLE_RISK_FAULT"
#: failpoint → the state of the flush there; ARCHITECTURE.md, "The flush", has the order
POINTS: Mapping[str, str] = {
    "owned": "former owners are fenced, the changelog is not read yet",
    "framed": "visit batches are acknowledged, their source chunks do not count as processed yet",
    "begun": "a transaction has begun, nothing is sent",
    "sent": "all rows and records are acknowledged, the transaction is not committed",
    "committed": "the transaction is committed, RocksDB knows nothing of it",
    "written": "RocksDB is written, memory and ledger know nothing of it",
    "processed": "the chunk counts as processed, the group has not committed that",
}
#: what a failpoint can do
ACTIONS = ("kill", "stop", "hang", "block", "fail")


class Failpoints:
    """The failpoint that is armed, if any, and how often it has yet to be passed. Mutable."""

    def __init__(self) -> None:
        self._action, self._point, self._left = "", "", 0

    def arm(self, environ: Mapping[str, str]) -> None:
        """Arm what the variable says: ACTION@POINT:COUNT, or nothing. Raises ConfigError for any other text."""
        if text := environ.get(VARIABLE, ""):
            match = re.fullmatch(r"(\w+)@(\w+):([1-9]\d*)", text)
            if not match or match[1] not in ACTIONS or match[2] not in POINTS:
                known = f"{'|'.join(ACTIONS)}@{'|'.join(POINTS)}:COUNT"
                raise ConfigError(f"{VARIABLE}: {text!r} is not {known}")
            self._action, self._point, self._left = match[1], match[2], int(match[3])

    async def at(self, point: str) -> None:
        """Pass a failpoint: the COUNTth time the armed one is passed, act; never again after that."""
        if point != self._point:
            return
        self._left -= 1
        if self._left == 0:
            await self._act()

    async def _act(self) -> None:
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)  # until somebody sends SIGCONT
        elif self._action == "hang":
            await asyncio.Event().wait()
        elif self._action == "block":
            time.sleep(3600)  # blocks the event loop
        else:
            raise RuntimeError(f"{VARIABLE} says so")


#: those of this process; app/worker.py arms them
failpoints = Failpoints()
