"""A course run as the pipeline serves it: its log through the agents of the worker, and the rows that come out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from app.settings import Settings
from codec.avro_schema import check
from codec.moodle_log import LogDecoder
from models.assessment import Band, Code
from models.days import DAY_MS
from models.standing import StandingModel
from tools.replay import debezium
from tools.replay.log_rows import LogRows
from tools.test_driver import KnownSchemas, TopologyTestDriver
from tools.training.course_runs import CourseRun
from tools.training.outcomes_file import day_of
from tools.training.scored import Codes, Risks, Scored

#: most rows of the log in one fetch
FETCH = 20_000
_SCHEMA_ID = 1


async def serve(rows: LogRows, model: StandingModel, settings: Settings) -> TopologyTestDriver:
    """Run the log through the pipeline, a day at a time as on a live site; the driver's topics then have what came out.

    Where several days are read at once, fewer rows are written between two ticks.
    """
    schema = json.loads(debezium.schemas_of(settings.source_topic, rows).value)
    declared = check(schema, settings.source_topic)
    decoder = LogDecoder(KnownSchemas({_SCHEMA_ID: schema}), declared, counting=settings.counting)
    driver = TopologyTestDriver(settings, decoder, standing=model)
    async with driver:
        days = np.flatnonzero(np.diff(rows.at // DAY_MS)) + 1
        cuts = np.unique([*days, *range(0, len(rows), FETCH), len(rows)]).tolist()
        for start, stop in pairwise(cuts):
            part = rows.take(slice(start, stop))
            values = debezium.values(part, _SCHEMA_ID)
            await driver.feed(settings.source_topic, debezium.keys(part, _SCHEMA_ID), values)
    return driver


def read_rows(driver: TopologyTestDriver, run: CourseRun) -> Scored:
    """What MOODLE_RISK and MOODLE_RISK_ALERTS said of the students of `run` at the end of each day.

    A row counts from its timestamp on: that of the event, or the end of the day after the tick's.
    """
    d, m = run.last_day - run.first_day + 1, len(run.student)
    published, by_events = (np.full((d, m), np.nan, np.float32) for _ in range(2))
    band, silent = np.full((d, m), -1, np.int8), np.full((d, m), -1, np.int8)
    alert, visits, submissions = (np.zeros((d, m), np.bool_) for _ in range(3))
    opened, opened_day = [], []
    index = {student: i for i, student in enumerate(run.student.tolist())}
    for day, row in _rows(driver, driver.names.risk, run):
        if not 0 <= (i := day - run.first_day) < d:
            continue
        student = index[row["USERID"]]
        risk = np.nan if row["RISK"] is None else row["RISK"]
        codes = {reason["CODE"] for reason in row["REASONS"]}
        cells: tuple[tuple[Any, Any], ...] = (
            (published, risk), (band, Band[row["BAND"]]), (silent, 0), (alert, row["ALERT"]),
            (visits, Code.VISITS.name in codes), (submissions, Code.SUBMISSIONS.name in codes),
        )  # fmt: skip
        for column, cell in cells:
            column[i:, student] = cell
        if row["TRIGGER"] == "event":
            by_events[i:, student] = risk
    for _, row in _rows(driver, driver.names.risk_alerts, run):
        if row["ALERT"] == "opened":
            opened.append(index[row["USERID"]])
            # the tick of a day is published at the end of the next
            opened_day.append(day_of(row["DAY"]) + 1 - run.first_day)
    return Scored(
        run, ranked(published, band), published, by_events, band, alert, silent,
        np.array(opened_day, np.int64), np.array(opened, np.int64), visits, submissions,
    )  # fmt: skip


def ranked(published: Risks, band: Codes) -> Risks:
    """The risk published last, with students in the band GONE, who have none, above all others."""
    return np.where(band == Band.GONE, np.float32(1.0), published).astype(np.float32)


def _rows(driver: TopologyTestDriver, topic: str, run: CourseRun) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows about the course in order, each with the first day at whose end it holds."""
    written = [row for row in driver.topics.get(topic, []) if row.value is not None]
    content = [json.loads(row.value or b"") for row in written]
    at = np.array([row.at or 0 for row in written], np.int64)
    # a tick is due exactly at the end of a day, and holds at that end
    is_tick = np.array([row.get("TRIGGER") == "tick" for row in content], np.bool_)
    # one that repeats what an event gave, after a tick, has the timestamp of the event's day
    days = np.maximum.accumulate(run.days.of(at - is_tick))
    for day, row in zip(days.tolist(), content, strict=True):
        if row["COURSEID"] == run.course:
            yield day, row
