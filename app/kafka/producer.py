"""Rows to Kafka in batches: a fraction of a microsecond a row, where a message at a time costs ten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerFenced
from aiokafka.producer import sender
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatchBuilder
from crc32c import crc32c

from codec.record import Row
from codec.record_batch import EncodedBatch, OutputColumns, Rows, batches

#: bytes in one record batch; the broker refuses batches above 1 MiB
_BATCH_BYTES = 960_000
# the broker writes a commit's markers after it has answered, and refuses the next transaction until then: a few
# milliseconds, where aiokafka asks again after 20
sender.BACKOFF_OVERRIDE = 0.004


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


class PackedBatch(BatchBuilder):  # type: ignore[misc]
    """Records that are put together already, as aiokafka sends batches."""

    def __init__(self, batch: EncodedBatch, *, transactional: bool) -> None:
        """aiokafka's own constructor makes a builder of single records, which is not wanted."""
        self._batch = batch
        self._attributes = DefaultRecordBase.TRANSACTIONAL_MASK if transactional else 0
        self._producer = (-1, -1, 0)
        self._buffer: bytes | None = None

    def append(self, **_: Any) -> None:
        """Nothing fits any more."""

    def close(self) -> None:
        """It is."""

    def closed(self) -> bool:
        """Nothing can be added."""
        return True

    def record_count(self) -> int:
        """Number of records."""
        return self._batch.count

    def size(self) -> int:
        """Bytes of the whole batch."""
        return int(DefaultRecordBase.HEADER_STRUCT.size) + len(self._batch.records)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._buffer is None:
            batch, length = self._batch, self.size() - DefaultRecordBase.AFTER_LEN_OFFSET
            last = batch.count - 1
            tail = (self._attributes, last, batch.first, batch.latest, *self._producer, batch.count)
            unchecked = DefaultRecordBase.HEADER_STRUCT.pack(0, length, -1, 2, 0, *tail)
            checksum = crc32c(batch.records, crc32c(unchecked[DefaultRecordBase.ATTRIBUTES_OFFSET :]))
            head = DefaultRecordBase.HEADER_STRUCT.pack(0, length, -1, 2, checksum, *tail)
            self._buffer = head + batch.records
        return self._buffer


async def send_rows(
    producer: AIOKafkaProducer, topic: str, partition: int, rows: Rows
) -> list[tuple[Awaitable[Any], int]]:
    """Hand rows to the producer, in order; returns a future and a row count for each record batch.

    Raises ValueError for a row that does not fit any batch.
    """
    made: Iterator[BatchBuilder]
    made = (
        _packed(producer, rows)
        if isinstance(rows, OutputColumns) and rows.row_headers is None
        else _filled(producer, topic, rows)
    )
    return [(await producer.send_batch(batch, topic, partition=partition), batch.record_count()) for batch in made]


class FilledBatch(BatchBuilder):  # type: ignore[misc]
    """aiokafka's batch, filled without its call a row that costs twice what the compiled builder does."""

    def __init__(self, builder: DefaultRecordBatchBuilder, count: int) -> None:
        self._builder, self._relative_offset = builder, count
        self._buffer, self._closed = None, True


def _filled(producer: AIOKafkaProducer, topic: str, rows: Iterable[Row]) -> Iterator[FilledBatch]:
    def fresh() -> DefaultRecordBatchBuilder:
        return DefaultRecordBatchBuilder(2, 0, _is_transactional(producer), -1, -1, 0, _BATCH_BYTES)

    builder, count = fresh(), 0
    for at, key, value, headers in rows:
        # the builder takes its first record however large that is
        if (size := len(key or b"") + len(value or b"")) > _BATCH_BYTES:
            raise ValueError(f"a row of {size} bytes does not fit a batch for topic {topic}")
        listed = headers if type(headers) is list else list(headers)
        if builder.append(count, at, key, value, listed) is None:
            yield FilledBatch(builder, count)
            builder, count = fresh(), 0
            builder.append(0, at, key, value, listed)
        count += 1
    if count:
        yield FilledBatch(builder, count)


def _packed(producer: AIOKafkaProducer, rows: OutputColumns) -> Iterator[PackedBatch]:
    for batch in batches(rows, _BATCH_BYTES):
        yield PackedBatch(batch, transactional=_is_transactional(producer))


def _is_transactional(producer: AIOKafkaProducer) -> bool:
    transactions = producer._txn_manager
    return transactions is not None and transactions.transactional_id is not None


async def last_offset(sent: Sequence[tuple[Awaitable[Any], int]]) -> int:
    """Wait for all batches; the offset of the last row, -1 if there was none. Raises what the broker said."""
    answers = await asyncio.gather(*(future for future, _ in sent))
    return int(answers[-1].offset) + sent[-1][1] - 1 if sent else -1
