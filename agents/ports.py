"""What the streams (agents/process.py) need from the outside: deliveries in, a log and state tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.state.partition import Target
from codec.dead_letters import DeadLetter
from codec.record_batch import Rows
from models.chunk import Chunk
from models.position import Position
from models.visits import StudentDictionary


class State(Protocol):
    """One partition of a state table; see app.state.partition.Partition."""

    @property
    def position(self) -> Position: ...
    @property
    def next_offset(self) -> int: ...
    def load(self, students: StudentDictionary) -> Sequence[bytes | None]: ...
    async def flush(
        self,
        rows: Mapping[Target, Rows],
        records: Mapping[bytes, bytes],
        position: Position | None = None,
        hot: tuple[StudentDictionary, Sequence[bytes]] | None = None,
    ) -> bool: ...


class Log(Protocol):
    """What the streams need from the outside."""

    async def send_visits(self, visit_batches: Sequence[Sequence[bytes]]) -> None:
        """Write frames to each of the visits partitions, in order; returns when they are acknowledged."""

    async def send_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Keep records that could not be used."""

    def processed(self, chunk: Chunk) -> None:
        """Everything that follows from `chunk` is written."""

    def hold(self, topic: str, partition: int, held: bool) -> None:
        """Stop or go on fetching a source partition."""

    def students(self, partition: int) -> State | None:
        """The state of a visits partition, None if it is not ours now."""

    def alerts(self) -> State | None:
        """The state of `alert`."""


@dataclass(slots=True)
class Delivery:
    """A chunk, with the assignment it was fetched under."""

    chunk: Chunk
    generation: int
    #: the partitions of the chunk's topic that are ours in this generation
    assigned: frozenset[int]
    #: whether another chunk has arrived behind this one
    more: bool = False
