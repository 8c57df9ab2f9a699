"""Real students through the whole pipeline, live on a terminal and on the advisers' page: `make demo`."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from rich.console import Console
from rich.live import Live

import stack
from app.kafka.clients import new_consumer
from app.settings import Settings
from tools.demo import page as demo_page
from tools.demo.sources import Database, Replay, Source
from tools.demo.stats import Stats
from tools.demo.view import lag, line, panel, picture
from tools.e2e.page import Page
from tools.e2e.workers import E2EError, Worker, is_idle
from tools.replay import oulad

#: refresh interval of the view on a terminal, and interval of the lines elsewhere [s]
REFRESH_S, LINE_S = 0.25, 2.0
#: time the source has to create its topic; Kafka Connect is the slowest [s]
_TOPIC_S = 120.0
#: time the page has to answer [s]
_PAGE_S = 60.0


async def run(
    directory: Path,
    presentation: oulad.Presentation,
    speed: float,
    console: Console,
    *,
    cdc: bool = False,
    limit: int | None,
    svg: Path | None = None,
) -> None:
    """Start everything, show the pipeline until the replay is processed (on a terminal: until Ctrl-C), stop everything.

    speed: seconds of the course a second, 0: unlimited; cdc: through MariaDB and Debezium instead of a replay into
    Kafka; limit: replay only the first rows; svg: file to write a picture of the view to, and do not wait for Ctrl-C.
    Raises StackError or E2EError.
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
        source: Source
        if cdc:
            source = Database(environment, oulad.generate([str(presentation)], limit=limit), speed)
        else:
            arguments = [f"--module={presentation.module}", f"--presentation={presentation.code}", f"--speed={speed}"]
            arguments += [] if limit is None else [f"--limit={limit}"]
            source = Replay(["oulad", *arguments], variables, directory / "replay.log")
        async with AsyncExitStack() as running:
            sending = await running.enter_async_context(_running(source))
            consumer = await running.enter_async_context(_consumer(Settings.from_env(variables), sending))
            worker = running.enter_context(Worker(variables, directory / "worker.log"))
            console.print(f"worker, page and servers log to {directory}; /stats is on port {worker.port}")
            page = running.enter_context(demo_page.new_page(variables, directory)) if demo_page.is_installed() else None
            if page is None:
                console.print("no advisers' page: it needs pip install 'moodle-risk[page]'")
            else:
                await asyncio.to_thread(page.wait, timeout=_PAGE_S, state="loading")
                console.print(f"[bold]advisers' page: {page.url}[/]", soft_wrap=True)
            title = f"moodle-risk · {presentation}{' · MariaDB → Debezium → Kafka' if cdc else ''}"
            await _show(title, consumer, worker, page, source, sending, console, svg)
    finally:
        stack.down(servers)


@asynccontextmanager
async def _running(source: Source) -> AsyncIterator[asyncio.Task[None]]:
    """Run the source in a task, and cancel it at the end."""
    sending = asyncio.create_task(source.run())
    try:
        yield sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


@asynccontextmanager
async def _consumer(settings: Settings, sending: asyncio.Task[None]) -> AsyncIterator[AIOKafkaConsumer]:
    """Yield a consumer of the outputs that the view shows, once the source topic exists."""
    names = settings.topic_names
    consumer = new_consumer(settings, auto_offset_reset="earliest", metadata_max_age_ms=1000)
    await consumer.start()
    try:
        deadline = time.monotonic() + _TOPIC_S
        while settings.source_topic not in await consumer.topics():
            if sending.done():
                sending.result()  # raises the source's exception, if any
            if time.monotonic() > deadline:
                raise E2EError(f"topic {settings.source_topic} has no row after {_TOPIC_S:g} s")
            await asyncio.sleep(0.1)
        consumer.subscribe([names.agg, names.prediction, names.risk, names.risk_alerts])
        yield consumer
    finally:
        await consumer.stop()


async def _show(
    title: str,
    consumer: AIOKafkaConsumer,
    worker: Worker,
    page: Page | None,
    source: Source,
    sending: asyncio.Task[None],
    console: Console,
    svg: Path | None,
) -> None:
    stats, interactive = Stats(_outcomes()), console.is_terminal and svg is None
    events, last_poll, rate, drawn = 0, time.monotonic(), 0.0, None
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            await _read(consumer, stats, REFRESH_S if interactive else LINE_S)
            worker.require_running()
            if page is not None:
                page.require_running()
            status = await asyncio.to_thread(worker.stats)
            now = time.monotonic()
            if status is not None:
                count = status["counts"].get("events", 0)
                rate = 0.7 * rate + 0.3 * (count - events) / (now - last_poll)
                events, last_poll = count, now
            if sending.done():
                sending.result()  # raises the source's exception, if any
            done = sending.done() and status is not None and is_idle(status) and events >= (source.committed or 1)
            if done and not interactive:
                await _read_to_end(consumer, stats)
            note = "All events are replayed. Ctrl-C stops everything." if done else "Ctrl-C stops everything."
            if page is not None:
                note = f"Advisers see {page.url} · {note}"
            view = panel(title, stats, status, rate, source.committed, note)
            if interactive:
                live.update(view, refresh=True)
                continue
            console.print(line(stats, status, rate, source.committed), soft_wrap=True)
            # at the end there is neither a rate nor a lag: draw the last view that has both, if there is one
            if svg and ((status is not None and lag(status, source.committed)) or (done and drawn is None)):
                drawn = picture(view, "faust -A app demo")
            if done:
                if svg and drawn:
                    svg.write_text(drawn, encoding="utf-8")
                return


async def _read(consumer: AIOKafkaConsumer, stats: Stats, seconds: float) -> None:
    """Add the records that arrive within `seconds`."""
    names = Settings().topic_names
    adders = {
        names.agg: stats.add_totals,
        names.prediction: stats.add_prediction,
        names.risk: stats.add_risk,
        names.risk_alerts: stats.add_alert,
    }
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        for tp, records in (await consumer.getmany(timeout_ms=int(left * 1000) + 1)).items():
            add = adders[tp.topic]
            for record in records:
                add(record.key, record.value, record.timestamp)


async def _read_to_end(consumer: AIOKafkaConsumer, stats: Stats) -> None:
    """Add all records up to the topics' current ends: on a busy machine the worker finishes before they are read."""
    deadline = time.monotonic() + _TOPIC_S
    while time.monotonic() < deadline:
        await _read(consumer, stats, 0.2)
        tps = consumer.assignment()
        if {tp.topic for tp in tps} == consumer.subscription():
            ends = await consumer.end_offsets(tps)
            if not any([await consumer.position(tp) < end for tp, end in ends.items()]):
                return


def _outcomes() -> dict[int, bool]:
    """Return whether each student's last enrolment ended in Withdrawn or Fail."""
    enrolments = oulad.load_enrolments()
    return dict(zip(enrolments.student.tolist(), enrolments.unsuccessful.tolist(), strict=True))
