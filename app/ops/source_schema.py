"""The schema of the source topic at the start: from its subject, or from the id in its latest record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from app.errors import ConfigError
from app.kafka.clients import new_consumer
from app.kafka.ranges import read_ranges
from app.kafka.registry import SchemaRegistry
from app.settings import Settings
from codec.avro import HEADER
from codec.avro_schema import DeclaredColumns, Json
from codec.moodle_log import WIDE_ID_REMEDY, wide_schema_id
from codec.risk_fields import missing_columns
from models.counting import COLUMNS, CountingRules

log = logging.getLogger(__name__)

T = TypeVar("T")

#: number of records of each partition that are looked at
_LATEST = 10
#: how long to wait for them [s]
_FETCH_S = 3.0
#: names of the headers in which Apicurio's converter can put ids begin with this
_APICURIO_HEADER = "apicurio.value."


@dataclass(frozen=True, slots=True)
class SourceSchema:
    """The schema whose columns are declared, as by KSQL's CREATE STREAM."""

    schema_id: int
    schema: Json
    #: where it is from, for messages
    origin: str


async def source_schema(
    settings: Settings, registry: SchemaRegistry, partitions: int, patience_s: float
) -> SourceSchema:
    """Find the source topic's schema; patience_s: how long the registry may take to answer.

    Raises ConfigError if there is none, or if all of the latest records have ids in another format.
    """
    topic = settings.source_topic
    try:
        latest = await latest_records(settings, topic, partitions)
    except KafkaError as error:
        raise ConfigError(f"{settings.broker} (RISK_BROKER) refused: {error}") from error
    _refuse_foreign_ids(topic, latest)
    subject = settings.schema_subject or f"{topic}-value"
    found = await _answer(registry, registry.latest(subject), patience_s)
    if found is not None:
        return SourceSchema(*found, f"subject {subject}")
    framed = [r for r in latest if r.value is not None and len(r.value) >= HEADER and r.value[0] == 0]
    if settings.schema_subject or not framed:
        raise ConfigError(
            f"the schema registry has no subject {subject}: let the connector write a row with an Avro converter "
            "first, or set RISK_SCHEMA_SUBJECT"
        )
    record = max(framed, key=lambda r: r.timestamp)
    schema_id = int.from_bytes(record.value[1:HEADER], "big")
    schema = await _answer(registry, registry.schema(schema_id, patiently=False), patience_s)
    if schema is None:
        raise ConfigError(
            f"the schema registry has neither the subject {subject} nor an Avro schema with the id {schema_id} of "
            f"{_place(record)}: check that it is the connector's, or set RISK_SCHEMA_SUBJECT"
        )
    return SourceSchema(schema_id, schema, f"schema id {schema_id} of {_place(record)}")


async def _answer(registry: SchemaRegistry, answer: Awaitable[T], patience_s: float) -> T:
    try:
        return await asyncio.wait_for(answer, patience_s)
    except TimeoutError:
        raise ConfigError(
            f"no schema registry answers at {registry.name} ({registry.last_error or 'silence'}): start it, or set "
            "RISK_SCHEMA_REGISTRY"
        ) from None


async def latest_records(settings: Settings, topic: str, partitions: int) -> list[ConsumerRecord]:
    """Return up to _LATEST of the latest committed records of each partition; those that arrive in time."""
    tps = [TopicPartition(topic, partition) for partition in range(partitions)]
    records: list[ConsumerRecord] = []
    async with new_consumer(settings) as consumer:
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        starts = {tp: max(begins[tp], ends[tp] - _LATEST) for tp in tps}
        async for batch in read_ranges(consumer, starts, ends, timeout_s=_FETCH_S):
            records += batch
    return records


def _refuse_foreign_ids(topic: str, latest: Sequence[ConsumerRecord]) -> None:
    """Raise ConfigError if all records have their ids where Apicurio's own format has them."""
    records = [r for r in latest if r.value is not None]
    if records and all(wide_schema_id(r.value) is not None for r in records):
        raise ConfigError(f"topic {topic}: the schema ids of its latest records have 8 bytes: {WIDE_ID_REMEDY}")
    if records and all(any(name.startswith(_APICURIO_HEADER) for name, _ in r.headers) for r in records):
        raise ConfigError(
            f"topic {topic}: the schema ids of its latest records are in headers: set "
            "value.converter.apicurio.registry.headers.enabled=false in the connector, the same for key.converter"
        )


def counting_rules(settings: Settings, declared: DeclaredColumns) -> CountingRules:
    """Return what counts for the risk in a log with the `declared` columns, and log what is missing.

    Courses are told apart if they can be.
    """
    rules = settings.counting
    missing = missing_columns(declared.columns)
    unused = {"EVENTNAME"} if not rules.submission_events else set()
    unused |= {"COURSEID"} if not rules.per_course else set()
    lacks = [f"{name.lower()} ({COLUMNS[name]})" for name in missing if name not in unused]
    if lacks:
        log.info("topic %s: the risk does without the columns %s", settings.source_topic, ", ".join(lacks))
    return replace(rules, per_course=rules.per_course and "COURSEID" not in missing)


def _place(record: ConsumerRecord) -> str:
    return f"topic {record.topic} partition {record.partition} offset {record.offset}"
