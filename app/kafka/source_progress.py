"""How far the source partitions of an assignment have been delivered and processed, and where they end."""

from __future__ import annotations

from collections.abc import Mapping

from faust.types import TP

from app.kafka.ledger import Ledger
from models.chunk import Chunk
from models.rules import NEVER


class SourceProgress:
    """The progress of every source partition: of all that agents read, and of no changelog. Mutable."""

    def __init__(self) -> None:
        #: offset at which the next chunk of each partition must begin
        self.next_offsets: dict[TP, int] = {}
        #: what has been delivered, and how much of it is processed
        self.ledger: Ledger[TP] = Ledger()
        #: partitions paused by an agent, independent of Faust's pauses for full queues, and what they wait for
        self.paused: dict[TP, str] = {}
        #: how often the broker has answered with end offsets
        self.end_offset_polls = 0
        #: end offset of each partition
        self._ends: dict[TP, int] = {}
        #: position of each partition at the start of this assignment
        self._starts: dict[TP, int] = {}
        #: the positions as chunks, until they are taken
        self._position_chunks: list[Chunk] = []

    def begin(self, positions: Mapping[TP, int], ends: Mapping[TP, int]) -> None:
        """Begin an assignment with the partitions' positions, after a seek to them, and their end offsets."""
        self.ledger.clear()
        self.paused.clear()
        self.next_offsets, self._starts = dict(positions), dict(positions)
        self._ends = {tp: ends[tp] for tp in positions}
        self._position_chunks = [self.announcement(tp) for tp in positions]

    def take_positions(self) -> list[Chunk]:
        """Return, once per assignment, a chunk without records for each partition: the position it begins with."""
        chunks, self._position_chunks = self._position_chunks, []
        return chunks

    def advance(self, tp: TP, chunk: Chunk) -> None:
        """Move a partition behind a chunk that is delivered."""
        self.next_offsets[tp] = chunk.next_offset
        if tp in self._ends:
            self._ends[tp] = max(self._ends[tp], chunk.end)

    def update_ends(self, ends: Mapping[TP, int]) -> None:
        """Take over the broker's answer with end offsets."""
        # a fetch that was answered later may know of more
        known = self._ends
        self._ends = {tp: max(ends[tp], known.get(tp, 0)) for tp in self.next_offsets if tp in ends}
        self.end_offset_polls += 1

    def ends_of(self, topic: str | None) -> dict[TP, int]:
        """Return the end offset of each partition of a topic, as of the last poll or fetch."""
        return {tp: end for tp, end in self._ends.items() if tp.topic == topic}

    def announcement(self, tp: TP, as_of: int = NEVER) -> Chunk:
        """Create a chunk without records that tells the agents a partition's position.

        as_of: the event time as of which the partition is read to its end [ms], see confirmations.py.
        """
        position = self.next_offsets[tp]
        return Chunk(tp.topic, tp.partition, (), (), (), position, position, max(position, self._ends[tp]), as_of=as_of)

    def processed_offsets(self) -> dict[TP, int]:
        """Return the offset behind the processed prefix of each partition."""
        return {tp: self.ledger.done(tp, start) for tp, start in self._starts.items()}

    def lags(self) -> dict[tuple[str, int], int]:
        """Return the number of unprocessed records of each partition, as of the last poll of its end."""
        return {
            (tp.topic, tp.partition): max(0, end - self.ledger.done(tp, self._starts[tp]))
            for tp, end in self._ends.items()
        }

    def backlog(self) -> tuple[str | None, tuple[int, ...]]:
        """Describe what waits to be processed, None for nothing, and return a value that changes with any progress.

        Partitions paused for another one, possibly another worker's, do not count.
        With nothing to process the next answer with end offsets counts as progress, and is what is waited for.
        """
        lags = {TP(*tp): lag for tp, lag in self.lags().items() if lag and self.paused.get(TP(*tp)) != ""}
        done = tuple(self.ledger.done(tp, self._starts[tp]) for tp in lags)
        if not lags:
            waiting = "Kafka has not answered with the topics' end offsets" if self._starts else None
            return waiting, (self.end_offset_polls,)
        tp, lag = max(lags.items(), key=lambda item: item[1])
        if tp in self.paused:
            return f"{lag} records of topic {tp.topic} partition {tp.partition} wait for {self.paused[tp]}", done
        return f"{lag} records of topic {tp.topic} partition {tp.partition} wait", done


def tp_of(chunk: Chunk) -> TP:
    """Return the topic and partition of a chunk, as Faust writes it."""
    return TP(chunk.topic, chunk.partition)
