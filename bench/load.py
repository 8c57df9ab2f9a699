"""Send single log rows to the source topic at a constant rate.

Emits a line of JSON before the first row and one at the end. The time of each `send` goes to a file, for
bench/latency_reader.py.
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

from app.kafka.clients import new_producer
from app.settings import Settings
from bench.child_process import emit
from models.rules import Int64s
from tools.replay import debezium
from tools.replay.log_rows import LogRows
from tools.replay.sender import assign_partitions, prepare

#: time from planning the load to its first row [s]
_LEAD_S = 0.5


def live_rows(count: int, rate: float, students: int, start_ms: int) -> LogRows:
    """Return `count` rows at `rate` per second from `start_ms` on, for all students in turn.

    A student's next row is `students`/`rate` seconds later: in the same session, with a greater timestamp.
    """
    index = np.arange(count)
    at = start_ms + (index * 1000 / rate).astype(np.int64)
    return LogRows(index + 1, index * 0, ("\\core\\event\\course_viewed",), index % students + 1, at)


async def send_evenly(
    count: int,
    rate: float,
    send: Callable[[int], Awaitable[object]],
    *,
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> tuple[Int64s, npt.NDArray[np.float64]]:
    """Send 0 … count - 1, each when it is due; return the send times [n] ns and their delays [n] ms."""
    sent = np.zeros(count, np.int64)
    due = clock() + (np.arange(count) * 1e9 / rate).astype(np.int64)
    for i in range(count):
        while (wait := int(due[i]) - clock()) > 0:
            await sleep(wait / 1e9)
        sent[i] = clock()
        await send(i)
    return sent, (sent - due) / 1e6


async def run(settings: Settings, rate: float, seconds: float, students: int, partitions: int, file: Path) -> None:
    """Send the load and write the file: userid [n], at [n] ms, sent [n] ns of the monotonic clock."""
    rows = live_rows(round(rate * seconds), rate, students, round((time.time() + _LEAD_S) * 1000))
    plan = await prepare(settings, rows.take(slice(0, 1)), partitions=partitions)
    keys = debezium.keys(rows, plan.ids[0])
    values = debezium.values(rows, plan.ids[1], unit_ms=settings.unit_ms)
    partition = assign_partitions(rows, plan.ids[0], partitions).tolist()
    producer = new_producer(settings)
    await producer.start()
    try:
        await producer.partitions_for(settings.source_topic)  # the first row need not wait for metadata
        emit(begins=True)
        sent, late = await send_evenly(
            len(rows), rate, lambda i: producer.send(settings.source_topic, values[i], keys[i], partition[i])
        )
        await producer.flush()
    finally:
        await producer.stop()
    part = file.with_suffix(".part")
    with part.open("wb") as out:
        np.savez(out, userid=rows.userid, at=rows.at, sent=sent)
    part.rename(file)  # atomic: the reader sees a complete file or none
    emit(late_ms=float(np.percentile(late, 99)))


def main() -> None:
    """Run as a child process."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("rate", type=float, help="rows per second")
    parser.add_argument("seconds", type=float, help="duration of the load")
    parser.add_argument("students", type=int, help="number of students")
    parser.add_argument("partitions", type=int, help="partitions of the source topic")
    parser.add_argument("file", type=Path, help="npz file for the send times")
    arguments = parser.parse_args()
    asyncio.run(run(Settings.from_env(os.environ), **vars(arguments)))


if __name__ == "__main__":
    main()
