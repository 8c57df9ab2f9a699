"""What stands in the risk's topics in the end does not depend on the order in which source partitions are read."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from app.kafka.cohort_sums import CohortSums
from app.settings import Settings
from codec.avro_schema import check
from codec.moodle_log import LogDecoder
from models import position as positions
from models.standing import BandRule, CohortRule
from models.visit_batch import SourceRange, VisitBatch, encode
from models.visits import COUNTED, SUBMISSION, Visits
from tests.support.effort import examples
from tests.support.risk_logs import DAY, START
from tests.support.standing import standing_model
from tools.test_driver import MemoryState, TopologyTestDriver

SOURCES = 2
#: an example is months of a log, twice
FEWER = 5
MODEL = standing_model(cohort=CohortRule(minimum=2, weeks=1), bands=BandRule(high_after_days=3), base_shift=1.0)
SCHEMA = {
    "type": "record",
    "name": "log",
    "fields": [{"name": name, "type": "long"} for name in ("id", "userid", "timecreated")],
}


class Row(NamedTuple):
    """A visit in a source partition."""

    at: int
    student: int
    course: int
    submission: bool
    source: int


def random_log(rng: random.Random) -> list[Row]:
    """Months in time order; some students are silent for about as long as an entry is kept, then come back."""
    rows, silences = (
        [],
        {s: (rng.randrange(3, 12), rng.choice([119, 120, 121, 122, 123, 124, 126, 140])) for s in range(5)},
    )
    last = 140
    for day in range(last):
        for student in range(8):
            begin, days = silences.get(student, (last, 0))
            often = 0.3 if day < 12 or day > 115 else 0.02
            if day == begin + days or (not begin < day < begin + days and rng.random() < often):
                at = START + day * DAY + rng.randrange(DAY)
                rows.append(Row(at, student + 1, rng.choice([5, 5, 6]) if student > 4 else 5, rng.random() < 0.2, 0))
    return [row._replace(source=rng.randrange(SOURCES)) for row in sorted(rows)]


def read_ahead(rng: random.Random, rows: Sequence[Row], days: int) -> list[VisitBatch]:
    """The rows in batches, as they come when some source partitions are read up to so many days ahead of the others."""
    by_source = [[row for row in rows if row.source == source] for source in range(SOURCES)]
    ends = [0] * SOURCES
    batches = []
    while any(end < len(mine) for end, mine in zip(ends, by_source, strict=True)):
        ranges = []
        behind = min(mine[end].at for end, mine in zip(ends, by_source, strict=True) if end < len(mine))
        until = behind + rng.choice([1, 1, 2, 4, 20]) * DAY // 2
        for source in rng.sample(range(SOURCES), SOURCES):
            begin, limit = ends[source], until + rng.randrange(days * DAY + 1)
            while ends[source] < len(by_source[source]) and by_source[source][ends[source]].at <= limit:
                ends[source] += 1
            ranges.append(source_range(source, by_source[source], begin, ends[source], lagging=True))
        batches.append(VisitBatch(SOURCES, ranges))
    done = [source_range(source, mine, len(mine), len(mine), lagging=False) for source, mine in enumerate(by_source)]
    return [*batches, VisitBatch(SOURCES, done)]


def source_range(source: int, rows: Sequence[Row], begin: int, end: int, *, lagging: bool) -> SourceRange:
    """Rows of a source partition; its offsets are indices."""
    part = rows[begin:end]
    at, student, course = (np.array([getattr(r, name) for r in part], np.int64) for name in ("at", "student", "course"))
    kind = np.array([COUNTED + SUBMISSION * r.submission for r in part], np.uint8)
    visits = Visits(student, np.zeros(len(part), np.bool_), at, np.arange(begin, end), course=course, kind=kind)
    watermark = max((r.at for r in rows[:end]), default=0)
    return SourceRange(source, begin, end, watermark, lagging, visits, as_of=-1 if lagging else 1 << 50)


class Killed(Exception):
    """Ends a run at a flush."""


class Dying(MemoryState):
    """A state whose owner is killed around one of its flushes: before it is committed, or after. Mutable."""

    #: number of flushes until then; whether that one is committed
    left, commits = 1 << 30, True

    async def flush(self, *args: Any, **kwargs: Any) -> bool:
        """Flush, or not, and die."""
        self.left -= 1
        if self.left == 0 and not self.commits:
            raise Killed
        done = await super().flush(*args, **kwargs)
        if self.left == 0:
            raise Killed
        return done


class Driver(TopologyTestDriver):
    """A driver whose owner may be killed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._students = Dying(self)

    def kill_at(self, flushes: int, *, commits: bool) -> None:
        """Let the owner die at a flush."""
        state = self._students
        assert isinstance(state, Dying)
        state.left, state.commits = flushes, commits

    @property
    def sums(self) -> CohortSums:
        """What the partition has written of its students."""
        return self._sums

    def go_on(self, former: Driver) -> None:
        """Take over the state and the topics of a driver that was killed."""
        state, known = former.students(0), former.students(0).position
        self._students.records, self._sums, self.topics = state.records, former.sums, former.topics
        self._students.position = positions.unpack(positions.pack(known), len(known.offsets))


