"""Interfaces that the agents need: deliveries, a log, state partitions and counters.

`app/` implements these on Kafka and RocksDB, `tools/test_driver.py` in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from codec.dead_letters import DeadLetter
from codec.record_batch import Rows
from models.activity_records import Packed
from models.chunk import Chunk
from models.cohorts import Cohorts
from models.forgotten import Forgotten
from models.log_ids import Bitmaps
from models.position import Position
from models.rules import Int64s
from models.ticks import Ticks
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
    def number(self) -> int:
        """The number of the partition."""

    @property
    def generation(self) -> int:
        """The consumer group's generation in which the worker took the partition over."""

    @property
    def position(self) -> Position:
        """The source offsets up to which visits have been applied, and the watermarks at those offsets."""

    @property
    def next_offset(self) -> int:
        """`alert`: the offset of the first prediction that has not been read."""

    @property
    def forgotten(self) -> Forgotten:
        """The last request to forget students that has been applied."""

    def load(self, students: StudentDictionary) -> Sequence[bytes | None]:
        """Return the state record of each student [u]; None for a student without one."""

    def log_ids(self, spans: Int64s) -> Bitmaps:
        """Return which log ids of each of `spans` [b] have been applied (models/log_ids.py)."""

    @property
    def ticks(self) -> Ticks | None:
        """The days of which the cohort sums are written, and as of which the students are scored; None: never."""

    def activity(self, students: Int64s) -> Sequence[bytes | None]:
        """Return the record of activity of each of `students` [u] (models/activity.py); None for one without."""

    def early(self, students: Int64s) -> Sequence[bytes | None]:
        """Return the record of early events of each of `students` [u] (models/early_events.py); None: none."""

    def scan_early(self, students: int) -> Iterator[tuple[Int64s, Sequence[bytes]]]:
        """Yield all records of early events with their students, about so many at a time; no flush in the meantime."""

    def scan_activity(self, students: int) -> Iterator[Packed]:
        """Yield all records of activity by student, about so many at a time; no flush in the meantime."""

    async def flush(
        self,
        rows: Mapping[Target, Rows],
        records: Mapping[bytes, bytes | None],
        position: Position | None = None,
        cached: tuple[StudentDictionary, Sequence[bytes | None]] | None = None,
        log_ids: Mapping[bytes, bytes] | None = None,
        *,
        activity: Mapping[int, bytes | None] | None = None,
        early: Mapping[int, bytes | None] | None = None,
        ticks: Ticks | None = None,
        more: Sequence[tuple[Target, Rows]] = (),
    ) -> bool:
        """Write output `rows`, and `more` behind them, and state in one transaction.

        The state: `records` (None: delete), the `position`, records of `log_ids`, records of `activity` and `early`
        events by student, and `ticks`. cached: the students among the records, to keep in memory; None: the student has
        none now.

        Returns False, and writes nothing, if another worker owns the partition by now.
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

    async def cohorts(self, partition: StatePartition, days: Sequence[int]) -> Mapping[int, Cohorts] | None:
        """Return the cohort sums of all visits partitions as of each of `days`, once all have reached the last of them.

        None: `partition`, for which they are awaited, is not the worker's any more, or was taken over anew.
        """

    def outdated_sums(self, partition: int) -> Sequence[bytes]:
        """Return the keys of the cohort sums of a partition that no partition needs any more."""

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
