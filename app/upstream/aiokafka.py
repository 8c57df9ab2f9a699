"""Everything taken from aiokafka 0.14.0 beyond its documented API.

Each function or class stands in for something that aiokafka does not offer, and names the change to aiokafka that
would replace it. docs/upstream.md has these changes in full; `app.upstream.reaches` lists every name relied upon.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import (
    ConsumerStoppedError,
    CorruptRecordException,
    IncompatibleBrokerVersion,
    InvalidProducerIdMapping,
    ProducerFenced,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.transaction import EndTxnRequest
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from crc32c import crc32c

from app.kafka.record_columns import Batch
from codec.record_batch import EncodedBatch

T = TypeVar("T")

# -- consumer

#: how long an unread fetch of one partition keeps the fetcher from asking the broker for the others [s]: a paused
#: partition must not hold up the rest. aiokafka's own value is 0.1
_PREFETCH_BACKOFF_S = 0.005
#: size of the unpacked records that are read at once, apart from the last batch [bytes]
_MAX_UNPACKED = 1 << 26
#: interval at which the broker is asked again for topics it does not know, e.g. while it starts [s]
_METADATA_RETRY_S = 0.1
#: position of a batch's length field, and the number of bytes that the length does not count
_LENGTH, _BEFORE_LENGTH = 8, 12


class RawMemoryRecords:
    """aiokafka's MemoryRecords with access to the bytes of each batch. Mutable: iterates over the batches.

    Upstream change: `MemoryRecords.next_raw_batch()`, which returns a batch's bytes without parsing its records.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._records = MemoryRecords(raw)
        self._begin = self._end = 0

    def has_next(self) -> bool:
        """Whether there is another batch."""
        return bool(self._records.has_next())

    def size_in_bytes(self) -> int:
        """Total size of all batches [bytes]."""
        return int(self._records.size_in_bytes())

    def next_batch(self) -> Any:
        """Return the next batch as aiokafka parses it; `raw_batch` has its bytes."""
        self._begin = self._end
        (length,) = struct.unpack_from(">i", self.raw, self._begin + _LENGTH)
        self._end += _BEFORE_LENGTH + length
        return self._records.next_batch()

    def raw_batch(self) -> memoryview:
        """Bytes of the batch that `next_batch` returned last."""
        return memoryview(self.raw)[self._begin : self._end]


@dataclass(frozen=True, slots=True)
class FetchedBatches:
    """The record batches of one partition that one call of `read_fetched` consumes, in log order."""

    batches: Sequence[Batch]
    #: number of records in the batches, including those before `start`
    count: int
    #: the consumer's position before and after
    start: int
    next_offset: int
    #: end of the partition for this consumer: the last stable offset if it reads only committed records
    end: int


def is_closed(consumer: AIOKafkaConsumer) -> bool:
    """Whether the consumer has been stopped.

    Upstream change: a public `AIOKafkaConsumer.closed`.
    """
    return bool(consumer._closed)


async def count_partitions(consumer: AIOKafkaConsumer, topics: Collection[str]) -> dict[str, int]:
    """Ask the broker for the number of partitions of topics to which the consumer is subscribed.

    Asks again until the broker knows all of them; 0 for those it does not if the consumer is stopped meanwhile.
    Upstream change: an argument `refresh` of `AIOKafkaConsumer.partitions_for_topic`.
    """
    while True:
        updated = await consumer._client.force_metadata_update()
        counts = {topic: len(consumer.partitions_for_topic(topic) or ()) for topic in topics}
        if (updated and all(counts.values())) or is_closed(consumer):
            return counts
        await asyncio.sleep(_METADATA_RETRY_S)


