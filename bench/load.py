"""`python -m bench.load`: single log rows into the source topic, one at a time and evenly: the live load.

A process of its own, which says a line when it begins and one when it has ended. Each row's moment of sending is kept
in a file, for bench/watching.py.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.kafka.producer import new_producer
from app.settings import Settings
from bench.children import say
from models.rules import Int64s
from tools.replay import debezium
from tools.replay.log_rows import LogRows
from tools.replay.sender import assign, prepare

#: between the planning of the load and its first row [s]
_LEAD_S = 0.5


def live_rows(count: int, rate: float, students: int, start_ms: int) -> LogRows:
    """`count` rows, `rate` a second from `start_ms` on, the students one after another, again and again.

    A student's next row is `students`/`rate` seconds later: within the session, and at a later time.
    """
    index = np.arange(count)
    at = start_ms + (index * 1000 / rate).astype(np.int64)
    return LogRows(index + 1, index * 0, ("\\core\\event\\course_viewed",), index % students + 1, at)


async def evenly(
    count: int,
    rate: float,
    send: Callable[[int], Awaitable[object]],
    *,
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> tuple[Int64s, npt.NDArray[np.float64]]:
    """Send 0 … count - 1, each when it is due; when each was sent [n] ns, and how late that was [n] ms."""
    sent = np.zeros(count, np.int64)
    due = clock() + (np.arange(count) * 1e9 / rate).astype(np.int64)
    for i in range(count):
        while (wait := int(due[i]) - clock()) > 0:
            await sleep(wait / 1e9)
        sent[i] = clock()
        await send(i)
    return sent, (sent - due) / 1e6


async def run(settings: Settings, rate: float, seconds: float, students: int, partitions: int, file: Path) -> None:
    """Send it, and write the file: userid [n], at [n] ms, sent [n] ns of the monotonic clock."""
    rows = live_rows(round(rate * seconds), rate, students, round((time.time() + _LEAD_S) * 1000))
    plan = await prepare(settings, rows.take(slice(0, 1)), partitions=partitions)
    keys = debezium.keys(rows, plan.ids[0])
    values = debezium.values(rows, plan.ids[1], unit_ms=settings.unit_ms)
    where = assign(rows, plan.ids[0], partitions).tolist()
    producer = new_producer(settings.brokers)
    await producer.start()
    try:
        await producer.partitions_for(settings.source_topic)  # metadata, so that the first row does not wait for it
        say(begins=True)
        sent, late = await evenly(
            len(rows), rate, lambda i: producer.send(settings.source_topic, values[i], keys[i], where[i])
        )
        await producer.flush()
    finally:
        await producer.stop()
    part = file.with_suffix(".part")
    with part.open("wb") as out:
        np.savez(out, userid=rows.userid, at=rows.at, sent=sent)
    part.rename(file)  # whole, or not there
    say(late_ms=float(np.percentile(late, 99)))


def main() -> None:
    """What the child does."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("rate", type=float, help="rows a second")
    parser.add_argument("seconds", type=float)
    parser.add_argument("students", type=int)
    parser.add_argument("partitions", type=int)
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    settings = Settings.from_env(os.environ)
    asyncio.run(run(settings, given.rate, given.seconds, given.students, given.partitions, given.file))


if __name__ == "__main__":
    main()
