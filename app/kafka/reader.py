"""Chunks from aiokafka's fetched record batches, without a Python object per record.

tests/test_reader.py compares them with the public consumer's records.
"""

from __future__ import annotations

from collections.abc import Collection

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from app.kafka.record_columns import columns
from app.upstream.aiokafka import FetchedBatches, read_fetched
from models.chunk import Chunk

#: a fetch of up to this many records is read record by record, which costs less than setting up columns
FEW_RECORDS = 24


async def read_chunks(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], timeout: float, max_rows: int
) -> list[Chunk]:
    """Return what has been fetched of `partitions`, one chunk each; wait up to `timeout` s for the first.

    A chunk ends with the record batch that brings it to `max_rows`. Offsets that hold no record
    for the reader (control markers, aborted transactions) give a chunk without records.
    Raises the broker's errors, e.g. of authorization; needs `app.upstream.install()`.
    """
    return await read_fetched(consumer, partitions, timeout, max_rows, make_chunk)


def make_chunk(tp: TopicPartition, fetched: FetchedBatches) -> Chunk:
    """Read the records of the batches from the offset `fetched.start` on."""
    nbytes = sum(len(batch.raw) for batch in fetched.batches)
    read = columns(fetched.batches) if fetched.count > FEW_RECORDS else None
    if read is not None:
        read = read.since(fetched.start)
        return Chunk(
            tp.topic, tp.partition, read.offset, read.keys, read.values,
            fetched.start, fetched.next_offset, fetched.end, read.headers, nbytes=nbytes,
        )  # fmt: skip
    records = [r for batch in fetched.batches for r in batch.iterator if r.offset >= fetched.start]
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
    )
