"""Chunks from aiokafka's fetched record batches, without a Python object per record.

tests/test_reader.py compares them with the public consumer's records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from app.kafka.record_columns import Batch, columns
from app.kafka.unpack import UnreadableBatch
from app.upstream.aiokafka import FetchedBatches, read_fetched
from models.chunk import Chunk, RefusedRange

#: a fetch of up to this many records and bytes is read record by record, which costs less than setting up columns
FEW_RECORDS, FEW_BYTES = 24, 1 << 16
#: maximum size of a batch, unpacked [bytes]: the default of RISK_MAX_BATCH_BYTES
MAX_BATCH_BYTES = 1 << 28


async def read_chunks(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition],
    timeout: float,
    max_rows: int,
    max_batch_bytes: int = MAX_BATCH_BYTES,
    is_over: Callable[[], bool] = lambda: False,
) -> list[Chunk]:
    """Return what has been fetched of `partitions`, one chunk each; wait up to `timeout` s for the first, or until
    `is_over`, which is asked after each answer of a broker.

    A chunk ends with the record batch that brings it to `max_rows`. Offsets that hold no record
    for the reader (control markers, aborted transactions) give a chunk without records. A batch that has more than
    `max_batch_bytes`, unpacked, is not read; the chunk says so. Raises the broker's errors, e.g. of authorization;
    needs `app.upstream.install()`.
    """
    make = partial(make_chunk, max_batch_bytes=max_batch_bytes)
    return await read_fetched(consumer, partitions, timeout, max_rows, make, is_over)


def make_chunk(tp: TopicPartition, fetched: FetchedBatches, max_batch_bytes: int = MAX_BATCH_BYTES) -> Chunk:
    """Read the records of the batches from the offset `fetched.start` on."""
    nbytes = sum(len(batch.raw) for batch in fetched.batches)
    batches, refused = fetched.batches, []
    if fetched.count > FEW_RECORDS or nbytes > FEW_BYTES:
        batches, bodies = [], []
        for batch in fetched.batches:
            try:
                bodies.append(batch.body(max_batch_bytes))
                batches.append(batch)
            except UnreadableBatch as error:
                refused.append(_refuse(batch, fetched.start, error))
        read = columns(batches, bodies)
        if read is not None:
            read = read.since(fetched.start)
            return Chunk(
                tp.topic, tp.partition, read.offset, read.keys, read.values,
                fetched.start, fetched.next_offset, fetched.end, read.headers, nbytes=nbytes, refused=tuple(refused),
            )  # fmt: skip
    records = []
    for batch in batches:
        try:
            records += batch.records(fetched.start, max_batch_bytes)
        except UnreadableBatch as error:
            refused.append(_refuse(batch, fetched.start, error))
    headers = [r.headers for r in records]
    return Chunk(
        topic=tp.topic,
        partition=tp.partition,
        offsets=[r.offset for r in records],
        keys=[r.key for r in records],
        values=[r.value for r in records],
        start=fetched.start,
        next_offset=fetched.next_offset,
        end=fetched.end,
        headers=headers if any(headers) else None,
        nbytes=nbytes,
        refused=tuple(refused),
    )


def _refuse(batch: Batch, start: int, error: UnreadableBatch) -> RefusedRange:
    first, end = batch.offsets
    return RefusedRange(max(first, start), end, str(error))
