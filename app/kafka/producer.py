"""Writes rows to Kafka in batches: a fraction of a microsecond a row, where single messages cost ten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from app.errors import RefusedRows
from app.kafka.topic_limits import AFTER, ANY_TIME, BEFORE, LARGE_BATCHES
from app.upstream.aiokafka import EncodedBatchBuilder, RowBatchBuilder, is_transactional, new_builder
from codec.record import Row
from codec.record_batch import OutputColumns, Rows, batches

#: what to set on a topic that refuses rows, by the broker's error
_REMEDIES: dict[type[KafkaError], dict[str, str]] = {
    InvalidTimestampError: {name: ANY_TIME[name] for name in (BEFORE, AFTER)},
    MessageSizeTooLargeError: LARGE_BATCHES,
    RecordListTooLargeError: {"segment.bytes": "1073741824"},
}
#: maximum size of a record batch [bytes]; the broker refuses batches above 1 MiB
BATCH_BYTES = 960_000
#: how long to wait before a broker is asked again for the partitions of a topic [s]
_METADATA_RETRY_S = 0.05


class SentBatch(NamedTuple):
    """A record batch that was handed to a producer."""

    #: the broker's answer
    answer: asyncio.Future[Any]
    #: number of rows
    rows: int
    topic: str
    partition: int


async def send_rows(producer: AIOKafkaProducer, topic: str, partition: int, rows: Rows) -> list[SentBatch]:
    """Hand rows to the producer, in order, as record batches.

    Raises ValueError for a row that does not fit into a batch.
    """
    made: Iterator[EncodedBatchBuilder] | Iterator[RowBatchBuilder]
    if isinstance(rows, OutputColumns) and rows.row_headers is None:
        made = _encoded_batches(producer, rows)
    else:
        made = _built_batches(producer, topic, rows)
    sent: list[SentBatch] = []
    for batch in made:
        if sent:
            await asyncio.sleep(0)  # many rows would hold the event loop
        answer = await producer.send_batch(batch, topic, partition=partition)
        sent.append(SentBatch(answer, batch.record_count(), topic, partition))
    return sent


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


async def wait_for_partitions(producer: AIOKafkaProducer, topic: str, count: int, patience_s: float) -> None:
    """Wait until the producer knows `count` partitions of a topic.

    A broker lists new partitions a moment after it has agreed to create them, and the client keeps what it was told.
    Raises KafkaTimeoutError.
    """
    deadline = time.monotonic() + patience_s
    while (known := len(await producer.partitions_for(topic))) < count:
        if time.monotonic() > deadline:
            raise KafkaTimeoutError(f"{known} of {count} partitions of topic {topic} are known after {patience_s} s")
        await producer.client.force_metadata_update()
        await asyncio.sleep(_METADATA_RETRY_S)


async def last_offset(sent: Sequence[SentBatch]) -> int:
    """Wait for all batches; return the offset of the last row, -1 if there was none.

    Raises RefusedRows for an error that only another configuration of the topic ends, and the broker's other errors.
    """
    try:
        answers = await asyncio.gather(*(batch.answer for batch in sent))
    except (InvalidTimestampError, MessageSizeTooLargeError, RecordListTooLargeError) as error:
        raise _refused(sent, error) from error
    return int(answers[-1].offset) + sent[-1].rows - 1 if sent else -1


def _refused(sent: Sequence[SentBatch], error: KafkaError) -> RefusedRows:
    batch = next(b for b in sent if b.answer.done() and not b.answer.cancelled() and b.answer.exception() is error)
    configs = ",".join(f"{name}={value}" for name, value in _REMEDIES[type(error)].items())
    return RefusedRows(
        f"topic {batch.topic} partition {batch.partition}: the broker refuses rows ({error.message}), and would do so "
        f"for ever; nothing is lost: set it (kafka-configs --alter --add-config {configs}) and start again"
    )
