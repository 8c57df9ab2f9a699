"""Interfaces that the agents need: deliveries, a log, state partitions and counters.

`app/` implements these on Kafka and RocksDB, `tools/test_driver.py` in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from codec.dead_letters import DeadLetter
from codec.record_batch import Rows
from models.chunk import Chunk
from models.log_ids import Bitmaps
from models.position import Position
from models.rules import Int64s
from models.visits import StudentDictionary

#: destination of rows: topic, partition
Target: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A chunk, with the assignment in which it was fetched."""

    chunk: Chunk
    #: the consumer group's generation
    generation: int
    #: the partitions of the chunk's topic that this worker owns in that generation
    assigned: frozenset[int]
    #: whether another delivery has already arrived behind this one
    has_next: bool = False
    #: the number of partitions of the chunk's topic in that generation, 0: not known beyond `assigned`
    partitions: int = 0


class Agent(Protocol):
    """What Faust, or the test driver, runs on the deliveries of one topic."""

    async def run(self, deliveries: AsyncIterable[Delivery]) -> None:
        """Process deliveries until they end."""


class StatePartition(Protocol):
    """One partition of a state table, for one assignment; see app.state.partition.Partition."""

    @property
    def position(self) -> Position:
        """The source offsets up to which visits have been applied, and the watermarks at those offsets."""

    @property
    def next_offset(self) -> int:
        """`alert`: the offset of the first prediction that has not been read."""

    def load(self, students: StudentDictionary) -> Sequence[bytes | None]:
        """Return the state record of each student [u]; None for a student without one."""

    def log_ids(self, spans: Int64s) -> Bitmaps:
        """Return which log ids of each of `spans` [b] have been applied (models/log_ids.py)."""

    async def flush(
        self,
        rows: Mapping[Target, Rows],
        records: Mapping[bytes, bytes],
        position: Position | None = None,
        cached: tuple[StudentDictionary, Sequence[bytes]] | None = None,
        log_ids: Mapping[bytes, bytes] | None = None,
    ) -> bool:
        """Write output `rows`, state `records`, the `position` and records of `log_ids` in one transaction.

        cached: the students among the records, to keep in memory. Returns False, and writes nothing, if another
        worker owns the partition by now.
        """


class Log(Protocol):
    """The log the agents write to and acknowledge, and the state partitions this worker owns."""

    async def send_visits(self, visit_batches: Sequence[Sequence[bytes]]) -> None:
        """Write encoded visit batches to each of the visits partitions, in order; return when acknowledged."""

    async def send_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Write records that could not be used to the dead-letter topic; return when acknowledged."""

    async def processed(self, chunk: Chunk) -> None:
        """Mark a chunk as processed: all its results are written, so its offsets may be committed."""

    def pause(self, topic: str, partition: int, waits_for: str = "") -> None:
        """Stop fetching a partition; waits_for: for what, if that must arrive for the work to go on.

        Without it the partition waits for others, which have work to do.
        """

    def resume(self, topic: str, partition: int) -> None:
        """Fetch a partition again."""

    def students(self, partition: int) -> StatePartition | None:
        """Return the state of the students of a visits partition, None if another worker owns it now."""

    def alerts(self) -> StatePartition | None:
        """Return the state of `alert`, None if another worker owns it now."""


class Metrics(Protocol):
    """Counters by name, and by reason within a name; see app.ops.metrics.Metrics."""

    def add(self, name: str, number: int = 1, reason: str | None = None) -> None:
        """Count `number` of `name`."""

    def outcome(self, topic: str, used: int, refused: int, last: str = "") -> None:
        """Tell what became of a fetch of `topic`: records used and refused; last: the last of those, one line."""
