"""Real students through the whole pipeline, live on a terminal: `make demo`."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from rich.console import Console
from rich.live import Live

import stack
from app.names import Names
from app.replaying import oulad
from app.settings import Settings
from app.trial.tally import Tally
from app.trial.view import line, picture
from app.trial.workers import ROOT, TrialError, Worker, is_idle
from stack.keeper import dying_with

#: how often the picture is drawn, and a line printed where there is no terminal [s]
PICTURE_S, LINE_S = 0.25, 2.0
#: how long the replay may take to make the source topic [s]
_TOPIC_S = 30.0


async def run(directory: Path, presentation: oulad.Presentation, speed: float, console: Console) -> None:
    """Start all, show what happens until it is over (or, on a terminal, until Ctrl-C), stop all.

    speed: seconds of the course a second, 0: as fast as it goes. Raises StackError or TrialError.
    """
    with console.status("starting Kafka and the schema registry …"):
        stack.down(directory / "stack")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        servers = stack.up(directory / "stack", owner_pid=os.getpid())
    variables = {
        "RISK_BROKER": servers.broker,
        "RISK_SCHEMA_REGISTRY": servers.registry,
        "RISK_APP_ID": "demo",
        "RISK_DATADIR": str(directory / "data"),
    }
    settings = Settings.from_env(variables)
    replay = _start_replay(variables, presentation, speed, directory / "replay.log")
    try:
        async with _consumer(settings, replay, directory / "replay.log") as consumer:
            with Worker(variables, directory / "worker.log") as worker:
                console.print(f"worker and servers log to {directory}; /stats is on port {worker.port}")
                await _show(f"moodle-risk · {presentation}", consumer, worker, replay, console)
    finally:
        replay.terminate()
        replay.wait()
        stack.down(directory / "stack")


def _start_replay(
    variables: dict[str, str], one: oulad.Presentation, speed: float, log: Path
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "faust", "-A", "app", "replay", "oulad"]
    command += ["--module", one.module, "--presentation", one.code, "--speed", str(speed)]
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdout=out,
            stderr=out,
            cwd=ROOT,
            preexec_fn=dying_with(os.getpid()),
        )


@asynccontextmanager
async def _consumer(settings: Settings, replay: subprocess.Popen[bytes], log: Path) -> AsyncIterator[AIOKafkaConsumer]:
    """A reader of the totals and the predictions, once the replay has made the source topic."""
    names = Names.of(settings)
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
            if replay.poll() or time.monotonic() > until:
                raise TrialError(f"the replay did not begin:\n{log.read_text('utf-8', 'replace')[-500:]}")
            await asyncio.sleep(0.1)
        consumer.subscribe([names.agg, names.prediction])
        yield consumer
    finally:
        await consumer.stop()


async def _show(
    title: str, consumer: AIOKafkaConsumer, worker: Worker, replay: subprocess.Popen[bytes], console: Console
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
            over = replay.poll() is not None and stats is not None and is_idle(stats) and events > 0
            if console.is_terminal:
                note = "All events are replayed. Ctrl-C stops everything." if over else "Ctrl-C stops everything."
                live.update(picture(title, tally, stats, rate, note), refresh=True)
            else:
                console.print(line(tally, stats, rate), soft_wrap=True)
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


def _lost() -> dict[int, bool]:
    """How the students' enrolments ended; of several the last counts."""
    outcomes = oulad.outcomes()
    return dict(zip(outcomes.student.tolist(), outcomes.lost.tolist(), strict=True))
