"""The chunk reader returns the records of aiokafka's public consumer, on a real broker."""

from __future__ import annotations

import asyncio
import gc
import itertools
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.consumer.fetcher import PartitionRecords

from app.kafka.reader import read_chunks
from app.upstream import install
from models.chunk import Chunk

pytestmark = pytest.mark.broker


@pytest.fixture
async def topic(cluster):
    """A topic of one partition: plain, compressed and empty records, headers, committed and aborted transactions."""
    return await filled_topic(cluster.broker, {})


@pytest.fixture
async def compacted_topic(cluster):
    """The same, to be compacted as soon as possible, which is at any time."""
    configs = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "100"}
    configs |= {"max.compaction.lag.ms": "100", "delete.retention.ms": "100"}
    return await filled_topic(cluster.broker, configs)


async def filled_topic(broker: str, configs: dict[str, str]) -> str:
    install()
    name = f"reader-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1, topic_configs={"retention.ms": "-1"} | configs)])
    await admin.close()
    await fill(broker, name)
    return name


async def fill(broker: str, topic: str) -> None:
    for compression in (None, "gzip"):
        async with AIOKafkaProducer(bootstrap_servers=broker, compression_type=compression) as plain:
            for i in range(300):
                headers = [("a", b"1"), ("b", b"")] if i % 7 == 0 else []
                value = None if i % 11 == 0 else b"x" * (i % 50)
                await plain.send(topic, value, key=b"%d" % (i % 40), headers=headers, timestamp_ms=1000 + i)
    for fate in ("commit", "abort", "commit", "abort"):
        async with AIOKafkaProducer(bootstrap_servers=broker, transactional_id=f"{topic}-t") as producer:
            await producer.begin_transaction()
            for i in range(50):
                await producer.send(topic, fate.encode(), key=b"%s-%d" % (fate.encode(), i))
            await (producer.commit_transaction() if fate == "commit" else producer.abort_transaction())


def consumer(broker: str, isolation: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=broker,
        isolation_level=isolation,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=3000,
    )


async def read_public(broker: str, topic: str, isolation: str) -> tuple[list[tuple], int]:
    """Read with the public consumer; return the records and the final position."""
    async with consumer(broker, isolation) as reader:
        tp = TopicPartition(topic, 0)
        reader.assign([tp])
        end = (await reader.end_offsets([tp]))[tp]
        records = []
        while await reader.position(tp) < end:
            for batch in (await reader.getmany(timeout_ms=300)).values():
                records += [(r.offset, r.key, r.value, tuple(r.headers)) for r in batch]
        return records, await reader.position(tp)


async def read_ours(broker: str, topic: str, isolation: str, max_rows: int, start: int = 0) -> tuple[list[Chunk], int]:
    """Read with the chunk reader; return the chunks and the final position."""
    async with consumer(broker, isolation) as reader:
        tp = TopicPartition(topic, 0)
        reader.assign([tp])
        reader.seek(tp, start)
        end = (await reader.end_offsets([tp]))[tp]
        chunks: list[Chunk] = []
        while await reader.position(tp) < end:
            chunks += await read_chunks(reader, {tp}, 0.5, max_rows)
        return chunks, await reader.position(tp)


def records_of(chunks: list[Chunk]) -> list[tuple]:
    return [
        (offset, key, value, tuple(chunk.headers[i]) if chunk.headers is not None else ())
        for chunk in chunks
        for i, (offset, key, value) in enumerate(zip(chunk.offsets, chunk.keys, chunk.values, strict=True))
    ]


async def test_records_equal_those_of_the_public_consumer(cluster, topic):
    """The same records and end offset, for both isolation levels and any chunk size; chunks are adjacent."""
    for isolation in ("read_committed", "read_uncommitted"):
        wanted, end = await read_public(cluster.broker, topic, isolation)
        assert len(wanted) > 600
        for max_rows in (1, 64, 10_000):
            chunks, position = await read_ours(cluster.broker, topic, isolation, max_rows)
            assert records_of(chunks) == wanted
            assert position == end == chunks[-1].next_offset
            assert [c.start for c in chunks[1:]] == [c.next_offset for c in chunks[:-1]]
            assert chunks[0].start == 0
            assert not chunks[-1].lagging
            assert all(c.end >= c.next_offset for c in chunks)


async def test_fetches_are_freed_without_the_cycle_collector(cluster, topic):
    """The worker's collector runs rarely, and a fetch is megabytes."""

    def alive() -> int:
        return sum(isinstance(obj, PartitionRecords) for obj in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        for _ in range(3):
            await read_ours(cluster.broker, topic, "read_committed", 10_000)
        assert alive() <= before
    finally:
        gc.enable()


async def test_a_compressed_batch_is_read_from_its_middle(cluster, topic):
    """A fetch at an offset inside a batch returns the records from there on."""
    wanted, _ = await read_public(cluster.broker, topic, "read_committed")
    start = 451
    chunks, _ = await read_ours(cluster.broker, topic, "read_committed", 64, start)
    assert records_of(chunks) == [r for r in wanted if r[0] >= start]
    assert chunks[0].start == start


async def test_offsets_keep_the_holes_left_by_compaction(cluster, compacted_topic):
    """Offsets are read, never derived: both readers agree after compaction."""
    before, _ = await read_public(cluster.broker, compacted_topic, "read_committed")
    async with AIOKafkaProducer(bootstrap_servers=cluster.broker) as plain:
        await asyncio.sleep(0.2)  # a segment must be older than segment.ms before the next record rolls it
        await plain.send_and_wait(compacted_topic, b"last", key=b"last")
    for _ in range(100):
        wanted, end = await read_public(cluster.broker, compacted_topic, "read_committed")
        chunks, position = await read_ours(cluster.broker, compacted_topic, "read_committed", 64)
        # the cleaner may remove records between the two reads: compare only if the log was the same
        if len(wanted) < len(before) and await read_public(cluster.broker, compacted_topic, "read_committed") == (
            wanted,
            end,
        ):
            break
        await asyncio.sleep(0.2)
    else:
        pytest.fail("the broker did not compact, or did not stop compacting")
    assert any(b[0] - a[0] > 1 for a, b in itertools.pairwise(wanted))
    assert records_of(chunks) == wanted
    assert position == end