async def committed_offsets(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """Ask the broker for the offsets that the consumer's group has committed, with their metadata.

    Raises KafkaError. Upstream change: `AIOKafkaConsumer.committed_offsets(*partitions)`; `committed` has no metadata.
    """
    wanted = [TopicPartition(*tp) for tp in partitions]
    offsets: Mapping[TopicPartition, OffsetAndMetadata]
    offsets = await consumer._coordinator.fetch_committed_offsets(wanted)
    return offsets


async def read_fetched(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition],
    timeout: float,
    max_rows: int,
    make: Callable[[TopicPartition, FetchedBatches], T],
    is_over: Callable[[], bool] = lambda: False,
) -> list[T]:
    """Consume fetched record batches of `partitions`; wait up to `timeout` s for the first, or until `is_over`.

    Returns the result of `make` for each partition whose position moves. The batches of a partition end with the one
    that reaches `max_rows` records. Needs `app.upstream.install()`. Raises ConsumerStoppedError if the consumer has
    been stopped, CorruptRecordException for a wrong checksum, and the broker's errors, e.g. of authorization.

    This does with batches what `Fetcher.fetched_records` and `PartitionRecords._unpack_records` do with records.
    Upstream change: `AIOKafkaConsumer.getmany_batches()`, and a setting `prefetch_backoff_ms`.
    """
    fetcher = consumer._fetcher
    with fetcher._subscriptions.fetch_context():
        deadline = time.monotonic() + timeout
        fetcher._prefetch_backoff = _PREFETCH_BACKOFF_S
        while True:
            if fetcher._closed:
                raise ConsumerStoppedError
            if fetcher._subscriptions.reassignment_in_progress:
                await fetcher._subscriptions.wait_for_assignment()
            results = [_read_partition(fetcher, tp, partitions, max_rows, make) for tp in list(fetcher._records)]
            made = [result for result in results if result is not None]
            left = deadline - time.monotonic()
            if made or left <= 0 or is_over():
                return made
            waiter = fetcher._create_fetch_waiter()
            try:
                done, _ = await asyncio.wait([waiter], timeout=left)
            finally:
                waiter.cancel()
            if not done:
                return []
            waiter.result()


def _read_partition(
    fetcher: Fetcher,
    tp: TopicPartition,
    wanted: Collection[TopicPartition],
    max_rows: int,
    make: Callable[[TopicPartition, FetchedBatches], T],
) -> T | None:
    if tp not in wanted:
        if not fetcher._subscriptions.is_assigned(tp):
            del fetcher._records[tp]
        return None
    fetched = fetcher._records[tp]
    if not isinstance(fetched, FetchResult):
        _remove(fetcher, tp)
        fetched.check_raise()
        return None
    made = None
    if fetched.has_more() and fetched.check_assignment(tp):
        made = _consume(fetched, tp, max_rows, make)
    if not fetched.has_more():
        _remove(fetcher, tp)
    return made


def _remove(fetcher: Fetcher, tp: TopicPartition) -> None:
    del fetcher._records[tp]
    # wakes the fetch routine, which asks the broker for more
    fetcher._notify(fetcher._wait_consume_future)


def _consume(
    fetched: FetchResult, tp: TopicPartition, max_rows: int, make: Callable[[TopicPartition, FetchedBatches], T]
) -> T | None:
    records = fetched._partition_records
    # unused here, and part of a reference cycle: the fetch would stay in memory until the cycle collector runs, which
    # is rare (app/worker.py)
    records._records_iterator = None
    start = records.next_fetch_offset
    batches: list[Batch] = []
    count = size = 0
    memory = records._records
    while memory.has_next() and count < max_rows and size < _MAX_UNPACKED:
        batch = _next_batch(records)
        if batch is not None:
            batches.append(batch)
            count += batch.count
            size += batch.unpacked_size
    next_offset = records.next_fetch_offset
    end = _end(fetched._assignment.state_value(tp), records)
    made = None if next_offset == start else make(tp, FetchedBatches(batches, count, start, next_offset, end))
    fetched._update_position()
    if not memory.has_next():
        fetched._partition_records = None
    return made


def _end(state: Any, records: PartitionRecords) -> int:
    end = state.lso if records._isolation_level == READ_COMMITTED else state.highwater
    return int(records.next_fetch_offset if end is None else max(end, records.next_fetch_offset))


def contains_abort_marker(_: PartitionRecords, batch: Any) -> bool:
    """Whether a control batch ends an aborted transaction; in place of a method of PartitionRecords.

    Compaction removes old markers, and keeps the batch of the last one of each producer, empty; aiokafka's own method
    raises KafkaError for that, and the partition cannot be read any more. Upstream change: return False, as Kafka's
    own consumer does.
    """
    marker = next(batch, None)
    return marker is not None and ControlRecord.parse(marker.key) == ABORT_MARKER


