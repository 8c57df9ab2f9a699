"""Places in a flush where a worker can be made to die, stop or hang: for `chaos` and the tests.

MOODLE_RISK_FAULT=kill@sent:3 kills the worker with SIGKILL when it is for the third time between the
sending of a transaction and its commit. Without the variable nothing here does anything.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Mapping

from app.errors import ConfigError

#: not a setting: no user wants it
VARIABLE = "MOODLE_RISK_FAULT"
#: point → where it is; ARCHITECTURE.md, "The flush", has the order
POINTS: Mapping[str, str] = {
    "owned": "former owners are fenced, the changelog is not read yet",
    "framed": "frames are acknowledged, their source chunks do not count as processed yet",
    "begun": "a transaction has begun, nothing is sent",
    "sent": "all rows and records are acknowledged, the transaction is not committed",
    "committed": "the transaction is committed, RocksDB knows nothing of it",
    "written": "RocksDB is written, memory and ledger know nothing of it",
    "processed": "the chunk counts as processed, the group has not committed that",
}
#: what happens there
ACTIONS = ("kill", "stop", "hang", "block", "fail")


class Failpoints:
    """What was asked for, and how often its place was passed. Mutable."""

    def __init__(self) -> None:
        self._action, self._point, self._left = "", "", 0

    def arm(self, environ: Mapping[str, str]) -> None:
        """Read the wish, ACTION@POINT:COUNT or nothing. Raises ConfigError for another text."""
        if wish := environ.get(VARIABLE, ""):
            found = re.fullmatch(r"(\w+)@(\w+):([1-9]\d*)", wish)
            if not found or found[1] not in ACTIONS or found[2] not in POINTS:
                known = f"{'|'.join(ACTIONS)}@{'|'.join(POINTS)}:COUNT"
                raise ConfigError(f"{VARIABLE}: {wish!r} is not {known}")
            self._action, self._point, self._left = found[1], found[2], int(found[3])

    async def at(self, point: str) -> None:
        """Called wherever POINTS says; does what was asked for the last time it counts down, then never again."""
        if point != self._point:
            return
        self._left -= 1
        if self._left == 0:
            await self._happen()

    async def _happen(self) -> None:
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)  # until somebody sends SIGCONT
        elif self._action == "hang":
            await asyncio.Event().wait()
        elif self._action == "block":
            time.sleep(3600)  # so that the event loop does not turn
        else:
            raise RuntimeError(f"{VARIABLE} says so")


#: this process's; app/worker.py arms them
failpoints = Failpoints()
