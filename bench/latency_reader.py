"""`python -m bench.watching`: when does a reader that reads committed see the prediction of each row of the load?

A process of its own. It says a line when it stands at the topic's end, and another one, with what it found, when
it has seen a prediction for each student's last row, or nothing new for a while.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.settings import Settings
from bench.children import say
from bench.figures import percentiles
from models.rules import Bools, Int64s

#: how long one look waits [s]
_LOOK_S = 0.1
#: after the load has ended, how long nothing new may come before what is missing is given up [s]
_SILENCE_S = 5.0

#: when it was seen [ns of the monotonic clock], and the row's value
Seen = tuple[int, bytes]


def match(userid: Int64s, at: Int64s, seen_userid: Int64s, seen_at: Int64s) -> tuple[Int64s, Bools]:
    """For each event (userid [n], at [n] ms) the first prediction that knows of it: which [n], and if there is one [n].

    Predictions (seen_userid [m], seen_at [m] ms: CREATED_DATE) in the order in which they were seen. It is the
    student's first whose CREATED_DATE is not before the event: a flush that holds two events of a student writes
    one prediction for both.
    """
    if not len(seen_userid):
        return np.zeros(len(userid), np.int64), np.zeros(len(userid), np.bool_)
    base = min(int(at.min(initial=seen_at.min())), int(seen_at.min()))
    width = max(int(at.max(initial=0)), int(seen_at.max())) - base + 1
    order = np.argsort(seen_userid, kind="stable")
    # a student's CREATED_DATE never falls in what the app writes; others' writers need not be so good
    marks = np.maximum.accumulate(seen_userid[order] * width + (seen_at[order] - base))
    place = np.searchsorted(marks, userid * width + (at - base))
    found = place < len(order)
    chosen = order[np.minimum(place, len(order) - 1)]
    return chosen, found & (seen_userid[chosen] == userid)


def columns(seen: Sequence[Seen]) -> tuple[Int64s, Int64s, Int64s]:
    """When each was seen [m] ns, its userid [m] and CREATED_DATE [m] ms."""
    rows = [(ns, row["USERID"], row["CREATED_DATE"]) for ns, value in seen for row in (json.loads(value),)]
    table = np.array(rows, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def latencies(file: Path, seen: Sequence[Seen], skip: int) -> tuple[npt.NDArray[np.float64], int]:
    """Latency [k] ms of the events in the load's `file`, but for the first `skip`; and how many were never seen."""
    with np.load(file) as load:
        userid, at, sent = (load[name][skip:] for name in ("userid", "at", "sent"))
    ns, seen_userid, seen_at = columns(seen)
    which, found = match(userid, at, seen_userid, seen_at)
    return (ns[which[found]] - sent[found]) / 1e6, int((~found).sum())


async def watch(settings: Settings, topic: str, file: Path) -> list[Seen]:
    """Everything that comes, until the load has ended and all of it, or nothing more, has been seen."""
    tp = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.broker, isolation_level="read_committed")
    await consumer.start()
    seen: list[Seen] = []
    try:
        consumer.assign([tp])
        await consumer.seek_to_end(tp)
        await consumer.position(tp)
        say(ready=True)
        since = time.monotonic()
        while True:
            for records in (await consumer.getmany(timeout_ms=round(_LOOK_S * 1000))).values():
                now, since = time.monotonic_ns(), time.monotonic()
                seen += [(now, r.value) for r in records if r.value is not None]
            silent_s = time.monotonic() - since
            # arithmetic only while nothing comes, or it would delay the next look
            if file.exists() and silent_s > 2 * _LOOK_S and (silent_s > _SILENCE_S or not latencies(file, seen, 0)[1]):
                return seen
    finally:
        await consumer.stop()


def main() -> None:
    """What the child does."""
    parser = argparse.ArgumentParser(prog="python -m bench.watching", description=__doc__)
    parser.add_argument("topic")
    parser.add_argument("file", type=Path, help="where the load writes what it sent, when it has ended")
    parser.add_argument("skip", type=int, help="events at the beginning that do not count")
    given = parser.parse_args()
    seen = asyncio.run(watch(Settings.from_env(os.environ), given.topic, given.file))
    latency, unseen = latencies(given.file, seen, given.skip)
    p50, p99, most = percentiles(latency)
    say(events=len(latency), unseen=unseen, p50_ms=p50, p99_ms=p99, max_ms=most)


if __name__ == "__main__":
    main()
