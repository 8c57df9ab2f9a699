"""How long events of the source topic wait for company, so that several share a round of the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from aiokafka.structs import TopicPartition

from app.kafka.queue import merge_small
from models.chunk import Chunk

#: how long an answer may be late before the events go on without it [s]
_PATIENCE_S = 0.05
#: from this number of events that found company on, the next are expected at once
_MANY = 4


class Holder(Protocol):
    """Fetches partitions at set times; see app.upstream.holding.HoldingFetcher."""

    def hold(self, partitions: Collection[TopicPartition], until: float) -> None:
        """Do not fetch `partitions` before `until` [s, monotonic]; ask for what is there at that time."""

    def release(self) -> None:
        """Fetch all partitions as usual."""

    def has_answer(self) -> bool:
        """Whether all nodes have answered what was asked when the time had come."""


class Linger:
    """Keeps chunks of the source topic from the first event until RISK_LINGER_MS later. Mutable.

    A round costs hardly more for a hundred events than for one. While the first event waits, the others wait at the
    broker: all of them come in one answer. A backlog does not wait, nor does what comes with it; the visits topic is
    not held, so an event waits once on its way to its prediction. Predictions wait at the broker as long again, so that
    those of all visits partitions, which commit one after another, share a transaction of the in-risk events.
    """

    def __init__(
        self, source: str, prediction: str, seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """source, prediction: topics; seconds: the longest wait of an event, 0 for none."""
        self._source, self._prediction, self._seconds, self._clock = source, prediction, seconds, clock
        #: chunks that wait, and chunks that have waited
        self._kept: list[Chunk] = []
        self._ready: list[Chunk] = []
        #: until when partitions are held [s], None if none is; whether those of the source topic are among them
        self._due: float | None = None
        self._holds_source = False
        self._generation = -1

    def begin(self, generation: int, holder: Holder) -> None:
        """Before a read: drop what an earlier generation has fetched, which its successor fetches again."""
        if generation != self._generation:
            self._generation, self._kept, self._ready = generation, [], []
            self._release(holder)

    def longest_read(self, limit: float) -> float:
        """Return how long a read may wait for records [s], at most `limit`."""
        if self._ready:
            return 0.0
        return limit if self._due is None else min(limit, max(0.0, self._due + _PATIENCE_S - self._clock()))

    def is_over(self, holder: Holder) -> bool:
        """Whether a read that has found nothing need not wait any longer."""
        return self._due is not None and self._clock() >= self._due and holder.has_answer()

    def apply(
        self, chunks: Sequence[Chunk], generation: int, partitions: Collection[TopicPartition], holder: Holder
    ) -> list[Chunk]:
        """Return the chunks that do not wait any longer, after a read that was begun in `generation`.

        At most one of each partition. partitions: the assigned ones.
        """
        if not self._seconds or generation != self._generation:
            return list(chunks)
        new = [chunk for chunk in chunks if chunk.topic == self._source]
        self._kept += new
        if not self._waits(new, partitions, holder):
            self._ready, self._kept = self._ready + self._kept, []
        self._ready += [chunk for chunk in chunks if chunk.topic != self._source]
        due, self._ready = _first_of_each(self._ready)
        return due

    def _waits(self, new: Sequence[Chunk], partitions: Collection[TopicPartition], holder: Holder) -> bool:
        """Whether the chunks that are kept wait; `new` are those of this read."""
        if any(chunk.lagging for chunk in new):
            self._release(holder)
            return False
        is_over = self.is_over(holder) or (self._due is not None and self._clock() >= self._due + _PATIENCE_S)
        if not self._holds_source:
            if any(map(_is_event, new)):
                self._hold((self._source, self._prediction), partitions, holder)
                return True
            if is_over:
                self._release(holder)
            return False
        if not is_over:
            return True
        many = sum(map(len, new)) >= _MANY
        self._hold((self._source, self._prediction) if many else (self._prediction,), partitions, holder)
        return False

    def _hold(self, topics: Collection[str], partitions: Collection[TopicPartition], holder: Holder) -> None:
        self._due, self._holds_source = self._clock() + self._seconds, self._source in topics
        holder.hold([tp for tp in partitions if tp.topic in topics], self._due)

    def _release(self, holder: Holder) -> None:
        if self._due is not None:
            self._due, self._holds_source = None, False
            holder.release()


def _first_of_each(chunks: Sequence[Chunk]) -> tuple[list[Chunk], list[Chunk]]:
    """Return the first chunk of each partition, merged with its next ones if they are small, and the rest."""
    first: dict[tuple[str, int], Chunk] = {}
    rest: list[Chunk] = []
    left: set[tuple[str, int]] = set()
    for chunk in chunks:
        tp = chunk.topic, chunk.partition
        earlier = first.get(tp)
        merged = chunk if earlier is None else merge_small(earlier, chunk)
        if tp in left or merged is None:
            left.add(tp)
            rest.append(chunk)
        else:
            first[tp] = merged
    return list(first.values()), rest


def _is_event(chunk: Chunk) -> bool:
    return bool(len(chunk) or chunk.refused)
