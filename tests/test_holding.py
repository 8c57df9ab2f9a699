"""Partitions that are fetched at set times only, on a real broker."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.kafka.reader import read_chunks
from app.upstream import install
from app.upstream.holding import fetcher_of

pytestmark = pytest.mark.broker


@pytest.fixture
async def reader(cluster):
    """A consumer at the end of two partitions, which waits long for records."""
    install()
    name = f"holding-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.broker)
    await admin.start()
    await admin.create_topics([NewTopic(name, 2, 1)])
    await admin.close()
    async with AIOKafkaConsumer(bootstrap_servers=cluster.broker, fetch_max_wait_ms=20_000) as consumer:
        consumer.assign([TopicPartition(name, 0), TopicPartition(name, 1)])
        await consumer.seek_to_beginning()
        yield consumer


async def read(consumer: AIOKafkaConsumer, *, waiting: bool = False) -> list[tuple[int, int]]:
    """Partition and number of records of each chunk of the next read; waiting: until the held ones are answered."""
    fetcher = fetcher_of(consumer)
    chunks = await read_chunks(
        consumer, consumer.assignment(), 10.0, 1000, is_over=lambda: waiting and fetcher.has_answer()
    )
    return [(chunk.partition, len(chunk)) for chunk in chunks]


async def read_one_of_each(consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
    """Write and read a record of each partition; the next request, for both, is not sent before the caller waits."""
    for tp in sorted(consumer.assignment(), reverse=True):
        # a request for both partitions is outstanding, which the first record ends
        await producer.send_and_wait(tp.topic, b"x", partition=tp.partition)
        assert await read(consumer) == [(tp.partition, 1)]


async def test_records_of_a_held_partition_come_in_one_answer_at_the_time(cluster, reader):
    held, free = sorted(reader.assignment())
    async with AIOKafkaProducer(bootstrap_servers=cluster.broker) as producer:
        await read_one_of_each(reader, producer)
        began = time.monotonic()
        fetcher_of(reader).hold([held], began + 1.5)
        for _ in range(4):
            await producer.send_and_wait(held.topic, b"x", partition=held.partition)
            await asyncio.sleep(0.1)
        await producer.send_and_wait(held.topic, b"x", partition=free.partition)
        assert await read(reader) == [(1, 1)]
        assert time.monotonic() - began < 1.5
        assert await read(reader) == [(0, 4)]
        assert 1.5 <= time.monotonic() - began < 5


async def test_a_partition_without_records_does_not_delay_the_answer(cluster, reader):
    """The outstanding request ends at the time, although the broker would wait longer, and the next one waits not."""
    held = min(reader.assignment())
    async with AIOKafkaProducer(bootstrap_servers=cluster.broker) as producer:
        await read_one_of_each(reader, producer)
        fetcher_of(reader).hold([held], time.monotonic() + 0.3)
        began = time.monotonic()
        assert await read(reader, waiting=True) == []
        assert fetcher_of(reader).has_answer()
        assert 0.3 <= time.monotonic() - began < 5
        fetcher_of(reader).release()
        await producer.send_and_wait(held.topic, b"x", partition=held.partition)
        assert await read(reader) == [(0, 1)]
