"""repartition: log rows of the source partitions -> visit batches keyed by student, in time order."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agents.ahead import AheadOfClock
from agents.gather import Arrival, gather
from agents.notices import Notices
from agents.ports import Delivery, Log, Metrics
from agents.rejects import OddSchemas, report, tell_outcome
from agents.schema_gate import SchemaGate
from codec.dead_letters import DeadLetter
from codec.moodle_log import LogDecoder, Plans
from models.aligner import Aligner
from models.chunk import Chunk
from models.headers import HeaderFilter
from models.heartbeats import HeartbeatCoalescer, LastTick
from models.routing import Router, visit_batches
from models.topic_names import TopicNames
from models.visit_batch import VisitBatch, encode
from models.visits import Visits

log = logging.getLogger(__name__)

#: maximum number of visits in a visit batch, which is limited in bytes too (models/routing.py)
MAX_BATCH_ROWS = 20_000
#: number of buffered visits of a source partition above which its fetching is paused; at half of it, it resumes
MAX_BUFFERED_ROWS = 200_000

_OVERSIZED = (
    "topic %s partition %d offsets %d to %d: a record's headers are too large to be forwarded; its visit counts"
)


@dataclass(frozen=True, slots=True)
class Round:
    """Visit batches to send, and the chunks that are processed once those are acknowledged."""

    #: for each visits partition [s] its visit batches, in order; empty if the round sends nothing
    visit_batches: Sequence[Sequence[VisitBatch]]
    #: the chunks whose visits have all been sent by the end of this round
    done: Sequence[Chunk]


class Assignment:
    """The source partitions this worker reads in one generation: aligned in time, routed by student. Mutable."""

    def __init__(
        self,
        assigned: frozenset[int],
        sources: int,
        router: Router,
        max_rows: int,
        *,
        hold_back: bool = True,
        last_tick: LastTick | None = None,
    ) -> None:
        """sources: partitions of the source topic, at least; max_rows: maximum number of visits in a visit batch, and
        approximate maximum in a round; hold_back: see Repartition; last_tick: see HeartbeatCoalescer."""
        self._router, self._max_rows, self._hold_back = router, max_rows, hold_back
        self._sources = max(sources, max(assigned, default=-1) + 1)
        self._aligner = Aligner(set(assigned))
        self._coalescer = HeartbeatCoalescer(router.partitions, last_tick)
        #: chunks of each source partition whose visits are not all released, in order
        self._open: dict[int, deque[Chunk]] = {partition: deque() for partition in assigned}

    def add(self, chunk: Chunk, visits: Visits) -> None:
        """Add a chunk of a source partition with the visits decoded from it, possibly none."""
        self._aligner.add(chunk.partition, visits, chunk.next_offset, chunk.lagging, chunk.as_of)
        self._open[chunk.partition].append(chunk)

    def hold(self, partition: int) -> None:
        """Let a source partition whose next chunk waits for its schema hold stream time, and no other partition."""
        self._aligner.hold(partition)

    def rounds(self) -> Iterator[Round]:
        """Release the visits that no slower partition can precede; the last round only has the chunks that are done."""
        while ranges := self._aligner.release(self._max_rows, hold_back=self._hold_back):
            batches = visit_batches(ranges, self._sources, self._router, self._max_rows)
            yield Round(self._coalescer.coalesce(batches) if self._hold_back else batches, self._done())
        yield Round((), self._done())

    def buffered(self) -> dict[int, int]:
        """Return the number of buffered visits of each source partition."""
        return {partition: self._aligner.buffered(partition) for partition in self._open}

    def _done(self) -> list[Chunk]:
        done = []
        for partition, chunks in self._open.items():
            while chunks and chunks[0].next_offset <= self._aligner.released_to(partition):
                done.append(chunks.popleft())
        return done


class Repartition:
    """The agent of the source topic."""

    def __init__(
        self,
        log: Log,
        names: TopicNames,
        decoder: LogDecoder,
        metrics: Metrics,
        *,
        partitions: int,
        batch_rows: int,
        unit: str,
        ignored_headers: Sequence[str] = (),
        max_ahead_ms: int = 0,
        hold_back: bool = True,
        last_tick: LastTick | None = None,
    ) -> None:
        """partitions: of the visits topic, whatever the source topic has; unit: of timecreated, ms or s;
        ignored_headers: see HeaderFilter; max_ahead_ms: see AheadOfClock; last_tick: see HeartbeatCoalescer.

        hold_back: whether visits that slower partitions may precede, and heartbeats, are sent later. Without it all
        visits partitions get everything that has been read at once.
        """
        self._log, self._names, self._decoder, self._metrics = log, names, decoder, metrics
        self._router = Router(partitions)
        self._max_rows = min(batch_rows, MAX_BATCH_ROWS)
        self._unit, self._warned_of_unit, self._hold_back = unit, False, hold_back
        self._last_tick = last_tick
        self._warned_of_log_ids = False
        self._gate = SchemaGate(log, names.source, decoder)
        self._odd_schemas = OddSchemas()
        self._headers = HeaderFilter(ignored_headers)
        self._oversized = Notices("records had headers that are too large to forward")
        self._ahead = AheadOfClock(metrics, max_ahead_ms, lambda: time.time_ns() // 1_000_000)

    async def run(self, deliveries: AsyncIterable[Delivery]) -> None:
        """Decode, align and route the chunks of the source topic until they end."""
        assignment, generation = Assignment(frozenset(), 0, self._router, self._max_rows), -1
        async for group in gather(self._arrivals(deliveries), self._max_rows, may_exceed=True):
            first = group[0][0]
            if first.generation != generation:
                # visits buffered under the former assignment are fetched again by their current owners
                generation = first.generation
                assignment = Assignment(
                    first.assigned,
                    first.partitions,
                    self._router,
                    self._max_rows,
                    hold_back=self._hold_back,
                    last_tick=self._last_tick,
                )
            for delivery, visits in group:
                if visits is None:
                    assignment.hold(delivery.chunk.partition)
                else:
                    assignment.add(delivery.chunk, visits)
            for round_ in assignment.rounds():
                if any(round_.visit_batches):
                    await self._log.send_visits([[encode(b) for b in batches] for batches in round_.visit_batches])
                for chunk in round_.done:
                    await self._log.processed(chunk)
            self._pause_or_resume(assignment)

    async def _arrivals(
        self, deliveries: AsyncIterable[Delivery]
    ) -> AsyncIterator[Arrival[tuple[Delivery, Visits | None]]]:
        """Decode the deliveries; None instead of visits: the schema of one, which follows later, is not there yet."""
        async for delivery, plans in self._gate.passed(deliveries):
            if plans is None:
                yield Arrival((delivery, None), 0, delivery.generation, delivery.has_next)
            else:
                visits = await self._decode(delivery.chunk, plans)
                yield Arrival((delivery, visits), len(visits), delivery.generation, delivery.has_next)

    async def _decode(self, chunk: Chunk, plans: Plans) -> Visits:
        if chunk.refused:
            await self._set_aside([DeadLetter.of_batch(chunk, batch) for batch in chunk.refused])
        if not len(chunk):
            return Visits.none()
        decoded = self._decoder.read(chunk, plans)
        self._metrics.add("events", len(chunk))
        self._metrics.add("source_tombstones", decoded.tombstones)
        self._check_unit(decoded.suspicious, chunk)
        decoded = self._ahead.apply(decoded, chunk)
        if decoded.odd_schemas:
            self._odd_schemas.report(chunk, decoded.odd_schemas, self._metrics)
        dead_letters = [DeadLetter.of(chunk, r.index, r.reason, r.detail) for r in decoded.rejects]
        if dead_letters:
            await self._set_aside(dead_letters)
        if decoded.log_id is not None:
            self._check_log_ids(int(np.count_nonzero(decoded.log_id < 0)), chunk)
        if decoded.judged is not None:
            for reason, number in decoded.judged.not_counted().items():
                self._metrics.add("not_counted", number, reason)
        tell_outcome(self._metrics, chunk.topic, len(decoded), dead_letters)
        return self._filter_headers(decoded.visits(chunk), chunk)

    def _filter_headers(self, visits: Visits, chunk: Chunk) -> Visits:
        if visits.headers is None:
            return visits
        kept, oversized = self._headers.apply(visits.headers)
        self._oversized.add(
            oversized, lambda _: _OVERSIZED % (chunk.topic, chunk.partition, chunk.start, chunk.next_offset - 1)
        )
        return replace(visits, headers=kept)

    async def _set_aside(self, dead_letters: Sequence[DeadLetter]) -> None:
        report(dead_letters, self._metrics, self._names.dead_letters)
        await self._log.send_dead_letters(dead_letters)

    def _check_log_ids(self, without: int, chunk: Chunk) -> None:
        """Count, and warn once, if rows have no log id by which copies of them could be recognised."""
        self._metrics.add("without_log_id", without)
        if without and not self._warned_of_log_ids:
            self._warned_of_log_ids = True
            log.warning(
                "topic %s partition %d: rows without an integer id cannot be de-duplicated: each copy counts",
                chunk.topic, chunk.partition,
            )  # fmt: skip

    def _check_unit(self, suspicious: int, chunk: Chunk) -> None:
        """Count, and warn once, if `timecreated` does not look like the unit that is set."""
        self._metrics.add("suspicious_unit", suspicious)
        if suspicious and not self._warned_of_unit:
            self._warned_of_unit = True
            other = "s" if self._unit == "ms" else "ms"
            log.warning(
                "topic %s partition %d: timecreated does not look like %s; if the log counts %s set RISK_TIME_UNIT=%s",
                chunk.topic, chunk.partition, self._unit, other, other,
            )  # fmt: skip

    def _pause_or_resume(self, assignment: Assignment) -> None:
        for partition, rows in assignment.buffered().items():
            if self._gate.is_waiting(partition):
                continue  # the gate has paused it
            if rows > MAX_BUFFERED_ROWS:
                self._log.pause(self._names.source, partition)
            elif rows <= MAX_BUFFERED_ROWS // 2:
                self._log.resume(self._names.source, partition)
