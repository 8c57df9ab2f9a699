"""The positions and ticks that the changelog of the table of students holds, read from the ends of its partitions."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import TopicPartition

from app.kafka.clients import new_consumer
from app.kafka.ranges import read_ranges
from app.settings import Settings
from models import position as positions
from models import ticks
from models.state import StateError
from models.ticks import Ticks

#: number of records before its end from which a partition is read, and the factor for the next attempt. Every flush
#: ends with a position, so one is found at once unless long transactions were aborted behind it
_FIRST, _FURTHER = 100, 30


async def read_positions(settings: Settings, partitions: int) -> list[bytes | None]:
    """Return the last committed position record of each partition of the changelog, None for one without."""
    return await _read_last(settings, partitions, positions.KEY)


async def read_ticks(settings: Settings, partitions: int) -> list[Ticks | None]:
    """Return the ticks of each partition of the changelog, None for one without, of which all is read.

    Raises StateError for a record that cannot be read.
    """
    return [ticks.unpack(record) for record in await _read_last(settings, partitions, ticks.KEY)]


async def _read_last(settings: Settings, partitions: int, key: bytes) -> list[bytes | None]:
    """Return the last committed record under `key` of each partition of the changelog."""
    consumer = new_consumer(settings)
    await consumer.start()
    try:
        topic, records, distance = settings.topic_names.students_changelog, dict[TopicPartition, bytes](), _FIRST
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        missing = {tp for tp in tps if begins[tp] < ends[tp]}
        while missing:
            starts = {tp: max(begins[tp], ends[tp] - distance) for tp in missing}
            async for batch in read_ranges(consumer, starts, ends):
                for record in batch:
                    if record.key == key and record.value:
                        records[TopicPartition(record.topic, record.partition)] = record.value
            missing = {tp for tp in missing if tp not in records and starts[tp] > begins[tp]}
            distance *= _FURTHER
        return [records.get(tp) for tp in tps]
    finally:
        await consumer.stop()


def divided_by(records: Sequence[bytes | None]) -> int:
    """Return the number of partitions among which the students of these position records are divided.

    0 if there is no record. If none states it (layout 2), it is that of the partitions up to the last that has one.
    Raises StateError for a record that cannot be read.
    """
    stated = max((positions.unpack(record, 0).partitions for record in records), default=0)
    return stated or max((number for number, record in enumerate(records, 1) if record is not None), default=0)


def unfinished_growth(topic: str, records: Sequence[bytes | None]) -> str | None:
    """Return what to say if the position records of the partitions of a changelog are for another number of them.

    None if they fit. Records that cannot be read are left to the worker, which says what to do about them.
    """
    for record in records:
        try:
            stated = positions.unpack(record, 0).partitions
        except StateError:
            continue
        if stated not in (0, len(records)):
            return divided_otherwise(topic, len(records), stated)
    return None


def divided_otherwise(topic: str, partitions: int, stated: int) -> str:
    """Say that the students in a changelog of `partitions` are divided among another number, and what to do."""
    return (
        f"topic {topic} has {partitions} partitions, and its students are divided among {stated}: growing was "
        f"interrupted; stop all workers, then run faust -A app grow --partitions {max(partitions, stated)}"
    )
