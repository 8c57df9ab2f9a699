"""Rows to Kafka in batches: half a microsecond a row, where a message at a time costs ten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerFenced

from models.chunk import Headers

#: bytes in one record batch; the broker refuses batches above 1 MiB
_BATCH_BYTES = 960_000


#: one record to write: timestamp [ms] (None: now), key, value, headers. A plain tuple: there are a great many
Row: TypeAlias = tuple["int | None", "bytes | None", "bytes | None", Headers]
#: the headers of a row without any; the compiled builder takes lists only, and only reads this one
NO_HEADERS: Headers = []


def new_producer(brokers: Sequence[str], *, transactional_id: str | None = None) -> AIOKafkaProducer:
    """A producer that neither loses, doubles nor reorders what it was given."""
    return AIOKafkaProducer(
        bootstrap_servers=list(brokers),
        acks="all",
        enable_idempotence=True,
        transactional_id=transactional_id,
        transaction_timeout_ms=30_000,
        max_batch_size=_BATCH_BYTES,
        request_timeout_ms=20_000,
    )


def is_fenced(producer: AIOKafkaProducer, error: BaseException) -> bool:
    """Whether `producer` raised `error` because a newer one has taken over its transactional id.

    aiokafka says so once, to whoever waits at that moment; every later call fails in a way of its own.
    """
    transactions = producer._txn_manager
    if isinstance(error, ProducerFenced) or transactions is None or not transactions.is_fatal_error():
        return isinstance(error, ProducerFenced)
    return isinstance(transactions.wait_for_transaction_end().exception(), ProducerFenced)


async def send_rows(
    producer: AIOKafkaProducer, topic: str, partition: int, rows: Sequence[Row]
) -> list[tuple[Awaitable[Any], int]]:
    """Hand rows to the producer, in order; returns a future and a row count for each record batch.

    Raises ValueError for a row that does not fit any batch.
    """
    sent: list[tuple[Awaitable[Any], int]] = []
    batch = producer.create_batch()
    count = 0
    for at, key, value, headers in rows:
        listed = headers if type(headers) is list else list(headers)
        if batch.append(timestamp=at, key=key, value=value, headers=listed) is None:
            if count:
                sent.append((await producer.send_batch(batch, topic, partition=partition), count))
            batch, count = producer.create_batch(), 0
            if batch.append(timestamp=at, key=key, value=value, headers=listed) is None:
                raise ValueError(f"a row of {len(value or b'')} bytes does not fit a batch for topic {topic}")
        count += 1
    if count:
        sent.append((await producer.send_batch(batch, topic, partition=partition), count))
    return sent


async def last_offset(sent: Sequence[tuple[Awaitable[Any], int]]) -> int:
    """Wait for all batches; the offset of the last row, -1 if there was none. Raises what the broker said."""
    answers = await asyncio.gather(*(future for future, _ in sent))
    return int(answers[-1].offset) + sent[-1][1] - 1 if sent else -1
