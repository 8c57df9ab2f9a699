"""State tables: records of bytes in RocksDB and in Faust's changelog, read and written in batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import faust
import rocksdict
from faust.types import TP

from app.errors import MissingRecords
from app.ops.metrics import FlushHistograms
from app.state.store import Store
from models.chunk import Chunk

#: called with the partitions and the generation of a new assignment, before the changelog is read
OnOwned = Callable[[set[int], int], Awaitable[None]]


class StateTable(faust.Table[bytes, bytes]):
    """A table whose records only `app.state.partition` writes, one flush at a time.

    Faust assigns its partitions and recovers it from its changelog, whose messages are chunks.
    """

    #: set by the topology
    on_owned: OnOwned | None = None

    @property
    def changelog(self) -> str:
        """Name of the changelog topic."""
        return str(self.changelog_topic.get_topic_name())

    @property
    def flushes(self) -> FlushHistograms:
        """Histograms of the flushes of this table's partitions."""
        histograms: FlushHistograms = cast(Any, self.app).metrics.flushes(self.name)
        return histograms

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Fence the former owners before recovery: an open transaction would hide the changelog's end."""
        if self.on_owned is not None:
            owned = {tp.partition for tp in self.app.assignor.assigned_actives() if tp.topic == self.changelog}
            await self.on_owned(owned, generation_id)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Write chunks of the changelog to the store."""
        for event in batch:
            chunk: Chunk = event.message.value.chunk
            if unreadable := chunk.unreadable("the state is incomplete without it"):
                raise MissingRecords(unreadable)
            records = dict(zip(chunk.keys, chunk.values, strict=True))
            self.write(chunk.partition, records, chunk.next_offset - 1)

    async def on_changelog_event(self, event: Any) -> None:
        """No-op: `apply_changelog_batch` writes whole chunks."""

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the records under `keys` [k] of one partition, None for a missing one. Raises DamagedDatabase."""
        if self._in_memory:
            return [self._memory(partition).get(key) for key in keys]
        try:
            return cast("list[bytes | None]", self._rocksdb.database(partition).get(list(keys)))
        except Exception as error:  # rocksdict raises no subclass
            self._rocksdb.fail(partition, error)

    def scan(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the records of one partition whose keys begin with `prefix`, by ascending key. Raises DamagedDatabase.

        No record may be written in the meantime.
        """
        if self._in_memory:
            records = self._memory(partition)
            yield from ((k, v) for k, v in sorted(records.items()) if k.startswith(prefix) and v is not None)
            return
        try:
            for key, value in cast(Any, self._rocksdb.database(partition)).items(from_key=prefix):
                if not key.startswith(prefix):
                    return
                yield key, value
        except Exception as error:  # rocksdict raises no subclass
            self._rocksdb.fail(partition, error)

    def write(self, partition: int, records: Mapping[Any, bytes | None], offset: int) -> None:
        """Write records of one partition, and the changelog offset they reach, atomically.

        Raises DamagedDatabase.
        """
        if self._in_memory:
            self._memory(partition).update(records)
            return
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in records.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(Store.offset_key, b"%d" % offset)
        try:
            self._rocksdb.database(partition).write(batch)
        except Exception as error:  # rocksdict raises no subclass
            self._rocksdb.fail(partition, error)

    @property
    def _in_memory(self) -> bool:
        return not isinstance(self.data, Store)

    @property
    def _rocksdb(self) -> Store:
        assert isinstance(self.data, Store)
        return self.data

    def _memory(self, partition: int) -> dict[bytes, bytes | None]:
        memory: dict[bytes, bytes | None] = cast(Any, self.data).data.setdefault(partition, {})
        return memory
