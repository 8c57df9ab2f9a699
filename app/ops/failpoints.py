"""Failpoints: steps of a flush at which `chaos` and the tests make a worker die, stop, hang or fail.

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

#: deliberately not a RISK_ setting: only tests use it
VARIABLE = "MOODLE_RISK_FAULT"
#: failpoint → the state of the flush there; ARCHITECTURE.md, "The flush", has the order
POINTS: dict[str, str] = {
    "owned": "former owners are fenced, the changelog is not read yet",
    "framed": "visit batches are acknowledged, their source chunks are not marked as processed yet",
    "begun": "the transaction has begun, nothing is sent yet",
    "sent": "all rows and records are acknowledged, the transaction is not committed yet",
    "committed": "the transaction is committed, RocksDB is not written yet",
    "written": "RocksDB is written, memory and ledger are not updated yet",
    "summed": "the cohort sums of a tick are written, its scores are not yet",
    "scored": "the scores of a tick are written",
    "processed": "the chunk is marked as processed, its offset is not committed yet",
}
#: the same of `faust -A app grow`; app/ops/grow.py has the order
GROW_POINTS: dict[str, str] = {
    "rewound": "the offsets of the even positions are committed",
    "created": "partitions are added to the visits topic (1), to the changelog too (2)",
    "moving": "the records of one partition's students are sent",
    "moved": "all is sent, the transaction is not committed yet",
    "divided": "the transaction is committed",
}
#: the same of a worker that forgets students
FORGET_POINTS: dict[str, str] = {
    "forgotten": "the students are forgotten, the request is not marked as processed yet",
}
#: what a failpoint can do
ACTIONS = ("kill", "stop", "hang", "block", "fail")


class Failpoints:
    """The armed failpoint, if any, and how many more passes it takes to trigger. Mutable."""

    def __init__(self) -> None:
        self._action, self._point, self._left = "", "", 0

    def arm(self, environ: Mapping[str, str]) -> None:
        """Arm the failpoint ACTION@POINT:COUNT of the variable, if set. Raises ConfigError if it is malformed."""
        if text := environ.get(VARIABLE, ""):
            match = re.fullmatch(r"(\w+)@(\w+):([1-9]\d*)", text)
            points = POINTS | GROW_POINTS | FORGET_POINTS
            if not match or match[1] not in ACTIONS or match[2] not in points:
                known = f"{'|'.join(ACTIONS)}@{'|'.join(points)}:COUNT"
                raise ConfigError(f"{VARIABLE}: {text!r} is not {known}")
            self._action, self._point, self._left = match[1], match[2], int(match[3])

    async def at(self, point: str) -> None:
        """Pass a failpoint; the COUNTth pass of the armed one triggers its action, once."""
        if point != self._point:
            return
        self._left -= 1
        if self._left == 0:
            await self._act()

    async def _act(self) -> None:
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)  # until SIGCONT
        elif self._action == "hang":
            await asyncio.Event().wait()
        elif self._action == "block":
            time.sleep(3600)  # blocks the event loop
        else:
            raise RuntimeError(f"requested by {VARIABLE}")


#: the failpoints of this process; app/worker.py arms them
failpoints = Failpoints()
