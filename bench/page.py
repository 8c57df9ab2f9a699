"""Measure the advisers' page: loading its topics, and serving readers while changes arrive.

Starts its own servers and writes the topics. Then a page of its own loads them from their beginning; and a second one,
over fewer students, serves readers, who each have a list open that listens to changes. Prints a table on stderr and
one line of JSON on stdout. Exit code 1 if a figure is above its limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

import stack
from app.kafka.clients import new_producer
from app.kafka.producer import send_rows
from app.settings import Settings
from bench.child_process import ChildProcess
from bench.environment import at_least, create_topics, stderr_console, temporary_servers
from bench.load import send_evenly
from bench.page_rows import TIMED_COURSE, risk_row, risk_rows, session_rows
from bench.procfs import cpu_s, peak_mb
from codec.record import Row
from tools.e2e.page import Page

#: what the documents promise: loading [s, MB], a list or a student's page, a change on the screen, p95 [ms]
LOADING_S, LOADING_MB, SERVED_MS, SHOWN_MS = 120.0, 400.0, 100.0, 1000.0
_ROWS = 20_000
#: time that the page is given to load [s]
_PATIENCE_S = 900.0


@dataclass(frozen=True)
class Loading:
    """A page that has read its topics from their beginning."""

    students: int
    #: from the start of the process until it is live
    seconds: float
    cpu_s: float
    peak_mb: float

    @property
    def is_within(self) -> bool:
        return self.seconds <= LOADING_S and self.peak_mb <= LOADING_MB


@dataclass(frozen=True)
class Serving:
    """A page with readers."""

    students: int
    courses: int
    readers: int
    changes_per_s: float
    requests: int
    list_p50_ms: float
    list_p95_ms: float
    student_p50_ms: float
    student_p95_ms: float
    #: from sending the record to the event in the browser
    shown_p50_ms: float
    shown_p95_ms: float
    #: events that the readers' browsers have got
    events: int
    #: of the page's process, in cores
    cpu: float
    peak_mb: float

    @property
    def is_within(self) -> bool:
        return max(self.list_p95_ms, self.student_p95_ms) <= SERVED_MS and self.shown_p95_ms <= SHOWN_MS


class Topics:
    """The topics of one page."""

    def __init__(self, servers: stack.Environment, directory: Path, tag: str) -> None:
        self.variables = {
            **servers.settings,
            "RISK_APP_ID": tag,
            "RISK_TOPIC_PREFIX": f"{tag}-",
            "RISK_PAGE_STALE_HOURS": "0",
            "RISK_PAGE_DATADIR": str(directory / tag),
        }
        self.settings = Settings.from_env(self.variables)
        self.log = directory / f"{tag}.log"

    async def write(self, risks: Iterable[Row], sessions: Iterable[Row]) -> None:
        """Create the topics and write rows."""
        await create_topics(self.settings, 1)
        names = self.settings.topic_names
        producer = new_producer(self.settings)
        await producer.start()
        try:
            for topic, rows in ((names.risk, iter(risks)), (names.sessions, iter(sessions))):
                while some := list(islice(rows, _ROWS)):
                    for batch in await send_rows(producer, topic, 0, some):
                        await batch.answer
        finally:
            await producer.stop()

    def page(self) -> Page:
        """A page over them that is not started yet."""
        return Page(self.variables, self.log)


def measure_loading(servers: stack.Environment, directory: Path, students: int, courses: int) -> Loading:
    """Load a risk and a session of each student."""
    topics = Topics(servers, directory, "loading")
    asyncio.run(topics.write(risk_rows(students, courses), session_rows(students)))
    began = time.monotonic()
    with topics.page() as page:
        page.wait(timeout=_PATIENCE_S)
        seconds, pid = time.monotonic() - began, page.process.pid
        return Loading(students, round(seconds, 1), round(cpu_s(pid), 1), round(peak_mb(pid), 1))


def measure_serving(
    servers: stack.Environment, directory: Path, students: int, courses: int, readers: int, rate: float, seconds: float
) -> Serving:
    """Serve `readers` for `seconds` while `rate` changes a second arrive."""
    topics = Topics(servers, directory, "serving")
    choose = random.Random(1)
    timed = [risk_row(i, TIMED_COURSE, choose) for i in range(1, 11)]
    asyncio.run(topics.write([*risk_rows(students, courses, days=3), *timed], session_rows(students)))
    with topics.page() as page:
        page.wait(timeout=_PATIENCE_S)
        arguments = [page.url.rstrip("/"), str(readers), str(seconds), str(courses)]
        cpu, began = cpu_s(page.process.pid), time.monotonic()
        with ChildProcess("bench.page_readers", arguments, {}, directory / "readers.log") as child:
            shown = asyncio.run(_changes(topics.settings, page.url, students, courses, rate, seconds))
            seen = child.read()
        spent = (cpu_s(page.process.pid) - cpu) / (time.monotonic() - began)
        lists, pages, waits = (
            [round(float(ms), 1) for ms in np.percentile(times, (50, 95))]
            for times in (seen["times"]["list"], seen["times"]["student"], shown)
        )
        return Serving(
            students=students,
            courses=courses,
            readers=readers,
            changes_per_s=rate,
            requests=sum(map(len, seen["times"].values())),
            list_p50_ms=lists[0],
            list_p95_ms=lists[1],
            student_p50_ms=pages[0],
            student_p95_ms=pages[1],
            shown_p50_ms=waits[0],
            shown_p95_ms=waits[1],
            events=seen["events"],
            cpu=round(spent, 2),
            peak_mb=round(peak_mb(page.process.pid), 1),
        )


async def _changes(
    settings: Settings, url: str, students: int, courses: int, rate: float, seconds: float
) -> list[float]:
    """Write rows of random students at `rate` a second, and a timed one every second.

    Returns the times from sending a timed row to the event in a browser [ms].
    """
    choose, topic = random.Random(2), settings.topic_names.risk
    producer = new_producer(settings, linger_ms=5)
    await producer.start()
    sent: list[float] = []
    seen: list[float] = []

    async def listen() -> None:
        async with (
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=None) as client,
            client.stream("GET", f"/changes?course={TIMED_COURSE}") as answer,
        ):
            async for line in answer.aiter_lines():
                if line.startswith("event: changes"):
                    seen.append(time.perf_counter())

    async def time_changes() -> None:
        await asyncio.sleep(1.0)
        while True:
            _, key, value, _ = risk_row(choose.randrange(1, 11), TIMED_COURSE, choose)
            sent.append(time.perf_counter())
            await producer.send_and_wait(topic, value, key, 0)
            await asyncio.sleep(choose.uniform(0.7, 1.3))

    async def send(_: int) -> object:
        student = choose.randrange(students)
        row = risk_row(student + 1, student % courses + 2, choose)
        return await producer.send(topic, row[2], row[1], 0)

    tasks = [asyncio.create_task(listen()), asyncio.create_task(time_changes())]
    try:
        await send_evenly(round(rate * seconds), rate, send)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await producer.stop()
    # of each the first event that follows; the last may still be under way
    return [1000 * (min(t for t in seen if t >= at) - at) for at in sent if at <= max(seen, default=0.0)]


def show(console: Console, results: Iterable[Loading | Serving]) -> None:
    """Print the figures."""
    for result in results:
        table = Table(title=type(result).__name__.lower(), show_header=False)
        for name, value in asdict(result).items():
            table.add_row(name.replace("_", " "), f"{value:,}")
        console.print(table)


def main() -> int:
    """Measure, print tables and one line of JSON, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.page", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    number = parser.add_argument
    number("--load", type=at_least(0), default=1_000_000, metavar="STUDENTS", help="students to load, 0 for none")
    number("--students", type=at_least(0), default=100_000, help="students to serve, 0 for none")
    number("--courses", type=at_least(1), default=50, help="courses")
    number("--readers", type=at_least(1), default=20, help="readers")
    number("--rate", type=at_least(1), default=200, help="changes a second")
    number("--seconds", type=at_least(1), default=60, help="duration of serving")
    a = parser.parse_args()
    console = stderr_console()
    results: list[Loading | Serving] = []
    with temporary_servers("page") as (servers, directory):
        if a.load:
            results.append(measure_loading(servers, directory, a.load, a.courses))
        if a.students:
            results.append(measure_serving(servers, directory, a.students, a.courses, a.readers, a.rate, a.seconds))
    show(console, results)
    print(json.dumps({type(result).__name__.lower(): asdict(result) for result in results}))
    return 0 if all(result.is_within for result in results) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
