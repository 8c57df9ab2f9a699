"""What the streams (agents/process.py) need from the outside: deliveries in, a log and state tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.state.partition import Target
from codec.dead_letters import Letter
from codec.record_batch import Rows
from models.chunk import Chunk
from models.position import Front
from models.visits import Roster


class State(Protocol):
    """One partition of a state table; see app.state.partition.Partition."""

    @property
    def front(self) -> Front: ...
    @property
    def position(self) -> int: ...
    def load(self, students: Roster) -> Sequence[bytes | None]: ...
    async def flush(
        self,
        rows: Mapping[Target, Rows],
        records: Mapping[bytes, bytes],
        front: Front | None = None,
        hot: tuple[Roster, Sequence[bytes]] | None = None,
    ) -> bool: ...


class Log(Protocol):
    """What the streams need from the outside."""

    async def send_visits(self, frames: Sequence[Sequence[bytes]]) -> None:
        """Write frames to each of the visits partitions, in order; returns when they are acknowledged."""

    async def send_letters(self, letters: Sequence[Letter]) -> None:
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