def new_driver(rng: random.Random, budget: int) -> Driver:
    config = Settings(app_id="test", timezone="UTC", alert_budget=budget, batch_rows=rng.choice([50, 40_000]))
    return Driver(config, LogDecoder(None, check(SCHEMA, "log")), standing=MODEL)  # type: ignore[arg-type]


async def feed(rng: random.Random, driver: TopologyTestDriver, batches: Sequence[VisitBatch]) -> None:
    async with driver:
        values, begin = [encode(batch) for batch in batches], 0
        while begin < len(values):
            end = begin + rng.choice([1, 3, 100])
            await driver.feed(driver.names.visits, [None] * len(values[begin:end]), values[begin:end])
            begin = end


async def outcome(
    rng: random.Random, batches: Sequence[VisitBatch], budget: int, kills: Sequence[int] = ()
) -> tuple[dict[object, object], ...]:
    """What stands in the topics in the end: risk, cohort sums and predictions by key, and all alerts.

    kills: after how many flushes the owner is killed; the next one reads all batches again.
    """
    driver = new_driver(rng, budget)
    for flushes in kills:
        driver.kill_at(flushes, commits=rng.random() < 0.5)
        with suppress(Killed):
            await feed(rng, driver, batches)
        killed, driver = driver, new_driver(rng, budget)
        driver.go_on(killed)
    await feed(rng, driver, batches)
    names, topics = driver.names, driver.topics
    last = [{row.key: _untimed(row.value) for row in topics.get(name, ())} for name in (names.risk, names.prediction)]
    sums = {row.key: row.value for row in topics[names.cohorts] if row.value is not None}
    alerts = sorted((row.key or b"", row.at or 0, row.value or b"") for row in topics.get(names.risk_alerts, ()))
    return last[0], last[1], sums, dict(enumerate(alerts))


def _untimed(value: bytes | None) -> object:
    """A row without the time of the event: of several of a day, which was scored last depends on what came together."""
    return None if value is None else json.loads(value) | {"CREATED_DATE": None}


@settings(max_examples=examples(40) // FEWER, phases=(Phase.explicit, Phase.reuse, Phase.generate), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_reading_one_partition_ahead_changes_nothing(seed: int) -> None:
    """Neither the last rows, nor alerts, nor cohort sums; also of students who come back after about 120 days."""
    rng = random.Random(seed)
    rows, budget = random_log(rng), rng.choice([0, 0, 2])
    in_step, ahead = (
        asyncio.run(outcome(rng, read_ahead(rng, rows, days), budget)) for days in (0, rng.choice([2, 4, 9, 30]))
    )
    for expected, found in zip(in_step, ahead, strict=True):
        assert found == expected


@settings(max_examples=examples(40) // FEWER, phases=(Phase.explicit, Phase.reuse, Phase.generate), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_kills_around_flushes_change_nothing(seed: int) -> None:
    """The next owner scores first if it finds sums without scores, and no alert is written twice."""
    rng = random.Random(seed)
    batches, budget = read_ahead(rng, random_log(rng), rng.choice([0, 9])), rng.choice([0, 0, 2])
    expected = asyncio.run(outcome(rng, batches, budget))
    kills = [rng.randrange(1, 40) for _ in range(4)]
    for want, found in zip(expected, asyncio.run(outcome(rng, batches, budget, kills)), strict=True):
        assert found == want