def _next_batch(records: PartitionRecords) -> Batch | None:
    """Return the next batch, None if it is a control batch or aborted; move the position behind it."""
    parsed = records._records.next_batch()
    batch = Batch(records._records.raw_batch(), parsed)
    if records._check_crcs and not batch.has_valid_crc():
        topic, partition = records._tp
        raise CorruptRecordException(
            f"topic {topic} partition {partition} offset {parsed.base_offset}: the record batch has a wrong checksum"
        )
    # the batch's own end, not the last record's: compaction may have removed the last records
    records.next_fetch_offset = parsed.next_offset
    if records._isolation_level == READ_COMMITTED and parsed.producer_id is not None:
        records._consume_aborted_up_to(parsed.base_offset)
        if parsed.is_control_batch and records._contains_abort_marker(parsed):
            records._aborted_producers.discard(parsed.producer_id)
        if parsed.is_transactional and parsed.producer_id in records._aborted_producers:
            return None
    return None if parsed.is_control_batch else batch


# -- producer

#: wait before a commit's successor is tried again [s]. The broker writes a commit's markers after it has answered, and
#: refuses the next transaction until then: a few milliseconds, where aiokafka waits 20
TRANSACTION_RETRY_S = 0.004


def is_transactional(producer: AIOKafkaProducer) -> bool:
    """Whether the producer has a transactional id.

    Upstream change: a public `AIOKafkaProducer.transactional_id`.
    """
    transactions = producer._txn_manager
    return transactions is not None and transactions.transactional_id is not None


def is_fenced(producer: AIOKafkaProducer, error: BaseException) -> bool:
    """Whether `producer` raised `error` because a newer producer has taken over its transactional id.

    aiokafka raises ProducerFenced once, from the call that waits at that moment; later calls raise other errors.
    Upstream change: raise ProducerFenced from every call of a fenced producer.
    """
    transactions = producer._txn_manager
    if isinstance(error, ProducerFenced) or transactions is None or not transactions.is_fatal_error():
        return isinstance(error, ProducerFenced)
    return isinstance(transactions.wait_for_transaction_end().exception(), ProducerFenced)


def is_forgotten(producer: AIOKafkaProducer, error: BaseException) -> bool:
    """Whether `producer` raised `error` because the broker no longer knows its transactional id with its producer id.

    The id has expired, or has expired and was taken over since then. aiokafka hides the broker's error as the cause of
    others. Upstream change: raise InvalidProducerIdMapping, or start the producer again as Kafka's own client does.
    """
    transactions = producer._txn_manager
    if _is_forgotten(error) or transactions is None or not transactions.is_fatal_error():
        return _is_forgotten(error)
    return _is_forgotten(transactions.wait_for_transaction_end().exception())


def _is_forgotten(error: BaseException | None) -> bool:
    return isinstance(error, InvalidProducerIdMapping) or (error is not None and _is_forgotten(error.__cause__))


class HandledErrors(logging.Filter):
    """Drops the tracebacks that aiokafka causes by a forgotten transactional id, which `is_forgotten` recognises.

    Its sender logs it as unexpected, and sets it on futures for which nobody waits.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the record."""
        return not (record.exc_info and _is_forgotten(record.exc_info[1]))


#: the filter that `install` adds to the loggers of aiokafka's sender and of asyncio
HANDLED_ERRORS = HandledErrors()


class EncodedBatchBuilder(BatchBuilder):  # type: ignore[misc]
    """A batch for `AIOKafkaProducer.send_batch` whose records are encoded already.

    Upstream change: `BatchBuilder.from_records(records, count, first_timestamp, max_timestamp)`.
    """

    def __init__(self, batch: EncodedBatch, *, transactional: bool) -> None:
        # BatchBuilder's constructor would create a builder for single records
        self._batch = batch
        self._attributes = DefaultRecordBase.TRANSACTIONAL_MASK if transactional else 0
        self._producer = (-1, -1, 0)
        self._buffer: bytes | None = None

    def append(self, **_: Any) -> None:
        """Refuse the record: an encoded batch is full."""

    def close(self) -> None:
        """No-op: an encoded batch is always closed."""

    def closed(self) -> bool:
        """Return True: nothing can be added."""
        return True

    def record_count(self) -> int:
        """Return the number of records."""
        return self._batch.count

    def size(self) -> int:
        """Return the size of the whole batch [bytes]."""
        return int(DefaultRecordBase.HEADER_STRUCT.size) + len(self._batch.records)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._buffer is None:
            self._buffer = self.encode(*self._producer)
        return self._buffer

    def encode(self, producer_id: int, producer_epoch: int, base_sequence: int) -> bytes:
        """Encode the batch for the state that the producer has at the time of sending."""
        batch, length = self._batch, self.size() - DefaultRecordBase.AFTER_LEN_OFFSET
        producer = (producer_id, producer_epoch, base_sequence)
        tail = (self._attributes, batch.count - 1, batch.first, batch.latest, *producer, batch.count)
        unchecked = DefaultRecordBase.HEADER_STRUCT.pack(0, length, -1, 2, 0, *tail)
        checksum = crc32c(batch.records, crc32c(unchecked[DefaultRecordBase.ATTRIBUTES_OFFSET :]))
        head: bytes = DefaultRecordBase.HEADER_STRUCT.pack(0, length, -1, 2, checksum, *tail)
        return head + batch.records


