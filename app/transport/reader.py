"""Chunks straight from aiokafka's fetcher: no Python object a record.

This is the one file that leans on aiokafka's internals (the version is pinned). It does what
`Fetcher.fetched_records` and `PartitionRecords._unpack_records` do with position, CRC checks, control
batches and aborted transactions; tests/test_reader.py holds it against the public consumer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException
from aiokafka.structs import TopicPartition

from models.chunk import Chunk


async def read_chunks(
    fetcher: Fetcher, partitions: Collection[TopicPartition], timeout: float, max_rows: int
) -> list[Chunk]:
    """What has been fetched of `partitions`, one chunk each; waits up to `timeout` s for the first.

    A chunk ends with the record batch that brings it to `max_rows`. Offsets that hold no record
    for the reader (control markers, aborted transactions) give a chunk without records.
    Raises what the broker answered, e.g. an authorization error.
    """
    deadline = time.monotonic() + timeout
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
    records: list[Any] = []
    memory = held._records
    while memory.has_next() and len(records) < max_rows:
        _unpack_batch(held, memory.next_batch(), records)
    fetched._update_position()
    if not memory.has_next():
        fetched._partition_records = None
    if held.next_fetch_offset == start:
        return None
    headers = [r.headers for r in records]
    state = fetched._assignment.state_value(tp)
    return Chunk(
        topic=tp.topic,
        partition=tp.partition,
        offsets=[r.offset for r in records],
        keys=[r.key for r in records],
        values=[r.value for r in records],
        start=start,
        position=held.next_fetch_offset,
        end=_end(state, held),
        headers=headers if any(headers) else None,
    )


def _end(state: Any, held: PartitionRecords) -> int:
    """The end for this reader: of what is committed, if it reads only that."""
    end = state.lso if held._isolation_level == READ_COMMITTED else state.highwater
    return int(held.next_fetch_offset if end is None else max(end, held.next_fetch_offset))


def _unpack_batch(held: PartitionRecords, batch: Any, into: list[Any]) -> None:
    if held._check_crcs and not batch.validate_crc():
        raise CorruptRecordException(f"Invalid CRC - {held._tp}")
    if held._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        held._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and held._contains_abort_marker(batch):
            held._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in held._aborted_producers:
            held.next_fetch_offset = batch.next_offset
            return
    if not batch.is_control_batch:
        at = held.next_fetch_offset
        records = list(batch)
        # a compressed batch may begin before the position that was asked for
        into += records if not records or records[0].offset >= at else [r for r in records if r.offset >= at]
    # the batch's own end, not the last record's: compaction may have taken the last records
    held.next_fetch_offset = batch.next_offset
