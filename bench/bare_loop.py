"""`python -m bench.bare_loop`: a minimal transactional loop: read, write a row per record, commit.

The loop uses only aiokafka, without Faust, state or a second hop. Its latency is the time that client and broker alone
need until a row that depends on a record is committed, and the baseline for the app's latency.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from app.kafka.clients import new_consumer, new_producer
from app.kafka.registry import SchemaRegistry
from app.kafka.registry_client import Login
from app.settings import Settings
from app.upstream import install
from bench import request_counts
from bench.child_process import emit
from codec.moodle_log import LogDecoder
from models.chunk import Chunk


async def run(settings: Settings) -> None:
    """Run until killed."""
    names, group = settings.topic_names, settings.app_id
    decoder = LogDecoder(SchemaRegistry(settings.schema_registry, Login.of(settings)))
    producer = new_producer(settings, transactional_id=group)
    consumer = new_consumer(
        settings, names.source, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await producer.start()
    await consumer.start()
    await consumer.getmany(timeout_ms=100)
    emit(ready=True)
    while True:
        fetched = await consumer.getmany(timeout_ms=1000)
        if fetched:
            async with producer.transaction():
                for tp, records in fetched.items():
                    await _send_rows(producer, names.prediction, decoder, tp, records)
                # without the flush, offsets may be added to the transaction while the broker still verifies a row;
                # it then rejects the row, and aiokafka retries only after 100 ms
                await producer.flush()
                ends = {tp: records[-1].offset + 1 for tp, records in fetched.items()}
                await producer.send_offsets_to_transaction(ends, group)


async def _send_rows(
    producer: AIOKafkaProducer, topic: str, decoder: LogDecoder, tp: TopicPartition, records: Sequence[ConsumerRecord]
) -> None:
    """Send a row like a prediction for each record, without waiting for acknowledgements: the commit does."""
    offsets = [r.offset for r in records]
    chunk = Chunk(tp.topic, tp.partition, offsets, offsets, [r.value for r in records], 0, 0, 0)
    decoded = await decoder.decode(chunk)
    for student, at in zip(decoded.student.tolist(), decoded.at.tolist(), strict=True):
        value = json.dumps({"USERID": student, "PREDICTION": 0.5, "CREATED_DATE": at}).encode()
        await producer.send(topic, value, str(student).encode(), partition=0, timestamp_ms=at)


if __name__ == "__main__":
    install()
    request_counts.install()
    asyncio.run(run(Settings.from_env(os.environ)))
