"""What a flush writes to Kafka, and how it is sent: alone, or with the flushes of other partitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeAlias

from aiokafka import AIOKafkaProducer

from agents.ports import Target
from app.kafka.producer import SentBatch, last_offset, send_rows
from codec.record_batch import Rows, changelog_rows

#: state records by key; None: to be deleted
Records: TypeAlias = Mapping[bytes, bytes | None]
#: number of records up to which flushes are sent together
_SMALL = 500
#: number of records that become rows at once: many would hold the event loop
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Writes:
    """What a flush writes: rows of outputs, in order, and then changes of the state to the changelog."""

    outputs: Sequence[tuple[Target, Rows]]
    changelog: Target
    #: of different sizes: not in one batch, whose columns would be mostly padding
    changes: Sequence[Records]

    @property
    def is_small(self) -> bool:
        """Whether it costs mostly requests, so that it is worth waiting for others."""
        return sum(map(len, self.changes)) <= _SMALL and sum(len(rows) for _, rows in self.outputs) <= 4 * _SMALL

    def changelog_rows(self) -> list[tuple[Target, Rows]]:
        """All rows of the changelog, of a flush that is small."""
        now = _now()
        return [(self.changelog, changelog_rows(records, now)) for records in self.changes if records]


async def send_together(producer: AIOKafkaProducer, flushes: Sequence[Writes]) -> list[int]:
    """Hand small flushes to a producer, and wait for the broker; return the last offset of the changelog of each.

    Each partition gets one record batch: a second one would wait until the first is sent.
    """
    rows: dict[Target, list[Rows]] = {}
    for writes in flushes:
        for target, some in chain(writes.outputs, writes.changelog_rows()):
            if len(some):
                rows.setdefault(target, []).append(some)
    sent: dict[Target, list[SentBatch]] = {}
    for (topic, partition), parts in rows.items():
        joined = parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))
        sent[topic, partition] = await send_rows(producer, topic, partition, joined)
    await last_offset([batch for batches in sent.values() for batch in batches])
    return [await last_offset(sent.get(writes.changelog, [])) for writes in flushes]


async def send_one(producer: AIOKafkaProducer, writes: Writes) -> list[int]:
    """Hand a flush to a producer, and wait for the broker; return the last offset of the changelog."""
    sent = []
    for (topic, partition), output in writes.outputs:
        sent += await send_rows(producer, topic, partition, output)
    changed: list[SentBatch] = []
    now = _now()
    for records in writes.changes:
        async for rows in changelog_pieces(records, now):
            changed += await send_rows(producer, *writes.changelog, rows)
    await last_offset(sent + changed)
    return [await last_offset(changed)]


async def changelog_pieces(records: Records, at: int) -> AsyncIterator[Rows]:
    """Yield the rows of state records, with the timestamp `at` [ms], some at a time: many would hold the event loop."""
    left = iter(records.items())
    while some := dict(islice(left, _AT_ONCE)):
        yield changelog_rows(some, at)
        if len(some) == _AT_ONCE:
            await asyncio.sleep(0)


def _now() -> int:
    return time.time_ns() // 1_000_000
