"""`python -m bench.reading`: what merely reading the source topic costs; no Faust in the way, and nothing kept.

The log is read from its beginning and decoded to columns, in this process of its own, which counts its CPU from
the moment the consumer is connected until the last event is decoded, and says it in one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.kafka.reader import read_chunks
from app.kafka.registry import SchemaRegistry
from app.settings import Settings
from app.worker import relax_garbage_collection
from bench.children import Child, say
from bench.figures import Run
from bench.procfs import cpu_s, peak_mb
from codec.moodle_log import LogDecoder
from models.chunk import Chunk

#: bytes of one partition in one fetch: as the worker asks for
_FETCH_BYTES = 1 << 21
#: how long one look waits for records [s]
_WAIT_S = 0.5
#: records in one chunk at most, as in the worker
_MOST_ROWS = 50_000

Chunks = Callable[[AIOKafkaConsumer], AsyncIterator[Chunk]]


async def by_getmany(consumer: AIOKafkaConsumer) -> AsyncIterator[Chunk]:
    """aiokafka's public way: an object a record."""
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=round(_WAIT_S * 1000))).items():
            offsets = [r.offset for r in records]
            yield Chunk(tp.topic, tp.partition, offsets, offsets, [r.value for r in records], 0, 0, 0)


async def by_batches(consumer: AIOKafkaConsumer) -> AsyncIterator[Chunk]:
    """The app's own reader over the same consumer's fetcher."""
    tps = consumer.assignment()
    while True:
        with consumer._fetcher._subscriptions.fetch_context():
            chunks = await read_chunks(consumer._fetcher, tps, _WAIT_S, _MOST_ROWS)
        for chunk in chunks:
            yield chunk


WAYS: dict[str, Chunks] = {"getmany": by_getmany, "batches": by_batches}


async def read(settings: Settings, events: int, partitions: int, chunks: Chunks) -> Run:
    """Read until `events` have been decoded."""
    decoder = LogDecoder(SchemaRegistry(settings.schema_registry))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.broker, isolation_level="read_committed", max_partition_fetch_bytes=_FETCH_BYTES
    )
    await consumer.start()
    try:
        tps = [TopicPartition(settings.source_topic, p) for p in range(partitions)]
        seen, began, cpu = 0, time.monotonic(), cpu_s()
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        async for chunk in chunks(consumer):
            seen += len(await decoder.decode(chunk))
            if seen >= events:
                break
        return Run(events / (time.monotonic() - began), (cpu_s() - cpu) / events * 1e6, peak_mb())
    finally:
        await consumer.stop()


def measure(
    variables: Mapping[str, str], events: int, partitions: int, way: str, log: Path, *, rested: bool = True
) -> Run:
    """One run, in a process of its own. rested: with the worker's settings of the collector, or Python's own."""
    arguments = [way, str(events), str(partitions), *(["--rested"] if rested else [])]
    with Child("bench.reading", arguments, variables, log) as child:
        return Run(**child.said())


def main() -> None:
    """What the child does."""
    parser = argparse.ArgumentParser(prog="python -m bench.reading", description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("events", type=int)
    parser.add_argument("partitions", type=int)
    parser.add_argument("--rested", action="store_true", help="the collector rests, as in the worker")
    given = parser.parse_args()
    if given.rested:
        relax_garbage_collection()
    run = asyncio.run(read(Settings.from_env(os.environ), given.events, given.partitions, WAYS[given.way]))
    say(events_per_s=run.events_per_s, cpu_us_per_event=run.cpu_us_per_event, rss_mb=run.rss_mb)


if __name__ == "__main__":
    main()
