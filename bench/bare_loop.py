"""`python -m bench.bare_loop`: the least a transaction costs in time: read, write a row for each record, commit.

A bare loop over aiokafka, without Faust, state, or a second hop: what the client and the broker alone take until a
row that depends on a record is committed. The app's latency is held against it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from app.kafka.producer import new_producer
from app.kafka.registry import SchemaRegistry
from app.settings import Settings
from bench.children import say
from codec.moodle_log import LogDecoder
from models.chunk import Chunk


async def run(settings: Settings) -> None:
    """Until it is killed."""
    names, group = settings.topic_names, settings.app_id
    decoder = LogDecoder(SchemaRegistry(settings.schema_registry))
    producer = new_producer(settings.brokers, transactional_id=group)
    consumer = AIOKafkaConsumer(
        names.source,
        bootstrap_servers=settings.broker,
        group_id=group,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await producer.start()
    await consumer.start()
    await consumer.getmany(timeout_ms=100)
    say(ready=True)
    while True:
        fetched = await consumer.getmany(timeout_ms=1000)
        if fetched:
            async with producer.transaction():
                for tp, records in fetched.items():
                    await _answer(producer, names.prediction, decoder, tp, records)
                # a broker that is told of more of a transaction just while it looks whether a row belongs to it
                # refuses the row, and aiokafka tries again after 100 ms
                await producer.flush()
                ends = {tp: records[-1].offset + 1 for tp, records in fetched.items()}
                await producer.send_offsets_to_transaction(ends, group)


async def _answer(
    producer: AIOKafkaProducer, topic: str, decoder: LogDecoder, tp: TopicPartition, records: Sequence[ConsumerRecord]
) -> None:
    """A row that looks like a prediction for each record; handed over, the commit waits for them."""
    offsets = [r.offset for r in records]
    chunk = Chunk(tp.topic, tp.partition, offsets, offsets, [r.value for r in records], 0, 0, 0)
    decoded = await decoder.decode(chunk)
    for student, at in zip(decoded.student.tolist(), decoded.at.tolist(), strict=True):
        value = json.dumps({"USERID": student, "PREDICTION": 0.5, "CREATED_DATE": at}).encode()
        await producer.send(topic, value, str(student).encode(), partition=0, timestamp_ms=at)


if __name__ == "__main__":
    asyncio.run(run(Settings.from_env(os.environ)))
