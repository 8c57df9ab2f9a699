"""Polls of the source partitions' end offsets: for their lags, and to confirm that they are read to their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faust.types import TP

from app.kafka.confirmations import Confirmations
from app.kafka.source_progress import SourceProgress
from models.chunk import Chunk
from models.rules import NEVER

if TYPE_CHECKING:
    from app.kafka.consumer import Consumer

#: polls left out between two while nothing happens
_SKIPPED_POLLS = 3


class EndPolls:
    """Asks the broker for end offsets, and knows which of the source topic's partitions have reached theirs. Mutable.

    What is confirmed is confirmed as of the newest event time that was known before the ends were requested.
    """

    def __init__(self, consumer: Consumer, progress: SourceProgress) -> None:
        self._consumer, self._progress = consumer, progress
        self._confirmations: Confirmations[TP] = Confirmations()
        #: the newest event time so far [ms]
        self._newest = NEVER
        #: generation, newest event time [ms] and offsets at the last poll, and the number of polls left out since
        self._last: tuple[int, int, tuple[int, ...]] | None = None
        self._skipped = 0

    def newest_event_time(self) -> int:
        """Return the newest event time so far [ms]: that of an assignment before this one, too."""
        self._newest = max(self._newest, self._consumer.newest_event_time())
        return self._newest

    def begin(self, as_of: int) -> None:
        """Begin an assignment; `as_of` [ms] was the newest event time before the ends it begins with were requested."""
        self._confirmations.clear()
        self._note_ends(as_of)

    def take_confirmations(self) -> list[Chunk]:
        """Return a chunk without records for each partition that has now been delivered to its end."""
        confirmed = self._confirmations.take(self._progress.next_offsets)
        return [self._progress.announcement(tp, as_of) for tp, as_of in confirmed.items()]

    async def poll(self) -> None:
        """Ask for the end offsets, unless this generation has not begun to read; less often while nothing happens."""
        consumer, progress = self._consumer, self._progress
        if not consumer.has_sought():
            return
        generation, as_of = consumer.app.consumer_generation_id, self.newest_event_time()
        now = generation, as_of, tuple(progress.next_offsets.values())
        if now == self._last and self._skipped < _SKIPPED_POLLS:
            self._skipped += 1
            return
        self._last, self._skipped = now, 0
        has_grown = await self.source_has_grown(as_of)
        ends = await consumer.highwaters(*progress.next_offsets)
        if consumer.has_sought() and generation == consumer.app.consumer_generation_id:
            progress.update_ends(ends)
            if not has_grown:
                self._note_ends(as_of)

    def _note_ends(self, as_of: int) -> None:
        self._confirmations.note_ends(self._progress.ends_of(self._consumer.source_topic), as_of)

    async def source_has_grown(self, as_of: int) -> bool:
        """Whether the source topic has partitions that this generation does not know, if that matters for `as_of`.

        Nobody reads those yet: without a confirmation, event time cannot run away from them.
        """
        topic, due = self._consumer.source_topic, self._confirmations.is_due
        if topic is None or not any(tp.topic == topic and due(tp, as_of) for tp in self._progress.next_offsets):
            return False
        return (await self._consumer.count_partitions({topic}))[topic] != self._consumer.partitions(topic)
