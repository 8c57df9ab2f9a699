"""Sources of the demo's log: a replay into Kafka, or a database followed by Debezium."""

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
from stack.supervisor import die_with_parent
from tools.e2e.connector import CONNECT, hosts, register
from tools.e2e.workers import ROOT, E2EError
from tools.replay.log_rows import LogRows, Texts
from tools.replay.sender import due_slices

#: rows of one INSERT: Debezium reads a transaction as a whole, and MariaDB accepts statements of up to 16 MB
ROWS = 5_000


class Source(Protocol):
    """Writes the log's rows to the source topic at the pace of the course."""

    #: number of rows committed in the database; None if there is no database
    committed: int | None

    async def run(self) -> None:
        """Return when the last row is written. Raises E2EError or stack.StackError."""


@dataclass
class Replay:
    """`faust -A app replay` in a process of its own, writing to the topic as Debezium would."""

    #: arguments of `faust -A app replay`
    arguments: list[str]
    variables: Mapping[str, str]
    log: Path
    committed: int | None = None

    async def run(self) -> None:
        """Run the replay; see Source."""
        with self.log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "faust", "-A", "app", "replay", *self.arguments),
                env={**os.environ, **self.variables},
                stdout=out,
                stderr=out,
                cwd=ROOT,
                preexec_fn=die_with_parent(os.getpid()),
            )
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                process.terminate()
                await process.wait()
                raise
        if code:
            raise E2EError(f"the replay exited with {code}:\n{self.log.read_text('utf-8', 'replace')[-500:]}")


@dataclass
class Database:
    """Rows inserted into Moodle's log table in MariaDB, from where Debezium brings them to the topic."""

    servers: stack.Environment
    rows: LogRows
    #: seconds of the log a second, 0: unlimited
    speed: float
    committed: int | None = 0

    async def run(self) -> None:
        """Register the connector, then insert the rows; see Source."""
        await asyncio.to_thread(mariadb.execute, self.servers.directory, CREATE)
        connector = CONNECT / "source-mariadb.json"
        await asyncio.to_thread(register, self.servers.connect, connector, hosts(self.servers))
        self.committed = 0
        async for start, stop in due_slices(self.rows.written, self.speed):
            for first in range(start, stop, ROWS):
                part = self.rows.take(slice(first, min(first + ROWS, stop)))
                await asyncio.to_thread(mariadb.execute, self.servers.directory, insert(part))
                self.committed += len(part)


#: Moodle's log table with the columns that the connector captures, as Moodle declares them
CREATE = f"""\
DROP TABLE IF EXISTS {mariadb.TABLE};
CREATE TABLE {mariadb.TABLE} (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, eventname VARCHAR(255) NOT NULL, \
userid BIGINT NOT NULL, courseid BIGINT, relateduserid BIGINT, anonymous TINYINT NOT NULL DEFAULT 0, \
timecreated BIGINT NOT NULL, origin VARCHAR(10), realuserid BIGINT);
"""


def insert(rows: LogRows) -> str:
    """Return the statement that inserts rows into the log table, with timecreated in milliseconds."""
    columns = {
        "id": rows.id.tolist(),
        "eventname": _quoted(Texts(rows.event, rows.names)),
        "userid": rows.userid.tolist(),
        "timecreated": rows.at.tolist(),
        **{name: column.tolist() for name, column in rows.more.items()},
    }
    if rows.origin is not None:
        columns["origin"] = _quoted(rows.origin)
    for name, mask in rows.nulls.items():
        columns[name] = ["NULL" if null else cell for cell, null in zip(columns[name], mask.tolist(), strict=True)]
    values = ",".join(f"({','.join(map(str, cells))})" for cells in zip(*columns.values(), strict=True))
    return f"INSERT INTO {mariadb.TABLE} ({', '.join(columns)}) VALUES {values};"


def _quoted(texts: Texts) -> list[str]:
    """Return the texts [n] as SQL."""
    names = np.array([f"'{name}'" for name in (n.replace("\\", "\\\\").replace("'", "''") for n in texts.names)])
    quoted: list[str] = names[texts.index].tolist()
    return quoted
