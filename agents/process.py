"""process: visit batches -> sessions, totals and predictions, in one transaction per flush."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from agents import forget
from agents.cohort_tables import Tables
from agents.gather import Arrival, gather
from agents.notices import Notices
from agents.ports import Delivery, Log, Metrics, StatePartition, Target
from agents.rejects import report
from agents.risk import Risk
from agents.risk_output import Effect, RiskOptions
from agents.score import score
from agents.sessionize import LateVisits, Sessionized, sessionize
from agents.ticker import Ticker, count_rows
from codec import output_rows
from codec.dead_letters import DeadLetter
from codec.record_batch import Rows
from models import state
from models.chunk import Chunk
from models.murmur2 import keys_of
from models.position import Gap
from models.risk import RiskModel
from models.topic_names import TopicNames
from models.totals import roll_up
from models.visit_batch import CorruptVisitBatch, NewerVisitBatch, VisitBatch, decode

log = logging.getLogger(__name__)


_LATE = "topic %s partition %d offset %d: the visit does not count, it is late: %.1f h behind stream time"


@dataclass(frozen=True, slots=True)
class Part:
    """One record of a chunk of the visits topic; a chunk without records is one part without a visit batch."""

    chunk: Chunk
    visit_batch: VisitBatch | None
    #: offset of the record
    offset: int
    #: whether the chunk ends with this part
    is_last: bool
    #: the consumer group's generation in which it was fetched
    generation: int

    @property
    def forgets(self) -> bool:
        """Whether it is a request to forget students."""
        return self.visit_batch is not None and len(self.visit_batch.forget) > 0


class Process:
    """The agent of the visits topic."""

    def __init__(
        self,
        log: Log,
        names: TopicNames,
        model: RiskModel | None,
        metrics: Metrics,
        *,
        batch_rows: int,
        emit_every_change: bool,
        deduplicate: bool = False,
        risk: RiskOptions | None = None,
    ) -> None:
        """batch_rows: maximum number of visits in one flush, a third of it to emit every change.

        model: the totals model, which scores MOODLE_LOGS_PREDICTION; None: there is none;
        risk: None switches it and its topics off.
        """
        self._log, self._names, self._model, self._metrics = log, names, model, metrics
        # every change of a visit is five rows, all of them in memory until the transaction ends
        self._batch_rows = max(1, batch_rows // 3) if emit_every_change else batch_rows
        self._emit_every_change = emit_every_change
        self._deduplicate = deduplicate
        self._options = risk
        self._ticker: Ticker | None = None
        if risk is not None:
            tables = Tables(log, risk.model)
            self._ticker = Ticker(log, names, metrics, risk, Risk(names, risk, tables), tables)
        self._late = Notices("visits were late")
        #: every prediction names the model that made it
        self._headers = [] if model is None else [("model", model.sha256.encode())]

    async def run(self, deliveries: AsyncIterable[Delivery]) -> None:
        """Apply the visit batches that have arrived, one flush per group, until the deliveries end."""
        async for group in gather(self._arrivals(deliveries), self._batch_rows, may_exceed=False):
            for partition, parts in groupby(group, key=lambda part: part.chunk.partition):
                await self._apply(partition, list(parts))

    async def _arrivals(self, deliveries: AsyncIterable[Delivery]) -> AsyncIterator[Arrival[Part]]:
        async for delivery in deliveries:
            chunk = delivery.chunk
            visit_batches = await self._decode(chunk)
            last = len(visit_batches) - 1
            if last < 0:
                part = Part(chunk, None, chunk.start, True, delivery.generation)
                yield Arrival(part, 0, delivery.generation, delivery.has_next)
            for i, (offset, visit_batch) in enumerate(visit_batches):
                part = Part(chunk, visit_batch, offset, i == last, delivery.generation)
                yield Arrival(part, len(visit_batch), delivery.generation, i < last or delivery.has_next)

    async def _decode(self, chunk: Chunk) -> list[tuple[int, VisitBatch]]:
        """Decode the visit batches, with their offsets; what cannot be read becomes a dead letter, and a placeholder in
        the result."""
        visit_batches: list[tuple[int, VisitBatch]] = []
        dead_letters = []
        refused = deque(chunk.refused)
        for i, value in enumerate(chunk.values):
            while refused and refused[0].first < chunk.offsets[i]:
                visit_batches.append((refused[0].first, VisitBatch(0, (), corrupt=True)))
                dead_letters.append(DeadLetter.of_batch(chunk, refused.popleft()))
            offset = int(chunk.offsets[i])
            try:
                visit_batches.append((offset, decode(value or b"")))
            except CorruptVisitBatch as error:
                dead_letters.append(DeadLetter.of(chunk, i, "bad-frame", str(error)))
                visit_batches.append((offset, VisitBatch(0, (), corrupt=True)))
            except NewerVisitBatch as error:
                where = f"topic {chunk.topic} partition {chunk.partition} offset {offset}"
                raise NewerVisitBatch(f"{where}: {error}") from None
        dead_letters += [DeadLetter.of_batch(chunk, batch) for batch in refused]
        visit_batches += [(batch.first, VisitBatch(0, (), corrupt=True)) for batch in refused]
        if dead_letters:
            report(dead_letters, self._metrics, self._names.dead_letters)
            await self._log.send_dead_letters(dead_letters)
        return visit_batches

    async def _apply(self, partition: int, parts: Sequence[Part]) -> None:
        """Apply visits and requests to forget students, in their order."""
        for forgets, group in groupby(parts, key=lambda part: part.forgets):
            if not forgets:
                await self._apply_visits(partition, list(group))
                continue
            for part in group:
                await self._forget(partition, part)

    async def _forget(self, partition: int, part: Part) -> None:
        students, request = self._owned(partition, part), part.visit_batch
        if students is None or request is None or not await self._prepare(students, ()):
            return  # revoked in the meantime: the new owner reads the request again
        scoring = self._model is not None or self._options is not None
        done = await forget.apply(
            students, request, part.offset, self._names, self._metrics, scoring=scoring, risk=self._options
        )
        if done and part.is_last:
            await self._log.processed(part.chunk)

    def _owned(self, partition: int, part: Part) -> StatePartition | None:
        """The state of the partition if it is the worker's in the generation of `part`.

        The agent of a partition that the worker keeps goes on through a rebalance, in which the partition begins anew
        from its committed offset. What was fetched before must not be applied to it: it would leave a hole.
        """
        students = self._log.students(partition)
        return None if students is None or students.generation > part.generation else students

    async def _apply_visits(self, partition: int, parts: Sequence[Part]) -> None:
        students = self._owned(partition, parts[0])
        if students is None:
            return  # revoked in the meantime: the new owner reads these visit batches again
        visit_batches = [part.visit_batch for part in parts if part.visit_batch is not None]
        if await self._apply_batches(students, visit_batches):
            for part in parts:
                if part.is_last:
                    await self._log.processed(part.chunk)

    async def _apply_batches(self, students: StatePartition, batches: Sequence[VisitBatch]) -> bool:
        """Apply visit batches to a partition, in one flush, with the ticks that are due in between in another.

        False if another worker owns the partition by now.
        """
        if not await self._prepare(students, batches):
            return False
        batch = sessionize(students, batches, emit_every_change=self._emit_every_change, deduplicate=self._deduplicate)
        if self._ticker is None:
            if not await self._flush(students, batch, Effect()):
                return False
        else:
            is_first = True
            async for effect in self._ticker.steps(students, batch.counted, batch.position.watermarks.stream_time):
                if effect is None:
                    return False
                flushed = self._flush(students, batch, effect) if is_first else self._ticker.flush(students, effect)
                if not await flushed:
                    return False
                is_first = False
        self._report_gaps(batch.gaps)
        return True

    async def _prepare(self, students: StatePartition, batches: Sequence[VisitBatch]) -> bool:
        return self._ticker is None or await self._ticker.prepare(students, batches)

    async def _flush(self, students: StatePartition, batch: Sessionized, effect: Effect) -> bool:
        """Roll up, score and write a batch with its `effect`; False if another worker owns the partition by now."""
        rollup = roll_up(batch.totals, batch.changes, emit_every_change=self._emit_every_change)
        scores = score(rollup, batch.students, self._model)
        keys = keys_of(batch.students.student, batch.students.null)
        rows: dict[Target, Rows] = {
            (self._names.sessions, 0): output_rows.sessions(batch.changes, batch.students, keys, batch.visits.headers),
            (self._names.agg, 0): output_rows.totals(rollup, batch.students, keys, batch.visits.headers),
        }
        if self._model is not None:
            rows[self._names.prediction, 0] = output_rows.predictions(
                scores.owner, scores.at, scores.risk, batch.students, keys, self._headers
            )
        records = state.pack(rollup.totals, batch.sessions)
        by_key = dict(zip(keys, records, strict=True))
        if not await students.flush(
            rows,
            by_key,
            batch.position,
            (batch.students, records),
            batch.log_ids,
            activity=effect.activity,
            early=effect.early,
            ticks=effect.ticks,
            more=effect.rows if self._ticker is None else self._ticker.rows(effect),
        ):
            return False
        self._count(batch, rows)
        count_rows(self._metrics, effect.rows)
        return True

    def _count(self, batch: Sessionized, rows: Mapping[Target, Rows]) -> None:
        self._metrics.add("flushes")
        self._metrics.add("visits", len(batch.visits))
        self._metrics.add("late", len(batch.late))
        self._name_late(batch.late)
        self._metrics.add("repeated", batch.repeated)
        self._metrics.add("duplicates", batch.duplicates)
        self._metrics.add("not_counted", batch.too_late, "late")
        self._metrics.add("detached_slices", batch.detached)
        self._metrics.add("outdated_batches", batch.outdated)
        for (topic, _), written in rows.items():
            self._metrics.add("rows", len(written), topic)

    def _name_late(self, late: LateVisits) -> None:
        topic = self._names.source
        self._late.add(len(late), lambda i: _LATE % (topic, late.source[i], late.offset[i], late.behind[i] / 3_600_000))

    def _report_gaps(self, gaps: Sequence[Gap]) -> None:
        self._metrics.add("gaps", len(gaps))
        for gap in gaps:
            log.error(
                "topic %s: a visit batch could not be read, see topic %s; its visits of topic %s partition %d, offsets "
                "%d to %d, do not count",
                self._names.visits, self._names.dead_letters, self._names.source, gap.source, gap.begin, gap.end - 1,
            )  # fmt: skip