class RowBatchBuilder(BatchBuilder):  # type: ignore[misc]
    """A batch for `AIOKafkaProducer.send_batch` from a compiled builder that has been filled.

    Appending to the builder costs 0.5 µs a row, `create_batch().append` 1.0 µs. Upstream change: the same as for
    EncodedBatchBuilder.
    """

    def __init__(self, builder: DefaultRecordBatchBuilder, count: int) -> None:
        self._builder, self._relative_offset = builder, count
        self._buffer, self._closed = None, True


def new_builder(producer: AIOKafkaProducer, max_bytes: int) -> DefaultRecordBatchBuilder:
    """Create a builder for one batch of `producer`, uncompressed, of at most `max_bytes`."""
    return DefaultRecordBatchBuilder(2, 0, is_transactional(producer), -1, -1, 0, max_bytes)


# -- admin client: requests for which AIOKafkaAdminClient has no method


async def describe_topics(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> list[dict[str, Any]]:
    """Describe topics without creating them.

    `AIOKafkaAdminClient.describe_topics` makes a broker with auto.create.topics.enable create the missing ones.
    Upstream change: an argument `allow_auto_topic_creation` of that method.
    """
    answer = await admin._send_request(MetadataRequest(list(topics), allow_auto_topic_creation=False))
    described: list[dict[str, Any]] = answer.to_object()["topics"]
    return described


async def topic_operations(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """Return the error code and the allowed operations of each topic, a bit set by number of AclOperation.

    Empty if the broker is older than Kafka 2.3. Upstream change: `MetadataRequest` version 8 and an argument
    `include_authorized_operations` of `describe_topics`.
    """
    try:
        answer = await admin._send_request(_OperationsRequest(list(topics)))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return {}
    return {t["topic"]: (t["error_code"], t["operations"]) for t in answer.to_object()["topics"]}


async def heartbeat_error(admin: AIOKafkaAdminClient, group: str) -> int:
    """Return the error code of a heartbeat of an unknown member of a consumer group: it changes nothing.

    Upstream change: `describe_consumer_groups(include_authorized_operations=True)`.
    """
    answer = await admin._send_request(HeartbeatRequest(group, -1, ""))
    return int(answer.error_code)


async def end_transaction_error(admin: AIOKafkaAdminClient, transactional_id: str) -> int:
    """Return the error code of ending a transaction as an unknown producer: it changes nothing.

    Upstream change: `AIOKafkaAdminClient.describe_transactions()` or `describe_acls()`.
    """
    answer = await admin._send_request(EndTxnRequest(transactional_id, -1, -1, False))
    return int(answer.error_code)


async def newest_version(admin: AIOKafkaAdminClient, api_key: int) -> int:
    """Return the newest version of a request that a broker supports, -1 if it does not know the request.

    Upstream change: a public `AIOKafkaAdminClient.api_versions()`.
    """
    answer = await admin._send_request(ApiVersionRequest())
    return max((int(newest) for key, _, newest in answer.api_versions if key == api_key), default=-1)


async def send_request(admin: AIOKafkaAdminClient, request: Request) -> Response:
    """Send any other request to any broker, for tests.

    Upstream change: a public `AIOKafkaAdminClient.send`.
    """
    return await admin._send_request(request)


class _OperationsResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
        ("cluster_operations", Int32),
    )


class _OperationsStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _OperationsResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _OperationsRequest(Request[_OperationsStruct]):  # type: ignore[misc]
    """Metadata version 8 (Kafka 2.3), which reports allowed operations; aiokafka stops at version 5."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_OperationsStruct]) -> _OperationsStruct:
        """Build the request for the version that was negotiated."""
        return request_struct_class(self._topics, False, False, True)
