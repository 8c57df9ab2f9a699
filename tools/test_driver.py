"""A test driver for the pipeline: the agents over a log and a state in memory, without a broker.

Kafka Streams has its TopologyTestDriver for this. Parity cases and property tests feed records here; the agents
are those of the worker. Users of the pipeline can use it to test what the app makes of their own log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from agents.pipeline import Options, Pipeline
from agents.ports import Agent, Delivery, StatePartition, Target
from app.kafka.cohort_sums import CohortSums
from app.ops.metrics import Metrics
from app.settings import Settings
from app.topology import risk_options
from codec.avro_schema import Json
from codec.dead_letters import DeadLetter
from codec.moodle_log import LogDecoder
from codec.record_batch import Rows
from models import activity_records as activities
from models import early_events
from models import forgotten as last_forgotten
from models import log_ids as applied_ids
from models import position as positions
from models import ticks as stored_ticks
from models.activity_records import Packed
from models.chunk import Chunk, Headers
from models.cohorts import Cohorts
from models.forgotten import Forgotten
from models.log_ids import Bitmaps
from models.murmur2 import keys_of
from models.position import Position
from models.risk import RiskModel
from models.rules import Int64s
from models.standing import StandingModel
from models.ticks import Ticks
from models.visits import StudentDictionary


class KnownSchemas:
    """Schemas by their ids, for the decoder of a driver. Implements codec.moodle_log.SchemaSource."""

    def __init__(self, schemas: Mapping[int, Json]) -> None:
        self._schemas = schemas

    async def schema(self, schema_id: int) -> Json:
        """Return a schema; None for an id that is not known."""
        return self._schemas.get(schema_id)


class Written(NamedTuple):
    """A row the pipeline has written."""

    at: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers
    #: index of the input being fed when the row came out
    source: int


class MemoryState:
    """One partition of a state table, in a dict. Implements agents.ports.StatePartition."""

    def __init__(self, sink: TopologyTestDriver) -> None:
        self._sink = sink
        self.records: dict[bytes, bytes] = {}
        self.position = Position.start(1)
        self.number, self.generation = 0, 0

    def read(self, key: bytes) -> bytes | None:
        """Return one record."""
        return self.records.get(key)

    @property
    def next_offset(self) -> int:
        """The offset of the first prediction that has not been read."""
        return positions.unpack_next_offset(self.read(positions.NEXT_OFFSET_KEY))

    @property
    def forgotten(self) -> Forgotten:
        """The last request to forget students that has been applied."""
        return last_forgotten.unpack(self.read(last_forgotten.KEY))

    def load(self, students: StudentDictionary) -> Sequence[bytes | None]:
        """Return the state record of each student [u]."""
        return [self.records.get(key) for key in keys_of(students.student, students.null)]

    def log_ids(self, spans: Int64s) -> Bitmaps:
        """Return which log ids of each of `spans` [b] have been applied."""
        return applied_ids.unpack([self.records.get(key) for key in applied_ids.keys_of(spans)])

    @property
    def ticks(self) -> Ticks | None:
        """The days of which the cohort sums are written, and as of which the students are scored."""
        return stored_ticks.unpack(self.read(stored_ticks.KEY))

    def activity(self, students: Int64s) -> Sequence[bytes | None]:
        """Return the record of activity of each of `students` [u]."""
        return [self.records.get(key) for key in activities.keys_of(students)]

    def early(self, students: Int64s) -> Sequence[bytes | None]:
        """Return the record of early events of each of `students` [u]."""
        return [self.records.get(key) for key in early_events.keys_of(students)]

    def scan_early(self, students: int) -> Iterator[tuple[Int64s, Sequence[bytes]]]:
        """Yield all records of early events with their students, so many at a time."""
        keys = sorted(filter(early_events.is_key, self.records))
        for i in range(0, len(keys), students):
            some = keys[i : i + students]
            yield early_events.students_of(some), [self.records[key] for key in some]

    def scan_activity(self, students: int) -> Iterator[Packed]:
        """Yield all records of activity by student, so many at a time."""
        keys = sorted(filter(activities.is_key, self.records))
        for i in range(0, len(keys), students):
            some = keys[i : i + students]
            yield activities.join(activities.students_of(some), [self.records[key] for key in some])

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
        """Keep rows and records, and convert the position to its stored form and back, as a restart would."""
        for (topic, _), written in [*rows.items(), *more]:
            self._sink.write(topic, written)
        changed: dict[bytes, bytes | None] = {}
        for by_student, keys_of_records in ((activity or {}, activities.keys_of), (early or {}, early_events.keys_of)):
            keys = keys_of_records(np.array([*by_student], np.int64))
            changed |= dict(zip(keys, by_student.values(), strict=True))
        if ticks is not None:
            changed[stored_ticks.KEY] = stored_ticks.pack(ticks)
        for key, record in [*records.items(), *(log_ids or {}).items(), *changed.items()]:
            if record is None:
                self.records.pop(key, None)
            else:
                self.records[key] = record
        if position is not None:
            lagging = position.watermarks.lagging
            self.position = positions.unpack(positions.pack(position), 1)
            self.position.watermarks.lagging[:] = lagging
        return True


@dataclass
class TopologyTestDriver:
    """The pipeline over a log of one partition a topic. Implements agents.ports.Log.

    Use as an async context manager, and `feed` it; `topics` then has what came out.
    """

    settings: Settings
    decoder: LogDecoder
    #: the totals model, which scores MOODLE_LOGS_PREDICTION; None: there is none
    model: RiskModel | None = None
    #: the standing model, which scores MOODLE_RISK and, without a totals model, MOODLE_LOGS_PREDICTION; None: off
    standing: StandingModel | None = None
    #: the rows written so far, by topic
    topics: dict[str, list[Written]] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = self.settings.topic_names
        self.metrics = Metrics()
        options = Options(
            batch_rows=self.settings.batch_rows,
            emit_every_change=self.settings.emit_every_change,
            unit=self.settings.time_unit,
            max_ahead_ms=self.settings.max_ahead_ms,
            deduplicate=self.settings.deduplicates,
            risk=None if self.standing is None else risk_options(self.settings, self.standing),
        )
        self.pipeline = Pipeline.build(self, self.names, self.decoder, self.model, self.metrics, options, partitions=1)
        self._students, self._alerts = MemoryState(self), MemoryState(self)
        self._sums = CohortSums(self.settings, 1)
        self._queues: dict[str, asyncio.Queue[Delivery | None]] = {}
        self._offsets: dict[str, int] = {}
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._visit_batches: list[bytes] = []
        self._source = -1

    async def __aenter__(self) -> TopologyTestDriver:
        agents: dict[str, Agent] = {
            self.names.source: self.pipeline.repartition,
            self.names.visits: self.pipeline.process,
            self.names.prediction: self.pipeline.alert,
        }
        self._queues = {topic: asyncio.Queue() for topic in agents}
        self._tasks = [asyncio.create_task(agent.run(self._deliveries(topic))) for topic, agent in agents.items()]
        return self

    async def __aexit__(self, *_: object) -> None:
        for queue in self._queues.values():
            queue.put_nowait(None)
        await asyncio.gather(*self._tasks)

    async def _deliveries(self, topic: str) -> AsyncIterator[Delivery]:
        while (delivery := await self._queues[topic].get()) is not None:
            yield delivery

    async def feed(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None = None,
        *,
        source: int = -1,
    ) -> None:
        """Deliver one fetch of `topic`; return when everything that follows from it is written."""
        self._source = source
        await self._deliver(topic, keys, values, headers)
        if self._visit_batches:
            visit_batches, self._visit_batches = self._visit_batches, []
            await self._deliver(self.names.visits, [None] * len(visit_batches), visit_batches, None)

    def seek(self, topic: str, offset: int) -> None:
        """Let the next fetch of a topic begin at this offset, as a new owner does at the last commit."""
        self._offsets[topic] = offset

    async def _deliver(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None,
    ) -> None:
        start = self._offsets.get(topic, 0)
        stop = self._offsets[topic] = start + len(values)
        chunk = Chunk(topic, 0, range(start, stop), keys, values, start, stop, stop, headers)
        done = self._waiting[id(chunk)] = asyncio.get_running_loop().create_future()
        self._queues[topic].put_nowait(Delivery(chunk, 1, frozenset({0})))
        await asyncio.wait([done, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done():
                task.result()  # raises the exception that ended the agent

    def write(self, topic: str, rows: Rows) -> None:
        """Keep rows of a flush."""
        kept = self.topics.setdefault(topic, [])
        kept += [Written(*row, self._source) for row in rows]
        if topic == self.names.cohorts:
            for _, key, value, _ in rows:
                self._sums.apply(key or b"", value)

    async def send_visits(self, visit_batches: Sequence[Sequence[bytes]]) -> None:
        """Keep visit batches, which `feed` delivers next."""
        self._visit_batches += visit_batches[0]

    async def send_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Keep records that could not be used."""
        self.dead_letters += dead_letters

    async def processed(self, chunk: Chunk) -> None:
        """Wake `feed`, which waits for this."""
        self._waiting.pop(id(chunk)).set_result(None)

    def pause(self, topic: str, partition: int, waits_for: str = "") -> None:
        """No-op: nothing is fetched here."""

    def resume(self, topic: str, partition: int) -> None:
        """No-op: nothing is fetched here."""

    async def cohorts(self, partition: StatePartition, days: Sequence[int]) -> Mapping[int, Cohorts] | None:
        """Return the cohort sums of the one partition as of each of `days`."""
        assert not days or self._sums.are_complete(max(days)), "sums are written before they are asked for"
        return await self._sums.tables(days)

    def outdated_sums(self, partition: int) -> Sequence[bytes]:
        """Return the keys of the cohort sums that are not needed any more."""
        return self._sums.outdated(partition)

    def students(self, partition: int) -> MemoryState:
        """Return the one partition of students."""
        return self._students

    def alerts(self) -> MemoryState:
        """Return the state of `alert`."""
        return self._alerts
