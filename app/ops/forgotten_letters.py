"""Dead letters of students who are forgotten: the topic is written anew without them, and its beginning deleted.

A dead letter has the key of the record that could not be used, so the topic cannot be compacted by student. Those
that name one of the students are left out. Of those that cannot be read, and may name one, origin and reason are kept
and the content is not: the record itself is where its origin says. All others are written again as they are, once each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from app.errors import ConfigError
from app.kafka.ranges import read_ranges
from app.kafka.registry import SchemaRegistry
from app.kafka.registry_client import Login
from app.settings import Settings
from codec.avro_schema import Json
from codec.named_users import named_users, schema_id
from codec.record import Row
from models.chunk import Headers
from models.predictions import InvalidPrediction, parse

#: how long the registry may take to answer [s]
_PATIENCE_S = 10.0
_ORIGIN = ("dead-letter.topic", "dead-letter.partition", "dead-letter.offset")
#: header of a dead letter whose content was erased: its size [bytes]
_ERASED = "dead-letter.erased"


class Verdict(Enum):
    """What becomes of a dead letter."""

    KEEP = "it names none of the students"
    DROP = "it names one"
    EMPTY = "it cannot be read, and may name one"


@dataclass(frozen=True, slots=True)
class Letters:
    """The dead letters up to `end`, as they are to be."""

    rows: Sequence[Row]
    #: numbers of those that are left out, and of those that are emptied
    dropped: int
    emptied: int
    end: int

    @property
    def unchanged(self) -> bool:
        """Whether nothing has to be done."""
        return not self.dropped and not self.emptied


async def read(settings: Settings, consumer: AIOKafkaConsumer, ids: Collection[int]) -> Letters:
    """Read the dead letters, without those of the students `ids`.

    Raises ConfigError if the registry does not answer.
    """
    tp = TopicPartition(settings.topic_names.dead_letters, 0)
    begins, ends = await consumer.beginning_offsets([tp]), await consumer.end_offsets([tp])
    records = [record async for batch in read_ranges(consumer, begins, ends) for record in batch]
    records = [record for record in records if record.offset < ends[tp]]
    schemas = await _schemas(settings, records)
    rows: dict[object, Row] = {}
    verdicts = []
    for record in records:
        verdict = judge(record, settings.source_topic, ids, schemas)
        verdicts.append(verdict)
        if verdict is not Verdict.DROP:
            # after a crash a dead letter may be there twice, and so it is if this was interrupted
            rows[_origin(record)] = _row(record, emptied=verdict is Verdict.EMPTY)
    return Letters(list(rows.values()), verdicts.count(Verdict.DROP), verdicts.count(Verdict.EMPTY), ends[tp])


def judge(record: ConsumerRecord, source: str, ids: Collection[int], schemas: Mapping[int, Json]) -> Verdict:
    """Whether a dead letter names one of the students `ids`; source: the source topic; schemas: by id."""
    headers = dict(record.headers)
    if record.key is None and not record.value:
        return Verdict.KEEP  # it has no content
    if headers.get("dead-letter.topic") == source.encode():
        number = schema_id(record.value)
        users = None if number is None else named_users(schemas.get(number), record.value)
    elif "dead-letter.truncated" in headers or headers.get("dead-letter.reason") in (b"bad-frame", None):
        users = None
    else:
        users = _predicted(record.key, record.value)
    if users is None:
        return Verdict.EMPTY
    return Verdict.DROP if users.intersection(ids) else Verdict.KEEP


def _predicted(key: bytes | None, value: bytes | None) -> frozenset[int] | None:
    """The students that a prediction names by key or value; None if it cannot be told."""
    named = {int(key)} if key is not None and key.isdigit() and len(key) < 20 else set[int]()
    try:
        prediction = parse(value)
    except InvalidPrediction:
        return frozenset(named) or None
    if prediction is not None and prediction.userid is not None:
        named.add(prediction.userid)
    return frozenset(named) or None


async def _schemas(settings: Settings, records: Iterable[ConsumerRecord]) -> dict[int, Json]:
    """Return the schemas of the dead letters by id; None for an unknown one."""
    source = settings.source_topic.encode()
    of_source = [r for r in records if dict(r.headers).get("dead-letter.topic") == source]
    wanted = {number for record in of_source if (number := schema_id(record.value)) is not None}
    if not wanted:
        return {}
    registry = SchemaRegistry(settings.schema_registry, Login.of(settings))
    try:
        answers = asyncio.gather(*(registry.schema(number) for number in sorted(wanted)))
        return dict(zip(sorted(wanted), await asyncio.wait_for(answers, _PATIENCE_S), strict=True))
    except TimeoutError:
        raise ConfigError(
            f"no schema registry answers at {registry.name} ({registry.last_error}), and dead letters cannot be read "
            "without it: start it, or set RISK_SCHEMA_REGISTRY; then run this again"
        ) from None


def _origin(record: ConsumerRecord) -> object:
    headers = dict(record.headers)
    origin = tuple(headers.get(name) for name in _ORIGIN)
    return record.offset if None in origin else (*origin, headers.get("dead-letter.reason"))


def _row(record: ConsumerRecord, *, emptied: bool) -> Row:
    if not emptied:
        return record.timestamp, record.key, record.value, list(record.headers)
    nbytes = len(record.key or b"") + len(record.value or b"")
    kept: Headers = [(name, value) for name, value in record.headers if name.startswith("dead-letter.")]
    return record.timestamp, None, b"", [*kept, (_ERASED, b"%d" % nbytes)]
