"""Measure the cost of only reading and decoding the source topic, without Faust or state.

Reads the log from its beginning and decodes it to columns. Measures this process from the connected consumer to the
last decoded event, and prints one line of JSON. Settings are the worker's RISK_ environment variables.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.kafka.clients import new_consumer
from app.kafka.reader import read_chunks
from app.kafka.registry import SchemaRegistry
from app.kafka.registry_client import Login
from app.settings import Settings
from app.upstream import install
from app.worker import relax_garbage_collection
from bench.child_process import ChildProcess, emit
from bench.figures import Run
from bench.procfs import cpu_s, peak_mb
from codec.moodle_log import LogDecoder
from models.chunk import Chunk

#: maximum size of a partition in one fetch, as in the worker [bytes]
_FETCH_BYTES = 1 << 21
#: how long one fetch waits for records [s]
_WAIT_S = 0.5
#: maximum records in one chunk, as in the worker
_MAX_ROWS = 50_000

Chunks = Callable[[AIOKafkaConsumer], AsyncIterator[Chunk]]


async def by_getmany(consumer: AIOKafkaConsumer) -> AsyncIterator[Chunk]:
    """Read with aiokafka's public API, which creates an object per record."""
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=round(_WAIT_S * 1000))).items():
            offsets = [r.offset for r in records]
            yield Chunk(tp.topic, tp.partition, offsets, offsets, [r.value for r in records], 0, 0, 0)


async def by_batches(consumer: AIOKafkaConsumer) -> AsyncIterator[Chunk]:
    """Read with the app's batch reader, over the same consumer's fetcher."""
    tps = consumer.assignment()
    while True:
        for chunk in await read_chunks(consumer, tps, _WAIT_S, _MAX_ROWS):
            yield chunk


READERS: dict[str, Chunks] = {"getmany": by_getmany, "batches": by_batches}


async def read(settings: Settings, events: int, partitions: int, chunks: Chunks) -> Run:
    """Read until `events` have been decoded, and return the measurement."""
    decoder = LogDecoder(SchemaRegistry(settings.schema_registry, Login.of(settings)))
    consumer = new_consumer(settings, max_partition_fetch_bytes=_FETCH_BYTES)
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
    variables: Mapping[str, str], events: int, partitions: int, reader: str, log: Path, *, tuned_gc: bool = True
) -> Run:
    """Measure one run in a child process. tuned_gc: with the worker's settings of the garbage collector."""
    arguments = [reader, str(events), str(partitions), *(["--tuned-gc"] if tuned_gc else [])]
    with ChildProcess("bench.reading", arguments, variables, log) as child:
        return Run(**child.read())


def main() -> None:
    """Run as a child process."""
    parser = argparse.ArgumentParser(prog="python -m bench.reading", description=__doc__)
    parser.add_argument("reader", choices=READERS, help="aiokafka's getmany or the app's batch reader")
    parser.add_argument("events", type=int, help="number of events to read")
    parser.add_argument("partitions", type=int, help="partitions of the source topic")
    parser.add_argument("--tuned-gc", action="store_true", help="set the garbage collector as the worker does")
    arguments = parser.parse_args()
    if arguments.tuned_gc:
        relax_garbage_collection()
    install()
    reader = READERS[arguments.reader]
    run = asyncio.run(read(Settings.from_env(os.environ), arguments.events, arguments.partitions, reader))
    emit(events_per_s=run.events_per_s, cpu_us_per_event=run.cpu_us_per_event, rss_mb=run.rss_mb)


if __name__ == "__main__":
    main()
