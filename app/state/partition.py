"""One owned partition of a state table: its hot records, its front, and the one transaction a flush."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from aiokafka import AIOKafkaProducer

from agents.ports import Target
from app.kafka.producer import is_fenced, last_offset, new_producer, send_rows
from app.ops.failpoints import failpoints
from app.state.table import StateTable
from codec.record_batch import Rows, changelog_rows
from models import position as positions
from models import state
from models.murmur2 import keys_of
from models.position import Position
from models.state import NewerState, StateError
from models.visits import StudentDictionary

log = logging.getLogger(__name__)

#: most records kept in memory per partition; RocksDB holds the rest
HOT_RECORDS = 50_000
#: what to do about a record that is damaged
_REMEDY = (
    "delete RISK_DATADIR and start again, which reads topic %s anew; if that does not help the topic is damaged: "
    "set another RISK_APP_ID to begin anew"
)


class Partition:
    """State and output of one partition, for one assignment. Mutable; dropped as a whole, never repaired.

    A flush is one Kafka transaction of output rows, changelog records and the front; after its
    commit the same records go to RocksDB, and only then does memory follow.
    """

    def __init__(self, number: int, table: StateTable, producer: AIOKafkaProducer, sources: int) -> None:
        self.number = number
        self._table = table
        self._producer = producer
        self._sources = sources
        self._position: Position | None = None
        self._hot: dict[int | None, bytes] = {}
        self._busy = asyncio.Lock()
        self.closed = False

    @property
    def position(self) -> Position:
        """How far the log has been applied. Read from the store at the first batch, which is after recovery."""
        if self._position is None:
            raw = self.read(positions.KEY)
            with self._naming(positions.KEY):
                self._position = positions.unpack(raw, self._sources)
        return self._position

    @property
    def next_offset(self) -> int:
        """`alert`: the offset of the first prediction that has not been read."""
        raw = self.read(positions.NEXT_OFFSET_KEY)
        with self._naming(positions.NEXT_OFFSET_KEY):
            return positions.unpack_next_offset(raw)

    @property
    def loaded_position(self) -> Position | None:
        """The front if it has been needed yet: asking must not read it before recovery has brought it."""
        return self._position

    @property
    def known(self) -> int:
        """Number of records in memory."""
        return len(self._hot)

    def read(self, key: bytes) -> bytes | None:
        """One record from the store."""
        return self._table.read(self.number, [key])[0]

    def load(self, students: StudentDictionary) -> Sequence[bytes | None]:
        """The state record of each student [u]. Raises StateError for one that is damaged or too new."""
        codes = _codes(students)
        records = [self._hot.get(code) for code in codes]
        missing = [i for i, record in enumerate(records) if record is None]
        if missing:
            keys = keys_of(students.student[missing], students.null[missing])
            stored = self._table.read(self.number, keys)
            known = [i for i, record in enumerate(stored) if record is not None]
            with self._naming(*(keys[i] for i in known)):
                state.check([r for r in stored if r is not None], state.VERSION, "a state record")
            for i, record in zip(missing, stored, strict=True):
                records[i] = record
        return records

    @contextmanager
    def _naming(self, *keys: bytes) -> Iterator[None]:
        """Say of a record that cannot be read, one of those under `keys`, where it stands and what to do."""
        try:
            yield
        except StateError as error:
            topic, text = self._table.changelog, keys[error.index].decode("utf-8", "backslashreplace")
            remedy = "" if isinstance(error, NewerState) else f"; {_REMEDY % topic}"
            where = f"table {self._table.name} (topic {topic}) partition {self.number} key {text}"
            raise type(error)(f"{where}: {error}{remedy}") from None

    async def flush(
        self,
        rows: Mapping[Target, Rows],
        records: Mapping[bytes, bytes],
        position: Position | None = None,
        hot: tuple[StudentDictionary, Sequence[bytes]] | None = None,
    ) -> bool:
        """Write output `rows` and state `records` (with the `front`) in one transaction.

        hot: the students among the records, to remember. Returns False if the partition was lost to
        another worker: then nothing is written. Any other failure raises, and this object must not
        be used again: memory is where the last commit left it, but the log's answer is unknown.
        """
        async with self._busy:
            if self.closed:
                return False
            state = dict(records)
            if position is not None:
                state[positions.KEY] = positions.pack(position)
            try:
                offset = await self._commit(rows, state)
            except Exception as error:
                if not is_fenced(self._producer, error):
                    raise
                self.closed = True
                log.warning("%s-%d: another worker has taken over", self._table.changelog, self.number)
                return False
            self._table.write(self.number, state, offset)
            await failpoints.at("written")
            if hot is not None:
                self._remember(*hot)
            self._position = position or self._position
            return True

    async def _commit(self, rows: Mapping[Target, Rows], state: Mapping[bytes, bytes]) -> int:
        await self._producer.begin_transaction()
        await failpoints.at("begun")
        sent = []
        for (topic, partition), some in rows.items():
            sent += await send_rows(self._producer, topic, partition, some)
        changes = changelog_rows(state, time.time_ns() // 1_000_000)
        logged = await send_rows(self._producer, self._table.changelog, self.number, changes)
        offset = await last_offset(sent + logged)
        await failpoints.at("sent")
        await self._producer.commit_transaction()
        await failpoints.at("committed")
        return offset

    def _remember(self, students: StudentDictionary, records: Sequence[bytes]) -> None:
        if len(self._hot) + len(records) > HOT_RECORDS:
            self._hot.clear()
        self._hot.update(zip(_codes(students), records, strict=True))

    async def close(self) -> None:
        """Wait for a flush under way, then refuse all further ones."""
        async with self._busy:
            self.closed = True
        await self._producer.stop()


def _codes(students: StudentDictionary) -> list[int | None]:
    codes: list[int | None] = students.student.tolist()
    if len(codes) and students.null[-1]:
        codes[-1] = None
    return codes


class OwnedPartitions:
    """The partitions of one table that this worker owns now."""

    def __init__(self, table: StateTable, brokers: Sequence[str], transactional_id: str, sources: int) -> None:
        self._table = table
        self._brokers = brokers
        self._transactional_id = transactional_id
        self._sources = sources
        self._partitions: dict[int, Partition] = {}

    def get(self, number: int) -> Partition | None:
        """The partition, unless it is another worker's by now."""
        found = self._partitions.get(number)
        return None if found is None or found.closed else found

    def all(self) -> Iterable[Partition]:
        """All partitions owned now."""
        return self._partitions.values()

    async def renew(self, numbers: set[int], generation: int) -> None:
        """Own `numbers` from now on: drop all memory, and fence whoever owned them before.

        Starting a transactional producer aborts the transaction its predecessor left open, so this
        must happen before anybody asks for the end of the changelog.
        """
        await self.release()
        log.info("%s: taking over partitions %s (generation %d)", self._table.changelog, sorted(numbers), generation)
        opened = await asyncio.gather(*(self._open(n) for n in sorted(numbers)))
        self._partitions = {p.number: p for p in opened}
        await failpoints.at("owned")

    async def release(self) -> None:
        """Let flushes under way finish, and own nothing."""
        partitions, self._partitions = self._partitions, {}
        await asyncio.gather(*(p.close() for p in partitions.values()))

    async def _open(self, number: int) -> Partition:
        producer = new_producer(self._brokers, transactional_id=f"{self._transactional_id}-{number}")
        await producer.start()
        return Partition(number, self._table, producer, self._sources)
