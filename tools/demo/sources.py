"""What brings a log into the source topic while the demo looks on: a replay, or a database that is followed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

import stack
from stack import mariadb
from stack.supervisor import dying_with
from tools.e2e import connector as chain
from tools.e2e.workers import ROOT, TrialError
from tools.replay.log_rows import LogRows
from tools.replay.sender import slices

#: rows of one INSERT: Debezium reads a transaction whole, and MariaDB takes a statement of 16 MB
ROWS = 5_000


class Feed(Protocol):
    """A way of the log's rows into the source topic, in the course's time."""

    #: rows the database has committed; None where there is no database
    committed: int | None

    async def run(self) -> None:
        """Return when the last row is written. Raises TrialError, stack.StackError."""


@dataclass
class Replay:
    """`faust -A app replay` in a process of its own, writing the topic as Debezium would."""

    #: after `faust -A app replay`
    arguments: list[str]
    variables: Mapping[str, str]
    log: Path
    committed: int | None = None

    async def run(self) -> None:
        """See Feed."""
        with self.log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "faust", "-A", "app", "replay", *self.arguments),
                env={**os.environ, **self.variables},
                stdout=out,
                stderr=out,
                cwd=ROOT,
                preexec_fn=dying_with(os.getpid()),
            )
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                process.terminate()
                await process.wait()
                raise
        if code:
            raise TrialError(f"the replay ended with {code}:\n{self.log.read_text('utf-8', 'replace')[-500:]}")


@dataclass
class Database:
    """Rows put into Moodle's log in MariaDB, which Debezium follows into the topic."""

    servers: stack.Environment
    rows: LogRows
    #: seconds of the log a second, 0: as fast as it goes
    speed: float
    committed: int | None = 0

    async def run(self) -> None:
        """See Feed. The connector is registered before the first row."""
        source = chain.CONNECT / "source-mariadb.json"
        await asyncio.to_thread(chain.register, self.servers.connect, source, chain.hosts(self.servers))
        self.committed = 0
        async for start, stop in slices(self.rows.written, self.speed):
            for first in range(start, stop, ROWS):
                part = self.rows.take(slice(first, min(first + ROWS, stop)))
                await asyncio.to_thread(mariadb.execute, self.servers.directory, insert(part))
                self.committed += len(part)


def insert(rows: LogRows) -> str:
    """The statement that puts rows of the log into the table; their times are milliseconds."""
    names = np.array([f"'{name}'" for name in (n.replace("\\", "\\\\").replace("'", "''") for n in rows.names)])
    cells = zip(rows.id.tolist(), names[rows.event].tolist(), rows.userid.tolist(), rows.at.tolist(), strict=True)
    values = ",".join(f"({i},{name},{student},{at})" for i, name, student, at in cells)
    return f"INSERT INTO {mariadb.TABLE} (id, eventname, userid, timecreated) VALUES {values};"
