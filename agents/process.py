"""The topology's three streams, from chunks to flushes, over whatever log they are given.

`app/topology.py` binds them to Faust and Kafka, `tools/test_driver.py` to a log in memory: the same code
runs in the worker, in the parity cases and in the tests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agents.alert import alert
from agents.ports import Delivery, Log, State
from agents.repartition import Fetched, repartition
from agents.rollup import rollup
from agents.score import Scored, score
from agents.sessionize import Arrived, sessionize
from app.ops.failpoints import failpoints
from app.ops.metrics import Metrics
from app.settings import Settings
from app.state.partition import Target
from app.topic_names import TopicNames
from codec import output_rows as rows
from codec.dead_letters import DeadLetter
from codec.moodle_log import LogDecoder
from codec.record_batch import Rows
from models import state
from models.chunk import Chunk
from models.murmur2 import keys_of
from models.position import NEXT_OFFSET_KEY, Gap, Position, pack_next_offset
from models.risk import RiskModel
from models.visit_batch import CorruptVisitBatch, NewerVisitBatch, VisitBatch, decode, encode
from models.visits import StudentDictionary, Visits

log = logging.getLogger(__name__)

#: rejected records of one fetch that are logged one by one
LOGGED_REJECTS = 20
#: predictions that are looked at together, about
ALERT_ROWS = 20_000
#: most visits in one frame: 24 B each, so that a frame stays below the broker's 1 MiB
FRAME_ROWS = 20_000


@dataclass(slots=True)
class Pipeline:
    """The streams of one app."""

    settings: Settings
    names: TopicNames
    log: Log
    #: known once the source topic's schema has been looked at (app/ops/preflight.py)
    decoder: LogDecoder | None = None
    #: None: scoring is off
    model: RiskModel | None = None
    counts: Metrics = field(default_factory=Metrics)
    #: partitions of the source topic, and of the visits topic
    sources: int = 1
    #: visits of a source partition held back by the aligner before its fetching pauses
    hold_rows: int = 200_000
    #: pause of `alert` where there are few predictions [s]: each look that finds some is a transaction
    alert_pause_s: float = 0.0
    _warned_unit: bool = False
    _said_of: RiskModel | None = None
    _headers: list[tuple[str, bytes | None]] = field(default_factory=list)

    @property
    def _each(self) -> bool:
        return self.settings.emit == "changes"

    # -- log rows -> frames

    async def run_repartition(self, deliveries: AsyncIterable[Delivery]) -> None:
        """Decode, align and route what is fetched of the source topic."""
        rounds = repartition(self._fetches(deliveries), self.sources, min(self.settings.batch_rows, FRAME_ROWS))
        async for round_ in rounds:
            if any(round_.visit_batches):
                await self.log.send_visits(
                    [[encode(f) for f in visit_batches] for visit_batches in round_.visit_batches]
                )
                await failpoints.at("framed")
            for chunk in round_.done:
                assert isinstance(chunk, Chunk)
                self.log.processed(chunk)
            for partition, held in round_.held.items():
                if held > self.hold_rows or held <= self.hold_rows // 2:
                    self.log.hold(self.settings.source_topic, partition, held > self.hold_rows)

    async def _fetches(self, deliveries: AsyncIterable[Delivery]) -> AsyncIterator[Fetched]:
        async for d in deliveries:
            visits = await self._decode(d.chunk)
            chunk = d.chunk
            yield Fetched(
                chunk.partition, visits, chunk.next_offset, chunk.lagging, d.generation, d.assigned, chunk, d.more
            )

    async def _decode(self, chunk: Chunk) -> Visits:
        if not len(chunk):
            return Visits.none()
        assert self.decoder is not None, "preflight comes first"
        decoded = await self.decoder.decode(chunk)
        self.counts.add("events", len(chunk))
        self.counts.add("source_tombstones", decoded.tombstones)
        self._warn_unit(decoded.suspicious, chunk)
        if decoded.rejects:
            dead_letters = [DeadLetter.of(chunk, r.index, r.reason, r.detail) for r in decoded.rejects]
            await self._reject(dead_letters)
        return decoded.visits(chunk)

    def _warn_unit(self, suspicious: int, chunk: Chunk) -> None:
        self.counts.add("suspicious_unit", suspicious)
        if suspicious and not self._warned_unit:
            self._warned_unit = True
            other = "s" if self.settings.time_unit == "ms" else "ms"
            log.warning(
                "topic %s partition %d: timecreated does not look like %s; if the log counts %s set RISK_TIME_UNIT=%s",
                chunk.topic, chunk.partition, self.settings.time_unit, other, other,
            )  # fmt: skip

    async def _reject(self, dead_letters: Sequence[DeadLetter]) -> None:
        self._report(dead_letters)
        await self.log.send_dead_letters(dead_letters)

    def _report(self, dead_letters: Sequence[DeadLetter]) -> None:
        for dead_letter in dead_letters:
            self.counts.add("rejected", 1, dead_letter.reason)
        for dead_letter in dead_letters[:LOGGED_REJECTS]:
            log.warning("%s", dead_letter)
        if len(dead_letters) > LOGGED_REJECTS:
            log.warning(
                "and %d more of that fetch, see topic %s", len(dead_letters) - LOGGED_REJECTS, self.names.dead_letters
            )

    # -- frames -> sessions, totals, predictions

    async def run_process(self, deliveries: AsyncIterable[Delivery]) -> None:
        """Apply the frames of the visits partitions, a flush a batch."""
        students = _Current(self.log)
        sessionized = sessionize(self._arrivals(deliveries, students), students, emit_every_change=self._each)
        async for scored in score(rollup(sessionized, emit_every_change=self._each), self.model):
            await self._flush(students.state, scored)

    async def _arrivals(self, deliveries: AsyncIterable[Delivery], students: _Current) -> AsyncIterator[Arrived]:
        visit_batches: list[VisitBatch] = []
        chunks: list[Chunk] = []
        waiting, whose = 0, (-1, -1)
        async for d in deliveries:
            if whose != (d.generation, d.chunk.partition):
                # from before a rebalance: whoever owns them now reads them again
                visit_batches, chunks, waiting, whose = [], [], 0, (d.generation, d.chunk.partition)
            for visit_batch in await self._visit_batches(d.chunk):
                if visit_batches and waiting + len(visit_batch) > self.settings.batch_rows:
                    if students.turn_to(d.chunk.partition):
                        yield Arrived(visit_batches, chunks)
                    visit_batches, chunks, waiting = [], [], 0
                visit_batches.append(visit_batch)
                waiting += len(visit_batch)
            chunks.append(d.chunk)
            if d.more and waiting < self.settings.batch_rows:
                continue
            if students.turn_to(d.chunk.partition):
                yield Arrived(visit_batches, chunks)
            visit_batches, chunks, waiting = [], [], 0

    async def _visit_batches(self, chunk: Chunk) -> list[VisitBatch]:
        visit_batches, dead_letters = [], []
        for i, value in enumerate(chunk.values):
            try:
                visit_batches.append(decode(value or b""))
            except CorruptVisitBatch as error:
                dead_letters.append(DeadLetter.of(chunk, i, "bad-frame", str(error)))
                visit_batches.append(VisitBatch(0, (), corrupt=True))
            except NewerVisitBatch as error:
                place = f"topic {chunk.topic} partition {chunk.partition} offset {chunk.offsets[i]}"
                raise NewerVisitBatch(f"{place}: {error}") from None
        if dead_letters:
            await self._reject(dead_letters)
        return visit_batches

    async def _flush(self, current: State, scored: Scored) -> None:
        batch, result = scored.rolled.batch, scored.rolled.rollup
        keys = keys_of(batch.students.student, batch.students.null)
        out: dict[Target, Rows] = {
            (self.names.sessions, 0): rows.sessions(batch, keys),
            (self.names.agg, 0): rows.totals(batch, result, keys),
        }
        if self.model is not None:
            out[self.names.prediction, 0] = rows.predictions(scored, keys, self.model_headers())
        records = state.pack(result.totals, batch.sessions)
        named = dict(zip(keys, records, strict=True))
        if await current.flush(out, named, batch.position, (batch.students, records)):
            self._count(scored, out)
            self._report_gaps(batch.gaps)
            for chunk in batch.done:
                assert isinstance(chunk, Chunk)
                self.log.processed(chunk)
                await failpoints.at("processed")

    def model_headers(self) -> list[tuple[str, bytes | None]]:
        """What every prediction says of the model that made it."""
        if self.model is None:
            return []
        if self._said_of is not self.model:  # hashing it for every flush would cost a tenth of a small one
            self._said_of, self._headers = self.model, [("model", self.model.sha256.encode())]
        return self._headers

    def _count(self, scored: Scored, out: Mapping[Target, Rows]) -> None:
        batch = scored.rolled.batch
        self.counts.add("flushes")
        self.counts.add("visits", len(batch.visits))
        self.counts.add("late", batch.late)
        self.counts.add("repeated", batch.repeated)
        self.counts.add("detached_slices", batch.detached)
        for (topic, _), some in out.items():
            self.counts.add("rows", len(some), topic)

    def _report_gaps(self, gaps: Sequence[Gap]) -> None:
        self.counts.add("gaps", len(gaps))
        for gap in gaps:
            log.error(
                "topic %s: a frame could not be read, see topic %s; what it held of topic %s partition %d, offsets "
                "%d to %d, does not count",
                self.names.visits, self.names.dead_letters, self.names.source, gap.source, gap.begin, gap.end - 1,
            )  # fmt: skip

    # -- predictions -> in risk

    async def run_alert(self, deliveries: AsyncIterable[Delivery]) -> None:
        """Forward the predictions that say a student is in risk, whoever wrote them."""
        async for alerted in alert(self._predictions(deliveries)):
            if (current := self.log.alerts()) is None:
                continue
            dead_letters: list[DeadLetter] = []
            fresh = []
            for chunk, result in zip(alerted.chunks, alerted.results, strict=True):
                # what was forwarded before the last commit comes again after a restart
                new = int(np.searchsorted(np.asarray(chunk.offsets, np.int64), current.next_offset))
                fresh.append((chunk, result, new))
                dead_letters += [DeadLetter.of(chunk, s.index, s.reason, "") for s in result.skips if s.index >= new]
            out = rows.in_risk(fresh)
            wanted: dict[Target, Rows] = {(self.names.in_risk, 0): out}
            if dead_letters:
                wanted[self.names.dead_letters, 0] = [x.row for x in dead_letters]
            next_offset = {NEXT_OFFSET_KEY: pack_next_offset(alerted.chunks[-1].next_offset)}
            # without rows nothing need be remembered: what is read again says nothing again
            if not any(wanted.values()) or await current.flush(wanted, next_offset):
                self._report(dead_letters)
                self.counts.add("predictions_read", sum(len(chunk) - new for chunk, _, new in fresh))
                self.counts.add("rows", len(out), self.names.in_risk)
                for chunk in alerted.chunks:
                    self.log.processed(chunk)

    async def _predictions(self, deliveries: AsyncIterable[Delivery]) -> AsyncIterator[list[Chunk]]:
        """What has arrived, together; then, where that was all there is, a pause in which more can arrive."""
        chunks: list[Chunk] = []
        generation: int | None = None
        async for d in deliveries:
            if d.generation != generation:
                generation, chunks = d.generation, []  # from before a rebalance: whoever owns it reads it again
            chunks.append(d.chunk)
            if d.more and sum(map(len, chunks)) < ALERT_ROWS:
                continue
            yield chunks
            chunks = []
            if self.alert_pause_s and len(d.chunk) and not d.chunk.lagging:
                await asyncio.sleep(self.alert_pause_s)


class _Current:
    """The state of the partition whose batch is under way.

    A batch is loaded from one state object and flushed to the same one: if a rebalance replaced it
    meanwhile, it is closed, and the flush does nothing.
    """

    state: State

    def __init__(self, log_: Log) -> None:
        self._log = log_

    def turn_to(self, partition: int) -> bool:
        """Take the partition's state as it is now; False if it is not ours."""
        found = self._log.students(partition)
        if found is not None:
            self.state = found
        return found is not None

    @property
    def position(self) -> Position:
        return self.state.position

    def load(self, students: StudentDictionary) -> Sequence[bytes | None]:
        return self.state.load(students)
