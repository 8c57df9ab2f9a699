"""Real students through the whole pipeline, live on a terminal: `make demo`."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from rich.console import Console
from rich.live import Live

import stack
from app.settings import Settings
from app.topic_names import TopicNames
from tools.demo.sources import Database, Feed, Replay
from tools.demo.stats import Tally
from tools.demo.view import line, picture
from tools.e2e.workers import TrialError, Worker, is_idle
from tools.replay import oulad

#: how often the picture is drawn, and a line printed where there is no terminal [s]
PICTURE_S, LINE_S = 0.25, 2.0
#: how long the feed may take to make the source topic [s]; Connect is the slowest
_TOPIC_S = 120.0


async def run(
    directory: Path, one: oulad.Presentation, speed: float, console: Console, *, cdc: bool = False, limit: int | None
) -> None:
    """Start all, show what happens until it is over (or, on a terminal, until Ctrl-C), stop all.

    speed: seconds of the course a second, 0: as fast as it goes; cdc: through MariaDB and Debezium instead of a
    replay into Kafka; limit: only the first so many rows. Raises StackError or TrialError.
    """
    servers = directory / "stack"
    what = "Kafka, the schema registry, MariaDB and Kafka Connect" if cdc else "Kafka and the schema registry"
    with console.status(f"starting {what} …"):
        stack.down(servers)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        environment = stack.up(servers, cdc=cdc, owner_pid=os.getpid())
    try:
        variables = {
            "RISK_BROKER": environment.broker,
            "RISK_SCHEMA_REGISTRY": environment.registry,
            "RISK_APP_ID": "demo",
            "RISK_DATADIR": str(directory / "data"),
        }
        feed: Feed
        if cdc:
            feed = Database(environment, oulad.generate([str(one)], limit=limit), speed)
        else:
            chosen = ["oulad", f"--module={one.module}", f"--presentation={one.code}", f"--speed={speed}"]
            chosen += [] if limit is None else [f"--limit={limit}"]
            feed = Replay(chosen, variables, directory / "replay.log")
        async with _running(feed) as feeding, _consumer(Settings.from_env(variables), feeding) as consumer:
            with Worker(variables, directory / "worker.log") as worker:
                console.print(f"worker and servers log to {directory}; /stats is on port {worker.port}")
                title = f"moodle-risk · {one}{' · MariaDB → Debezium → Kafka' if cdc else ''}"
                await _show(title, consumer, worker, feed, feeding, console)
    finally:
        stack.down(servers)


@asynccontextmanager
async def _running(feed: Feed) -> AsyncIterator[asyncio.Task[None]]:
    """The feed at work, beside what is done meanwhile; it is stopped in the end."""
    feeding = asyncio.create_task(feed.run())
    try:
        yield feeding
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


@asynccontextmanager
async def _consumer(settings: Settings, feeding: asyncio.Task[None]) -> AsyncIterator[AIOKafkaConsumer]:
    """A reader of the totals and the predictions, once the feed has made the source topic."""
    names = TopicNames.of(settings)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.broker,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        metadata_max_age_ms=1000,
    )
    await consumer.start()
    try:
        until = time.monotonic() + _TOPIC_S
        while settings.source_topic not in await consumer.topics():
            if feeding.done():
                feeding.result()  # raises what went wrong, if anything did
            if time.monotonic() > until:
                raise TrialError(f"no row came into {settings.source_topic} within {_TOPIC_S:g} s")
            await asyncio.sleep(0.1)
        consumer.subscribe([names.agg, names.prediction])
        yield consumer
    finally:
        await consumer.stop()


async def _show(
    title: str,
    consumer: AIOKafkaConsumer,
    worker: Worker,
    feed: Feed,
    feeding: asyncio.Task[None],
    console: Console,
) -> None:
    tally = Tally(_lost())
    events, looked, rate = 0, time.monotonic(), 0.0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            await _read(consumer, tally, PICTURE_S if console.is_terminal else LINE_S)
            if not worker.running:
                raise TrialError(f"the worker ended with {worker.process.returncode}:\n{worker.tail()}")
            stats = await asyncio.to_thread(worker.stats)
            now = time.monotonic()
            if stats is not None:
                count = stats["counts"].get("events", 0)
                rate = 0.7 * rate + 0.3 * (count - events) / (now - looked)
                events, looked = count, now
            if feeding.done():
                feeding.result()  # raises what went wrong, if anything did
            over = feeding.done() and stats is not None and is_idle(stats) and events >= (feed.committed or 1)
            if console.is_terminal:
                note = "All events are replayed. Ctrl-C stops everything." if over else "Ctrl-C stops everything."
                live.update(picture(title, tally, stats, rate, feed.committed, note), refresh=True)
                continue
            if over:
                await _read_to_end(consumer, tally)
            console.print(line(tally, stats, rate, feed.committed), soft_wrap=True)
            if over:
                return


async def _read(consumer: AIOKafkaConsumer, tally: Tally, seconds: float) -> None:
    """Add what arrives within `seconds`."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        for tp, records in (await consumer.getmany(timeout_ms=int(left * 1000) + 1)).items():
            add = tally.prediction if tp.topic.endswith("PREDICTION") else tally.totals
            for record in records:
                if record.value is not None:
                    add(record.value, record.timestamp)


async def _read_to_end(consumer: AIOKafkaConsumer, tally: Tally) -> None:
    """Add all that the topics hold by now: on a busy machine the worker is done before its rows have been read."""
    give_up = time.monotonic() + _TOPIC_S
    while time.monotonic() < give_up:
        await _read(consumer, tally, 0.2)
        tps = consumer.assignment()
        if {tp.topic for tp in tps} == consumer.subscription():
            ends = await consumer.end_offsets(tps)
            if not any([await consumer.position(tp) < end for tp, end in ends.items()]):
                return


def _lost() -> dict[int, bool]:
    """How the students' enrolments ended; of several the last counts."""
    enrolments = oulad.load_enrolments()
    return dict(zip(enrolments.student.tolist(), enrolments.unsuccessful.tolist(), strict=True))
