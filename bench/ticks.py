"""`python -m bench.ticks`: what the daily tick of a million students costs one worker, and how long it holds the loop.

The agents' code over RocksDB, with some visits partitions; Kafka is left out, but record batches are encoded as for it.
Each student has one course; first days and visits are random. Some ticks run in turn, in each of which stream time
comes to the next day. Prints one line of JSON: seconds of CPU per tick, and the longest time [ms] for which
nothing else could run. Exit code 1 above 2 s for each million, or above 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import rocksdict

from agents.cohort_tables import Tables
from agents.ports import StatePartition, Target
from agents.risk import Risk
from agents.risk_output import RiskOptions
from agents.ticker import Ticker
from app.kafka.cohort_sums import CohortSums
from app.kafka.producer import BATCH_BYTES
from app.model_file import load_models
from app.ops.metrics import Metrics
from app.settings import Settings
from app.state.activity_copy import ActivityCopy
from app.state.store import Options
from app.state.writes import changelog_pieces
from bench.environment import at_least
from codec.record_batch import OutputColumns, Rows, batches
from models import activity_records
from models.activity import Activity, Events, add
from models.activity_records import Packed
from models.cohorts import Cohorts
from models.days import LocalDays
from models.rules import Int64s
from models.ticks import Ticks

#: limits: CPU for a million students [s], and the longest time for which the loop is held [ms]
LIMIT_S, LIMIT_MS = 2.0, 50.0
#: the first day of the log, and how many days there are visits
_FIRST, _DAYS = 16_000, 70
_BLOCK = 20_000


class _Partition:
    """A visits partition in RocksDB. Implements what ticks need of agents.ports.StatePartition. Mutable."""

    generation = 0

    def __init__(self, number: int, path: Path, log: _Log) -> None:
        self.number = number
        self._database, self._log = rocksdict.Rdict(str(path), Options().as_options()), log
        self.ticks = Ticks(_FIRST + _DAYS, _FIRST + _DAYS)
        self.rows = 0
        self._activity_copy = ActivityCopy()

    def scan_early(self, _: int) -> Iterator[tuple[Int64s, Sequence[bytes]]]:
        """Yield nothing."""
        return iter(())

    def scan_activity(self, students: int) -> Iterator[Packed]:
        """Yield all records of activity."""
        return self._activity_copy.scan(self._scan_stored(students), students)

    def _scan_stored(self, students: int) -> Iterator[Packed]:
        records = cast(Any, self._database).items(from_key=activity_records.PREFIX)
        while some := list(islice(records, students)):
            keys, values = zip(*some, strict=True)
            yield activity_records.join(activity_records.students_of(keys), values, verify=True)

    async def flush(
        self,
        rows: Mapping[Target, Rows],
        records: Mapping[bytes, bytes | None],
        *,
        activity: Mapping[int, bytes | None],
        ticks: Ticks | None = None,
        more: Sequence[tuple[Target, Rows]] = (),
        **others: object,
    ) -> bool:
        """Encode what would be sent, and write the records."""
        for (topic, _), written in more:
            self.rows += len(written)
            if topic == self._log.names.cohorts:
                for _, key, value, _ in written:
                    self._log.sums.apply(key or b"", value)
            await _encode(written)
        await self.write(activity)
        self._activity_copy.update(activity)
        self.ticks = ticks or self.ticks
        return True

    async def write(self, activity: Mapping[int, bytes | None]) -> None:
        """Write records of activity, as app/state/partition.py does."""
        students = np.fromiter(activity, np.int64, len(activity))
        changed = dict(zip(activity_records.keys_of(students), activity.values(), strict=True))
        async for rows in changelog_pieces(changed, 0):
            await _encode(rows)
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, record in changed.items():
            if record is not None:
                batch.put(key, record)
        await asyncio.to_thread(self._database.write, batch)


class _Log:
    """Implements what ticks need of agents.ports.Log."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self.names, self.sums = settings.topic_names, CohortSums(settings, partitions)

    async def cohorts(self, _: StatePartition, days: Sequence[int]) -> Mapping[int, Cohorts]:
        """Return the sums as of `days`, once all partitions have written theirs."""
        while not self.sums.are_complete(max(days)):
            await asyncio.sleep(0.001)
        return await self.sums.tables(days)

    def outdated_sums(self, partition: int) -> Sequence[bytes]:
        """Return the keys of the sums that are not needed any more."""
        return self.sums.outdated(partition)


