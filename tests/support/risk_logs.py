"""Random small logs of courses, submissions and students who stop, and what the pipeline makes of them."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from app.settings import Settings
from codec.avro_schema import check
from codec.moodle_log import LogDecoder
from models.standing import BandRule, CohortRule, StandingModel
from tests.support.oracle import Ksql
from tests.support.standing import standing_model
from tools.e2e.read_topic import Record
from tools.e2e.risk_oracle.check import RiskCheck
from tools.e2e.risk_oracle.days import Calendar
from tools.e2e.risk_oracle.log import Counting, LogRow, read
from tools.e2e.risk_oracle.rules import Rules
from tools.e2e.risk_oracle.standing import Standing
from tools.replay import debezium
from tools.replay.log_rows import OPTIONAL, LogRows, Texts
from tools.test_driver import KnownSchemas, TopologyTestDriver

HOUR, DAY = 3_600_000, 86_400_000
#: around the end of summer time in Europe, America and on Lord Howe Island [epoch ms]
START = 1_381_104_000_000
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
SUBMITTED = r"\mod_assign\event\assessable_submitted"
VIEWED = r"\core\event\course_viewed"


@dataclass(frozen=True)
class Case:
    """A log and all that decides what becomes of it."""

    rows: Sequence[LogRow]
    model: StandingModel
    zone: str
    per_course: bool
    budget: int = 0

    @property
    def settings(self) -> Settings:
        return Settings(
            app_id="test",
            timezone=self.zone,
            courses="per-course" if self.per_course else "site",
            alert_budget=self.budget,
            ignore_users="1,2",
        )

    @property
    def counting(self) -> Counting:
        return Counting(self.model.submission_events, (1, 2), self.per_course)

    def check(self, risk: Sequence[Record], alerts: Sequence[Record], *, in_order: bool = True) -> RiskCheck:
        """Return the comparison of rows with this case."""
        calendar = Calendar(self.zone)
        standing = Standing.of(self.model.id, self.model.to_json())
        refused = refused_by_ksql(self.rows)
        history = read(self.rows, self.counting, calendar, self.model.cohort.forget_days, refused=refused)
        rules = Rules(standing, self.counting, calendar, self.budget)
        return RiskCheck(rules, self.rows, history, risk, alerts, in_order=in_order)


def refused_by_ksql(rows: Sequence[LogRow]) -> set[int]:
    """Return the indices of the rows that KSQL drops as late."""
    rules, refused = Ksql(), set()
    for i, row in enumerate(rows):
        before = rules.late
        rules.visit(row.userid, row.at)  # type: ignore[arg-type]  # None is a student like any other
        if rules.late > before:
            refused.add(i)
    return refused


def random_case(
    rng: random.Random, *, budget: int = 0, rows: int = 120, days: Sequence[int] = (15, 30, 60, 160)
) -> Case:
    """Return a case whose cohorts are small, with rules under which everything happens soon."""
    model = standing_model(
        cohort=CohortRule(minimum=rng.choice([2, 3]), weeks=rng.choice([0, 1, 4])),
        bands=BandRule(high_after_days=rng.choice([0, 3, 14])),
        base_shift=rng.choice([0.0, 1.0]),
        submissions=rng.random() < 0.8,
    )
    log = random_rows(rng, students=rng.randrange(3, 10), days=rng.choice(days), rows=rng.randrange(20, rows))
    return Case(log, model, rng.choice(ZONES), rng.random() < 0.8, budget)


def random_rows(rng: random.Random, *, students: int, days: int, rows: int) -> list[LogRow]:
    """Return rows in time order: some students stop, some rows do not count, some are handed in by others."""
    ids = range(2, 2 + students)
    stops = {s: rng.choice([days, rng.randrange(days), min(3, days - 1)]) for s in ids}
    silence = rng.randrange(days)
    ats = []
    for _ in range(rows):
        student, day = rng.choice(ids), rng.randrange(days)
        if (day > stops[student] and rng.random() < 0.95) or (silence <= day < silence + 6 and rng.random() < 0.9):
            continue
        ats.append((START + day * DAY + rng.randrange(DAY), student))
    log = []
    for i, (at, student) in enumerate(sorted(ats)):
        submitted = rng.random() < 0.15
        log.append(
            LogRow(
                id=i + 1,
                userid=_rarely(rng, student, (None, 0, -1, 1)),
                courseid=rng.choice([5, 5, 5, 6, None, 0]),
                eventname=_rarely(rng, SUBMITTED if submitted else VIEWED, (None,)),
                relateduserid=rng.choice([None, None, student, rng.choice(ids), 0]),
                realuserid=_rarely(rng, None, (9,)),
                anonymous=_rarely(rng, 0, (1,)),
                origin=_rarely(rng, "web", ("ws", "cli", "restore", None)),
                at=at,
            )
        )
    return log


def _rarely(rng: random.Random, usual: Any, others: Sequence[Any]) -> Any:
    return rng.choice(others) if rng.random() < 0.03 else usual


def shuffled(rng: random.Random, rows: Sequence[LogRow], hours: float = 20.0) -> list[LogRow]:
    """Return the rows in another order of arrival, none of them later than by so many hours."""
    order = sorted(rows, key=lambda row: row.at + rng.randrange(round(hours * HOUR)))
    return [row._replace(id=i + 1) for i, row in enumerate(order)]


def columns_of(rows: Sequence[LogRow]) -> LogRows:
    """Return such rows as the columns of a log that has all of them."""
    event, origin = _texts([row.eventname for row in rows]), _texts([row.origin for row in rows])
    numbers = {
        name: np.array([getattr(row, name) or 0 for row in rows], np.int64) for name in OPTIONAL if name != "origin"
    }
    nulls = {
        name: np.array([getattr(row, name) is None for row in rows], np.bool_)
        for name in ("userid", "eventname", *OPTIONAL)
    }
    return LogRows(
        np.array([row.id for row in rows], np.int64),
        event.index,
        event.names,
        np.array([row.userid or 0 for row in rows], np.int64),
        np.array([row.at for row in rows], np.int64),
        {name: mask for name, mask in nulls.items() if mask.any()},
        numbers,
        origin,
    )


def _texts(column: Sequence[str | None]) -> Texts:
    names = tuple(dict.fromkeys(text or "" for text in column))
    index = {name: i for i, name in enumerate(names)}
    return Texts(np.array([index[text or ""] for text in column], np.int64), names)


async def run_pipeline(
    case: Case, rng: random.Random, *, doubled: bool = False, cuts: int = 10, batch_rows: int = 40_000
) -> TopologyTestDriver:
    """Feed a case's rows to the pipeline in random fetches; doubled: each row twice."""
    rows = columns_of(case.rows)
    schema = json.loads(debezium.schemas_of("log", rows).value)
    settings = dataclasses.replace(case.settings, batch_rows=batch_rows)
    decoder = LogDecoder(KnownSchemas({1: schema}), check(schema, "log"), counting=settings.counting)
    values = [value for value in debezium.values(rows, 1) for _ in range(1 + doubled)]
    places = sorted(rng.sample(range(len(values) + 1), min(len(values), rng.randrange(cuts + 1))))
    async with TopologyTestDriver(settings, decoder, standing=case.model) as driver:
        for begin, end in pairwise([0, *places, len(values)]):
            if end > begin:
                await driver.feed(driver.names.source, [None] * (end - begin), values[begin:end])
    return driver


def written(driver: TopologyTestDriver, topic: str) -> list[Record]:
    """Return what the pipeline has written to a topic."""
    rows = driver.topics.get(topic, [])
    return [Record(row.key, row.value, row.at or 0, row.headers) for row in rows]  # type: ignore[arg-type]
