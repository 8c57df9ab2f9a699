"""The store of one partition of a state table."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from app.state.table import StateTable
from app.state.writes import Records
from models.state import NewerState, StateError

#: maximum number of records written without another thread
_WRITTEN_AT_ONCE = 5_000
#: what to do about a damaged record
_REMEDY = (
    "delete RISK_DATADIR and start again, which reads topic %s from its beginning; if that does not help the topic is "
    "damaged: set another RISK_APP_ID to start over"
)


class PartitionStore:
    """Reads and writes the records of one partition of a table. Its methods raise DamagedDatabase."""

    def __init__(self, table: StateTable, number: int) -> None:
        self._table, self._number = table, number

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the records under `keys` [k], None for a missing one."""
        return self._table.read(self._number, keys)

    def scan(self, prefix: bytes, number: int) -> Iterator[tuple[Sequence[bytes], Sequence[bytes]]]:
        """Yield keys and values of all records whose keys begin with `prefix`, up to `number` at a time, by key.

        No record may be written in the meantime.
        """
        records = self._table.scan(self._number, prefix)
        while some := list(islice(records, number)):
            yield [key for key, _ in some], [value for _, value in some]

    async def write(self, records: Records, offset: int) -> None:
        """Write records, and the changelog offset they reach; many in another thread: the event loop is not held."""
        if len(records) <= _WRITTEN_AT_ONCE:
            self._table.write(self._number, records, offset)
        else:
            writing = asyncio.ensure_future(asyncio.to_thread(self._table.write, self._number, records, offset))
            try:
                await asyncio.shield(writing)
            finally:
                await writing  # if cancelled too: nothing may be written after the partition was given up

    @contextmanager
    def locating_errors(self) -> Iterator[None]:
        """Add table, topic, partition and remedy to a StateError; not the key, which may be a student's id."""
        try:
            yield
        except StateError as error:
            topic = self._table.changelog
            remedy = "" if isinstance(error, NewerState) else f"; {_REMEDY % topic}"
            where = f"table {self._table.name} (topic {topic}) partition {self._number}"
            raise type(error)(f"{where}: {error}{remedy}") from None
