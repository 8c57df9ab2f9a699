"""Chunks straight from aiokafka's fetcher: no Python object a record.

This and records.py are the files that lean on aiokafka's internals (the version is pinned). It does what
`Fetcher.fetched_records` and `PartitionRecords._unpack_records` do with position, CRC checks, control
batches and aborted transactions; tests/test_reader.py holds it against the public consumer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

from aiokafka.consumer import fetcher as fetchers
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException
from aiokafka.structs import TopicPartition

from app.kafka.record_columns import Batch, Kept, columns
from models.chunk import Chunk

#: fetches of up to this many records are read one by one, which costs less than setting columns up
_FEW = 24

#: how long what has been fetched of one partition, and cannot be taken, keeps the fetcher from asking for others [s]:
#: a paused one must not hold up all that is alive. aiokafka's own value is 0.1
_UNREAD_S = 0.005

# whatever is fetched in this process keeps its bytes at hand; nothing else changes
fetchers.MemoryRecords = Kept


async def read_chunks(
    fetcher: Fetcher, partitions: Collection[TopicPartition], timeout: float, max_rows: int
) -> list[Chunk]:
    """What has been fetched of `partitions`, one chunk each; waits up to `timeout` s for the first.

    A chunk ends with the record batch that brings it to `max_rows`. Offsets that hold no record
    for the reader (control markers, aborted transactions) give a chunk without records.
    Raises what the broker answered, e.g. an authorization error.
    """
    deadline = time.monotonic() + timeout
    fetcher._prefetch_backoff = _UNREAD_S
    while True:
        if fetcher._closed:
            raise ConsumerStoppedError
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        taken = [_take(fetcher, tp, partitions, max_rows) for tp in list(fetcher._records)]
        chunks = [chunk for chunk in taken if chunk is not None]  # one without records counts too
        left = deadline - time.monotonic()
        if chunks or left <= 0:
            return chunks
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=left)
        if not done:
            waiter.cancel()
            return []
        waiter.result()


def _take(fetcher: Fetcher, tp: TopicPartition, wanted: Collection[TopicPartition], max_rows: int) -> Chunk | None:
    if tp not in wanted:
        if not fetcher._subscriptions.is_assigned(tp):
            del fetcher._records[tp]
        return None
    fetched = fetcher._records[tp]
    if not isinstance(fetched, FetchResult):
        _drop(fetcher, tp)
        fetched.check_raise()
        return None
    chunk = None
    if fetched.has_more() and fetched.check_assignment(tp):
        chunk = _drain(fetched, tp, max_rows)
    if not fetched.has_more():
        _drop(fetcher, tp)
    return chunk


def _drop(fetcher: Fetcher, tp: TopicPartition) -> None:
    del fetcher._records[tp]
    # wakes the fetch routine, which asks the broker for more
    fetcher._notify(fetcher._wait_consume_future)


def _drain(fetched: FetchResult, tp: TopicPartition, max_rows: int) -> Chunk | None:
    held = fetched._partition_records
    # never used here, and it refers back to what it belongs to: a cycle would keep the whole fetch until the cycle
    # collector comes by, which is rare (app/worker.py)
    held._records_iterator = None
    start = held.next_fetch_offset
    batches: list[Batch] = []
    rows = 0
    memory = held._records
    while memory.has_next() and rows < max_rows:
        batch = _next_batch(held)
        if batch is not None:
            batches.append(batch)
            rows += batch.count
    next_offset, end = held.next_fetch_offset, _end(fetched._assignment.state_value(tp), held)
    chunk = None if next_offset == start else _chunk(tp, batches, rows, start, next_offset, end)
    fetched._update_position()
    if not memory.has_next():
        fetched._partition_records = None
    return chunk


def _chunk(tp: TopicPartition, batches: list[Batch], rows: int, start: int, next_offset: int, end: int) -> Chunk:
    nbytes = sum(len(batch.raw) for batch in batches)
    found = columns(batches) if rows > _FEW else None
    if found is not None:
        read = found.since(start)
        return Chunk(
            tp.topic, tp.partition, read.offset, read.keys, read.values, start, next_offset, end, read.headers,
            nbytes=nbytes,
        )  # fmt: skip
    records = [r for batch in batches for r in batch.iterator if r.offset >= start]
    headers = [r.headers for r in records]
    return Chunk(
        topic=tp.topic,
        partition=tp.partition,
        offsets=[r.offset for r in records],
        keys=[r.key for r in records],
        values=[r.value for r in records],
        start=start,
        next_offset=next_offset,
        end=end,
        headers=headers if any(headers) else None,
        nbytes=nbytes,
    )


def _end(state: Any, held: PartitionRecords) -> int:
    """The end for this reader: of what is committed, if it reads only that."""
    end = state.lso if held._isolation_level == READ_COMMITTED else state.highwater
    return int(held.next_fetch_offset if end is None else max(end, held.next_fetch_offset))


def _next_batch(held: PartitionRecords) -> Batch | None:
    """The next batch, None for one whose records do not count; moves the position behind it."""
    batch = held._records.next_batch()
    found = Batch(held._records.raw_batch(), batch)
    if held._check_crcs and not found.sound():
        raise CorruptRecordException(f"Invalid CRC - {held._tp}")
    # the batch's own end, not the last record's: compaction may have taken the last records
    held.next_fetch_offset = batch.next_offset
    if held._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        held._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and held._contains_abort_marker(batch):
            held._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in held._aborted_producers:
            return None
    return None if batch.is_control_batch else found
