"""State tables: records of bytes in RocksDB and in Faust's changelog, read and written in bulk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import faust
import rocksdict
from faust.types import TP

from app.state.store import Store
from models.chunk import Chunk

#: called with the partitions a worker owns from now on, before their changelog is read
OnOwned = Callable[[set[int], int], Awaitable[None]]


class StateTable(faust.Table[bytes, bytes]):
    """A table whose records only `app.state.partition` writes, a whole flush at a time.

    Faust assigns its partitions, keeps its changelog and recovers it; a changelog message is a chunk.
    """

    #: set by the topology
    on_owned: OnOwned | None = None

    @property
    def changelog(self) -> str:
        """Name of the changelog topic."""
        return str(self.changelog_topic.get_topic_name())

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Fence the former owners first: a transaction left open would hide the changelog's end."""
        if self.on_owned is not None:
            mine = {tp.partition for tp in self.app.assignor.assigned_actives() if tp.topic == self.changelog}
            await self.on_owned(mine, generation_id)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Write what was read from the changelog (events of chunks) to the store."""
        for event in batch:
            chunk: Chunk = event.message.value
            records = dict(zip(chunk.keys, chunk.values, strict=True))
            self.write(chunk.partition, records, chunk.next_offset - 1)

    async def on_changelog_event(self, event: Any) -> None:
        """Nothing to do for single events: whole chunks are applied above."""

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The records under `keys` [k] of one partition; None where there is none. Raises Damaged."""
        if self._in_memory:
            return [self._memory(partition).get(key) for key in keys]
        try:
            return cast("list[bytes | None]", self._database(partition).get(list(keys)))
        except Exception as error:  # rocksdict raises nothing else
            self._files.fail(partition, error)

    def write(self, partition: int, records: Mapping[Any, bytes | None], offset: int) -> None:
        """Write records of one partition, and that they stand in the changelog up to `offset`, at once.

        Raises Damaged.
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
            self._database(partition).write(batch)
        except Exception as error:  # rocksdict raises nothing else
            self._files.fail(partition, error)

    @property
    def _in_memory(self) -> bool:
        return not isinstance(self.data, Store)

    @property
    def _files(self) -> Store:
        assert isinstance(self.data, Store)
        return self.data

    def _database(self, partition: int) -> rocksdict.Rdict:
        return cast(rocksdict.Rdict, self._files._db_for_partition(partition))

    def _memory(self, partition: int) -> dict[bytes, bytes | None]:
        memory: dict[bytes, bytes | None] = cast(Any, self.data).data.setdefault(partition, {})
        return memory
