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
#: how many times as long as an event predictions wait, and at most [s], if an event waits no longer: a transaction of
#: in-risk events costs as much as one of predictions, and the predictions are there to be read meanwhile
_PREDICTIONS, _PREDICTIONS_S = 5, 1.0
#: number of predictions that do not wait for more: together they are still small enough to be merged
_MANY_PREDICTIONS = 400


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
    not held while visits may come, so an event waits once on its way to its prediction. Predictions wait here, so that
    those of several rounds share a transaction of the in-risk events.
    """

    def __init__(
        self,
        source: str,
        visits: str,
        prediction: str,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """source, visits, prediction: topics; seconds: the longest wait of an event, 0 for none."""
        self._source, self._visits, self._prediction = source, visits, prediction
        self._seconds, self._clock = seconds, clock
        #: chunks that wait, and chunks that have waited
        self._kept: list[Chunk] = []
        self._ready: list[Chunk] = []
        #: predictions that wait, and until when [s]
        self._predictions: list[Chunk] = []
        self._predictions_due = 0.0
        #: until when partitions are held [s], None if none is; whether that of visits is among them
        self._due: float | None = None
        self._holds_visits = False
        #: whether events have been returned whose visits have not come
        self._expects_visits = False
        self._generation = -1

    def begin(self, generation: int, holder: Holder) -> None:
        """Before a read: drop what an earlier generation has fetched, which its successor fetches again."""
        if generation != self._generation:
            self._generation, self._kept, self._ready, self._predictions = generation, [], [], []
            self._expects_visits = True  # of events that were returned before
            self._release(holder)

    def longest_read(self, limit: float) -> float:
        """Return how long a read may wait for records [s], at most `limit`."""
        if self._ready:
            return 0.0
        due = [] if self._due is None else [self._due + _PATIENCE_S]
        due += [self._predictions_due] if self._predictions else []
        return min(limit, max(0.0, min(due) - self._clock())) if due else limit

    def is_over(self, holder: Holder) -> bool:
        """Whether a read that has found nothing need not wait any longer."""
        return self._due is not None and self._clock() >= self._due and holder.has_answer()

    def apply(
        self,
        chunks: Sequence[Chunk],
        generation: int,
        partitions: Collection[TopicPartition],
        holder: Holder,
        *,
        sends_all_visits: bool = False,
    ) -> list[Chunk]:
        """Return the chunks that do not wait any longer, after a read that was begun in `generation`.

        At most one of each partition. partitions: the assigned ones; sends_all_visits: whether nobody else sends visits
        to this worker, which has one visits partition.
        """
        if not self._seconds or generation != self._generation:
            return list(chunks)
        by_topic: dict[str, list[Chunk]] = {}
        for chunk in chunks:
            by_topic.setdefault(chunk.topic, []).append(chunk)
        new = by_topic.pop(self._source, [])
        self._expects_visits &= self._visits not in by_topic
        self._kept += new
        if not self._waits(new, partitions, holder):
            self._expects_visits |= any(map(_is_event, self._kept))
            self._ready, self._kept = self._ready + self._kept, []
        if sends_all_visits:
            self._hold_visits(partitions, holder)
        self._ready += self._predictions_after(by_topic.pop(self._prediction, []))
        self._ready += [chunk for chunks_of_topic in by_topic.values() for chunk in chunks_of_topic]
        due, self._ready = _first_of_each(self._ready)
        return due

    def _predictions_after(self, new: Sequence[Chunk]) -> list[Chunk]:
        """Return the predictions that do not wait any longer; `new` are those of this read."""
        if new and not self._predictions:
            wait = max(self._seconds, min(_PREDICTIONS * self._seconds, _PREDICTIONS_S))
            self._predictions_due = self._clock() + wait
        self._predictions += new
        is_over = self._clock() >= self._predictions_due or sum(map(len, self._predictions)) >= _MANY_PREDICTIONS
        if not is_over and not any(chunk.lagging for chunk in new):
            return []
        due, self._predictions = self._predictions, []
        return due

    def _waits(self, new: Sequence[Chunk], partitions: Collection[TopicPartition], holder: Holder) -> bool:
        """Whether the chunks that are kept wait; `new` are those of this read."""
        if any(chunk.lagging for chunk in new):
            self._release(holder)
            return False
        if self._due is None:
            if waits := any(map(_is_event, new)):
                self._hold(partitions, holder)
            return waits
        if not self.is_over(holder) and self._clock() < self._due + _PATIENCE_S:
            return True
        if sum(map(len, new)) >= _MANY:
            self._hold(partitions, holder)
        else:
            self._release(holder)
        return False

    def _hold(self, partitions: Collection[TopicPartition], holder: Holder) -> None:
        self._due, self._holds_visits = self._clock() + self._seconds, False
        holder.hold([tp for tp in partitions if tp.topic in (self._source, self._prediction)], self._due)

    def _hold_visits(self, partitions: Collection[TopicPartition], holder: Holder) -> None:
        """Leave out the visits too, like the source partitions, if none can come: no request need be outstanding."""
        if self._due is None or self._holds_visits or self._expects_visits or self._clock() >= self._due:
            return
        self._holds_visits = True
        topics = (self._source, self._visits, self._prediction)
        holder.hold([tp for tp in partitions if tp.topic in topics], self._due)

    def _release(self, holder: Holder) -> None:
        if self._due is not None:
            self._due = None
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
