"""Writes rows to Kafka in batches: a fraction of a microsecond a row, where single messages cost ten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

from app.upstream.aiokafka import EncodedBatchBuilder, RowBatchBuilder, is_transactional, new_builder
from codec.record import Row
from codec.record_batch import OutputColumns, Rows, batches

#: maximum size of a record batch [bytes]; the broker refuses batches above 1 MiB
BATCH_BYTES = 960_000


async def send_rows(
    producer: AIOKafkaProducer, topic: str, partition: int, rows: Rows
) -> list[tuple[Awaitable[Any], int]]:
    """Hand rows to the producer, in order; return a future and a row count for each record batch.

    Raises ValueError for a row that does not fit into a batch.
    """
    made: Iterator[EncodedBatchBuilder] | Iterator[RowBatchBuilder]
    if isinstance(rows, OutputColumns) and rows.row_headers is None:
        made = _encoded_batches(producer, rows)
    else:
        made = _built_batches(producer, topic, rows)
    return [(await producer.send_batch(batch, topic, partition=partition), batch.record_count()) for batch in made]


def _built_batches(producer: AIOKafkaProducer, topic: str, rows: Iterable[Row]) -> Iterator[RowBatchBuilder]:
    builder, count = new_builder(producer, BATCH_BYTES), 0
    for at, key, value, headers in rows:
        # the builder accepts its first record whatever its size
        if (size := len(key or b"") + len(value or b"")) > BATCH_BYTES:
            raise ValueError(f"a row of {size} bytes does not fit a batch for topic {topic}")
        listed = headers if type(headers) is list else list(headers)
        if builder.append(count, at, key, value, listed) is None:
            yield RowBatchBuilder(builder, count)
            builder, count = new_builder(producer, BATCH_BYTES), 0
            builder.append(0, at, key, value, listed)
        count += 1
    if count:
        yield RowBatchBuilder(builder, count)


def _encoded_batches(producer: AIOKafkaProducer, rows: OutputColumns) -> Iterator[EncodedBatchBuilder]:
    for batch in batches(rows, BATCH_BYTES):
        yield EncodedBatchBuilder(batch, transactional=is_transactional(producer))


async def last_offset(sent: Sequence[tuple[Awaitable[Any], int]]) -> int:
    """Wait for all batches; return the offset of the last row, -1 if there was none. Raises the broker's errors."""
    answers = await asyncio.gather(*(future for future, _ in sent))
    return int(answers[-1].offset) + sent[-1][1] - 1 if sent else -1
