"""What an output topic holds of some students: the keys that belong to them, and whether they have a value."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.errors import ConfigError
from app.kafka.reader import read_chunks
from codec.output_rows import split_session_key
from codec.record import Row
from codec.tombstones import forgotten_at, of_keys
from models.chunk import Chunk
from models.predictions import InvalidPrediction, parse
from models.rules import GRACE_MS
from models.topic_names import TopicNames

#: records of one read
_ROWS = 50_000
#: why a record batch that cannot be read matters, and what to do about it
_MAY_BE_THEIRS = "it may be theirs: let a broker lead whose copy can be read, or delete the topic, then run this again"
#: the student, as text, to whom a record belongs by key and value; None: to none
Owner: TypeAlias = Callable[["bytes | None", "bytes | None"], "bytes | None"]


def owners(names: TopicNames) -> dict[str, Owner]:
    """How to tell whose a record is, for each output topic."""
    return {
        names.sessions: _of_session,
        names.agg: lambda key, value: key,
        names.prediction: _of_prediction,
        names.in_risk: _of_prediction,
        names.risk: _of_entry,
        names.risk_alerts: _of_entry,
        names.cases: _of_entry,
    }


@dataclass(slots=True)
class Traces:
    """Records of some students in partition 0 of a topic, as far as it has been read. Mutable."""

    topic: str
    owner: Owner
    #: the students' ids, as text
    ids: Collection[bytes]
    #: an offset that was the topic's end before the request
    before: int
    #: offset up to which the topic has been read
    position: int = 0
    #: offset of the last record of each of their keys that has a value now
    alive: dict[bytes, int] = field(default_factory=dict)
    #: the student of each of them, and of those that had one
    students: dict[bytes, bytes] = field(default_factory=dict)
    #: number of records with a value, superseded ones too; offset of the last one, -1: none
    records: int = 0
    last: int = -1
    #: the students for whom there is a tombstone of `faust -A app forget` from `before` on
    marked: set[bytes] = field(default_factory=set)

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        """Read up to the current end of committed records. Assigns the partition."""
        tp = TopicPartition(self.topic, 0)
        consumer.assign([tp])
        consumer.seek(tp, self.position or (await consumer.beginning_offsets([tp]))[tp])
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for chunk in await read_chunks(consumer, [tp], 1.0, _ROWS):
                self.add(chunk)
        self.position = await consumer.position(tp)

    def add(self, chunk: Chunk) -> None:
        """Note the records of a chunk that belong to the students. Raises ConfigError if some cannot be read."""
        if unreadable := chunk.unreadable(_MAY_BE_THEIRS):
            raise ConfigError(unreadable)
        for i, (key, value) in enumerate(zip(chunk.keys, chunk.values, strict=True)):
            student = self.owner(key, value)
            if student not in self.ids:
                continue
            assert student is not None
            offset = int(chunk.offsets[i])
            if value is not None:
                self.records, self.last = self.records + 1, offset
            if key is None:
                continue
            if value is not None:
                self.alive[key], self.students[key] = offset, student
            else:
                self.alive.pop(key, None)
                marked = chunk.headers is not None and forgotten_at(chunk.headers[i]) is not None
                if marked and offset >= self.before:
                    self.marked.add(student)

    def old(self, stream_time: Callable[[bytes], int]) -> list[bytes]:
        """The keys with a value that were written before the students were forgotten.

        stream_time: when a student was forgotten [ms]. A session that was written about that time is old if it ended
        too long before to be extended or made anew since.
        """

        def is_old(key: bytes, offset: int) -> bool:
            if offset < self.before or self.owner is not _of_session:
                return offset < self.before
            return split_session_key(key)[2] < stream_time(self.students[key]) - GRACE_MS

        return [key for key, offset in self.alive.items() if is_old(key, offset)]

    def tombstones(self, keys: Collection[bytes], stream_time: Callable[[bytes], int]) -> list[Row]:
        """Rows that delete `keys`, as the workers write them."""
        rows: list[Row] = []
        for key in keys:
            (row,) = of_keys([key], max(stream_time(self.students[key]), 0))
            rows.append((split_session_key(key)[2], *row[1:]) if self.owner is _of_session else row)
        return rows


def _of_session(key: bytes | None, value: bytes | None) -> bytes | None:
    try:
        return None if key is None else split_session_key(key)[0]
    except struct.error:
        return None


def _of_entry(key: bytes | None, value: bytes | None) -> bytes | None:
    return None if key is None else key.partition(b"|")[0]


def _of_prediction(key: bytes | None, value: bytes | None) -> bytes | None:
    """By its key; of another scorer's predictions, which may have any, by their value."""
    if value is None or (key is not None and key.isdigit()):
        return key
    try:
        prediction = parse(value)
    except InvalidPrediction:
        return key
    return key if prediction is None or prediction.userid is None else b"%d" % prediction.userid
