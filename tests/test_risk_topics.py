"""MOODLE_RISK, MOODLE_RISK_ALERTS and the predictions of random logs, against the oracle in sets of days."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from models.days import LocalDays
from models.standing import AlertRule, BandRule, CohortRule
from tests.support.effort import examples
from tests.support.risk_logs import (
    DAY,
    HOUR,
    START,
    SUBMITTED,
    VIEWED,
    ZONES,
    Case,
    random_case,
    run_pipeline,
    shuffled,
    written,
)
from tests.support.risk_loop import RiskLoop
from tests.support.standing import standing_model
from tools.e2e.risk_oracle.days import Calendar
from tools.e2e.risk_oracle.log import LogRow
from tools.e2e.risk_oracle.predictions import prediction_differences

#: what a random case is made from
SEEDS = st.integers(0, 2**32)
#: a seed cannot be made simpler
ONCE = (Phase.explicit, Phase.reuse, Phase.generate)
#: in the years 2005 to 2030 [epoch ms]
TIMES = st.integers(1_104_537_600_000, 1_900_000_000_000)


@settings(max_examples=examples(30), phases=ONCE)
@given(seed=SEEDS)
def test_the_pipeline_writes_what_the_oracle_expects(seed):
    """Random fetches and flushes, rows twice, rows that do not count, late rows, time zones with DST, budgets."""
    rng = random.Random(seed)
    case = random_case(rng, budget=rng.choice([0, 0, 1, 2]))
    if rng.random() < 0.5:
        case = replace(case, rows=shuffled(rng, case.rows, rng.choice([20.0, 30.0])))
    driver = asyncio.run(run_pipeline(case, rng, doubled=rng.random() < 0.3, batch_rows=rng.choice([3, 40_000])))
    risk, alerts = written(driver, driver.names.risk), written(driver, driver.names.risk_alerts)
    assert case.check(risk, alerts).run() == []
    assert prediction_differences(written(driver, driver.names.prediction), risk) == []


@settings(max_examples=examples(30), phases=ONCE)
@given(seed=SEEDS)
def test_the_models_over_several_partitions_agree_with_the_oracle(seed):
    """One to eight partitions; checked as rows of a test, and as those of a run whose order of rows is not known."""
    rng = random.Random(seed)
    case = random_case(rng, rows=60, days=(10, 20, 20, 140))
    if rng.random() < 0.5:
        case = replace(case, rows=shuffled(rng, case.rows))
    loop = RiskLoop(case.model, LocalDays(case.settings.zone), case.counting, rng.randrange(1, 9))
    loop.run(case.rows, rng, times=rng.choice([1, 2]))
    for in_order in (True, False):
        assert case.check(loop.risk, loop.alerts, in_order=in_order).run() == []


@settings(max_examples=examples(20), phases=ONCE)
@given(seed=SEEDS)
def test_the_order_of_arrival_changes_no_alert_and_no_value_of_a_tick(seed):
    """Rows that arrive up to 20 h later than others, in other fetches and each twice."""
    rng = random.Random(seed)
    case = random_case(rng, days=(15, 40))
    first = asyncio.run(run_pipeline(case, rng))
    other = asyncio.run(run_pipeline(replace(case, rows=shuffled(rng, case.rows)), rng, doubled=True))
    assert sorted(written(first, first.names.risk_alerts)) == sorted(written(other, other.names.risk_alerts))
    one, two = (ticks_of(written(driver, driver.names.risk)) for driver in (first, other))
    assert {k: one[k] for k in one.keys() & two.keys()} == {k: two[k] for k in one.keys() & two.keys()}


def ticks_of(risk):
    """The rows of ticks by key and timestamp."""
    return {(r.key, r.at): r.value for r in risk if r.value and b'"TRIGGER":"tick"' in r.value}


# -- a course of three, of whom one stops, by hand


def course(days, *, stops=3):
    """Students 3 and 4 visit course 5 at noon of each of `days`, student 5 on the first `stops` of them."""
    visits = [(s, day) for day in days for s in (3, 4, 5) if s < 5 or day < stops]
    return [
        LogRow(i, s, 5, SUBMITTED if day == 1 and s < 5 else VIEWED, None, None, 0, "web", NOON + day * DAY)
        for i, (s, day) in enumerate(visits, 1)
    ]


#: noon of the first day of the course [epoch ms], and that day
NOON, FIRST = START // DAY * DAY + 12 * HOUR, START // DAY
RULES = {
    "cohort": CohortRule(minimum=3),
    "bands": BandRule(high_after_days=5),
    "alerts": AlertRule(on=0.7, off=0.6, ticks=3),
    "intercept": 0.0,
}


async def played(rows):
    """What the pipeline writes for `rows`: risk and alerts, checked, as JSON."""
    case = Case(rows, standing_model(**RULES), "UTC", True)
    driver = await run_pipeline(case, random.Random(1))
    topics = [written(driver, driver.names.risk), written(driver, driver.names.risk_alerts)]
    assert case.check(*topics).run() == []
    return [[json.loads(record.value) for record in records] for records in topics]


def day_of(row, column):
    """The day of the course that a row names."""
    return Calendar.parse(row[column]) - FIRST


async def test_a_student_who_stops_is_flagged_by_ticks_alone():
    """No event of the student is needed: three ticks in a row with a high risk open an alert, with the reasons."""
    risk, (opened,) = await played(course(range(15)))
    assert (opened["USERID"], opened["ALERT"], opened["WHY"], day_of(opened, "DAY")) == (5, "opened", "risk", 7)
    assert [(reason["CODE"], reason["OWN"]) for reason in opened["REASONS"]] == [("SUBMISSIONS", 0), ("VISITS", 3)]
    mine = [row for row in risk if row["USERID"] == 5]
    first = next(row for row in mine if row["BAND"] == "HIGH")
    assert (first["TRIGGER"], day_of(first, "AS_OF"), first["ALERT"]) == ("tick", 5, False)
    turned = next(row for row in mine if row["ALERT"])
    assert (turned["TRIGGER"], turned["SINCE"], turned["AS_OF"]) == ("tick", opened["DAY"], opened["DAY"])


async def test_a_feed_that_stands_still_flags_nobody():
    """Nothing is scored by a clock: without rows stream time stands, and so do the ticks, whatever the time is."""
    risk, alerts = await played(course(range(6)))
    assert alerts == []
    assert max(day_of(row, "AS_OF") for row in risk) == 5
    assert max(day_of(row, "AS_OF") for row in risk if row["TRIGGER"] == "tick") <= 3


async def test_the_days_of_a_long_stop_are_caught_up_one_by_one():
    """The first row after a stop of twenty days makes their ticks due: each is as of its own day."""
    back = [LogRow(900 + s, s, 5, VIEWED, None, None, 0, "web", NOON + 25 * DAY) for s in (3, 4)]
    risk, alerts = await played([*course(range(6)), *back])
    # who had stopped before stands out from the first days on; the others' silence is everybody's
    assert [(row["USERID"], row["ALERT"], day_of(row, "DAY")) for row in alerts] == [(5, "opened", 7)]
    ticks = [day_of(row, "AS_OF") for row in risk if row["TRIGGER"] == "tick" and row["USERID"] == 5]
    assert ticks == sorted(set(ticks))
    assert 7 in ticks


# -- the oracle itself


@settings(max_examples=examples(30), phases=ONCE)
@given(seed=SEEDS)
def test_the_oracle_notices_a_row_that_is_missing_changed_or_too_many(seed):
    """Any one row of either topic; but for a row of an event whose bits the next row has too."""
    rng = random.Random(seed)
    case = random_case(rng, rows=60, days=(10, 20))
    loop = RiskLoop(case.model, LocalDays(case.settings.zone), case.counting)
    loop.run(case.rows, rng)
    topics = [loop.risk, loop.alerts]
    which = int(bool(loop.alerts) and rng.random() < 0.5)
    if not topics[which]:
        return
    place, rows = rng.randrange(len(topics[which])), list(topics[which])
    record = rows[place]
    damage = rng.choice(("missing", "twice", "changed", "later"))
    if damage == "missing":
        if record.value is not None and b'"TRIGGER":"event"' in record.value:
            return
        del rows[place]
    elif damage == "twice":
        rows.insert(place, record)
    else:
        value = record.value if damage == "later" else (record.value or b"{}").replace(b'"USERID":', b'"USERID":1')
        rows[place] = record._replace(value=value, at=record.at + (damage == "later"))
    topics[which] = rows
    assert case.check(*topics).run() != []


@settings(max_examples=examples(200))
@given(zone=st.sampled_from((*ZONES, "Pacific/Apia", "America/Sao_Paulo", "Asia/Beirut")), at=TIMES)
def test_days_found_minute_by_minute_are_those_of_the_models(zone, at):
    """Including a zone that skips a day, and zones whose clocks change at midnight."""
    calendar, days = Calendar(zone), LocalDays(ZoneInfo(zone))
    day = calendar.day_of(at)
    assert day == int(days.of(np.array([at]))[0])
    assert (calendar.start(day), calendar.tick_at(day)) == (days.start(day), days.tick_at(day))
    assert (calendar.last_tick(at), calendar.table_day(day)) == (days.last_tick(at), days.table_day(day))
    near = at + DAY * np.arange(-1, 2)
    assert days.last_ticks(near).tolist() == [days.last_tick(t) for t in near.tolist()]
    assert days.table_days(np.array([day + 1, day])).tolist() == [days.table_day(day + 1), days.table_day(day)]