async def _encode(rows: Rows) -> None:
    if isinstance(rows, OutputColumns):
        for _ in batches(rows, BATCH_BYTES):
            await asyncio.sleep(0)


class _Watch:
    """Measures for how long the loop is held [s]. Mutable."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        """Look at every turn of the loop."""
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now


def random_activity(students: int, courses: int) -> Iterator[tuple[Int64s, Sequence[bytes | None]]]:
    """Yield students with their records: random visits on _DAYS days, and a submission in ten visits."""
    rng = np.random.default_rng(1)
    for low in range(1, students + 1, _BLOCK):
        ids = np.arange(low, min(low + _BLOCK, students + 1))
        begin, visits = rng.integers(0, _DAYS, len(ids)), rng.integers(1, 20, len(ids))
        owner = np.repeat(np.arange(len(ids)), visits)
        day = _FIRST + begin[owner] + rng.integers(0, 1 << 30, len(owner)) % (_DAYS - begin[owner])
        events = Events(owner, np.repeat(1 + ids % courses, visits), day, rng.random(len(owner)) < 0.1)
        activity = add(Activity.none(), events, forget_days=120).activity
        yield ids, activity_records.pack(activity, np.full(len(ids), -1))


async def run_tick(ticker: Ticker, partition: _Partition, days: LocalDays) -> None:
    """Run the next tick of a partition."""
    at = days.tick_at(partition.ticks.reached + 1)
    async for effect in ticker.steps(partition, None, at):  # type: ignore[arg-type]
        assert effect is not None
        await ticker.flush(partition, effect)  # type: ignore[arg-type]


async def measure(students: int, courses: int, partitions: int, ticks: int, directory: Path) -> dict[str, object]:
    """Run ticks of some `partitions`, and return the figures."""
    settings = Settings(model="v2s")
    models = load_models("v2s")
    assert models is not None
    model = models.for_log(with_events=True).standing
    assert model is not None
    days, metrics, log = LocalDays(ZoneInfo("UTC")), Metrics(), _Log(settings, partitions)
    owned = [_Partition(p, directory / f"{p}", log) for p in range(partitions)]
    for ids, records in random_activity(students, courses):
        for partition in owned:
            mine = ids % partitions == partition.number
            some = [record for record, own in zip(records, mine.tolist(), strict=True) if own]
            await partition.write(dict(zip(ids[mine].tolist(), some, strict=True)))
    options = RiskOptions(model, days)
    tables = Tables(log, model)  # type: ignore[arg-type]
    risk = Risk(settings.topic_names, options, tables)
    ticker = Ticker(log, settings.topic_names, metrics, options, risk, tables)  # type: ignore[arg-type]
    cpu: list[float] = []
    held: list[float] = []
    rows: list[int] = []
    gc.freeze()  # both as the worker does
    gc.set_threshold(200_000, 20, 50)
    for turn in range(-1, 2 * ticks):
        watch = _Watch()
        watching = asyncio.create_task(watch.run()) if turn % 2 else None  # it spins while the loop has nothing to do
        await asyncio.sleep(0.01)
        before, watch.longest = sum(p.rows for p in owned), 0.0
        began = time.process_time()
        await asyncio.gather(*(run_tick(ticker, partition, days) for partition in owned))
        used = time.process_time() - began
        await asyncio.sleep(0)
        if watching is not None:
            watching.cancel()
        if turn >= 0:  # the first one publishes everybody
            (held if turn % 2 else cpu).append(round(1e3 * watch.longest, 1) if turn % 2 else round(used, 3))
            rows.append(sum(p.rows for p in owned) - before)
    return {"students": students, "courses": courses, "cpu_s": cpu, "held_ms": held, "rows": rows}


def main() -> int:
    """Measure, print one line of JSON, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ticks", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--students", type=at_least(1), default=1_000_000, help="number of students")
    parser.add_argument("--courses", type=at_least(1), default=1_000, help="number of courses")
    parser.add_argument("--partitions", type=at_least(1), default=4, help="number of visits partitions")
    parser.add_argument(
        "--ticks", type=at_least(1), default=3, help="pairs of ticks: the CPU of one, the loop in the other"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moodle-risk-ticks-") as name:
        line = asyncio.run(measure(**vars(arguments), directory=Path(name)))
    print(json.dumps(line))
    cpu, held = line["cpu_s"], line["held_ms"]
    assert isinstance(cpu, list)
    assert isinstance(held, list)
    is_fast = min(cpu) <= LIMIT_S * max(arguments.students / 1e6, 0.1) and min(held) <= LIMIT_MS
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
