"""Measure when a read_committed consumer sees the prediction of each event of the load.

Emits a line of JSON when the consumer is at the end of the topic, and another one with the results when every event
has a prediction or none has arrived for a while.
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
from aiokafka import TopicPartition

from app.kafka.clients import new_consumer
from app.settings import Settings
from bench.child_process import emit
from bench.figures import percentiles
from models.rules import Bools, Int64s

#: how long one fetch waits for records [s]
_POLL_S = 0.1
#: after the end of the load: time without a new prediction after which the missing ones are given up [s]
_SILENCE_S = 5.0

#: time of arrival [ns of the monotonic clock] and value of a row
Seen = tuple[int, bytes]


def match(userid: Int64s, at: Int64s, seen_userid: Int64s, seen_at: Int64s) -> tuple[Int64s, Bools]:
    """Match each event (userid [n], at [n] ms) with the first prediction that includes it.

    Returns the index of the prediction [n], and whether there is one [n]. The predictions (seen_userid [m], seen_at [m]
    ms: CREATED_DATE) are in order of arrival. The match is the student's first one whose CREATED_DATE is not before the
    event: a flush with two events of a student writes one prediction.
    """
    if not len(seen_userid):
        return np.zeros(len(userid), np.int64), np.zeros(len(userid), np.bool_)
    base = min(int(at.min(initial=seen_at.min())), int(seen_at.min()))
    width = max(int(at.max(initial=0)), int(seen_at.max())) - base + 1
    order = np.argsort(seen_userid, kind="stable")
    # a student's CREATED_DATE never decreases in the app's output, but may in that of other programs
    marks = np.maximum.accumulate(seen_userid[order] * width + (seen_at[order] - base))
    slot = np.searchsorted(marks, userid * width + (at - base))
    matched = slot < len(order)
    index = order[np.minimum(slot, len(order) - 1)]
    return index, matched & (seen_userid[index] == userid)


def columns(seen: Sequence[Seen]) -> tuple[Int64s, Int64s, Int64s]:
    """Return time of arrival [m] ns, userid [m] and CREATED_DATE [m] ms."""
    rows = [(ns, row["USERID"], row["CREATED_DATE"]) for ns, value in seen for row in (json.loads(value),)]
    table = np.array(rows, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def latencies(file: Path, seen: Sequence[Seen], skip: int) -> tuple[npt.NDArray[np.float64], int]:
    """Return the latencies [k] ms of the events in the load's `file` except the first `skip`, and the number unseen."""
    with np.load(file) as load:
        userid, at, sent = (load[name][skip:] for name in ("userid", "at", "sent"))
    ns, seen_userid, seen_at = columns(seen)
    index, matched = match(userid, at, seen_userid, seen_at)
    return (ns[index[matched]] - sent[matched]) / 1e6, int((~matched).sum())


async def read_predictions(settings: Settings, topic: str, file: Path) -> list[Seen]:
    """Read rows until the load has ended and each event has a prediction, or no more arrive."""
    tp = TopicPartition(topic, 0)
    consumer = new_consumer(settings)
    await consumer.start()
    seen: list[Seen] = []
    try:
        consumer.assign([tp])
        await consumer.seek_to_end(tp)
        await consumer.position(tp)
        emit(ready=True)
        since = time.monotonic()
        while True:
            for records in (await consumer.getmany(timeout_ms=round(_POLL_S * 1000))).values():
                now, since = time.monotonic_ns(), time.monotonic()
                seen += [(now, r.value) for r in records if r.value is not None]
            silent_s = time.monotonic() - since
            # match only while nothing arrives, since it would delay the next fetch
            if file.exists() and silent_s > 2 * _POLL_S and (silent_s > _SILENCE_S or not latencies(file, seen, 0)[1]):
                return seen
    finally:
        await consumer.stop()


def main() -> None:
    """Run as a child process."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency_reader", description=__doc__)
    parser.add_argument("topic", help="topic of the predictions")
    parser.add_argument("file", type=Path, help="npz file that bench.load writes when it has ended")
    parser.add_argument("skip", type=int, help="number of events of the warm-up, which are not measured")
    arguments = parser.parse_args()
    seen = asyncio.run(read_predictions(Settings.from_env(os.environ), arguments.topic, arguments.file))
    latency, unseen = latencies(arguments.file, seen, arguments.skip)
    p50, p99, maximum = percentiles(latency)
    emit(events=len(latency), unseen=unseen, p50_ms=p50, p99_ms=p99, max_ms=maximum)


if __name__ == "__main__":
    main()
