"""Rows of MOODLE_RISK and MOODLE_RISK_ALERTS of invented students, made by the rules and the codec of the app.

Students visit two courses for seven weeks. Some stop, some come back, one is forgotten. Each day's visits are scored
first, then the tick, with the whole course as one partition.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from codec import risk_rows
from codec.risk_rows import Keys
from models import alerts, cohorts
from models.activity import Activity, Events, add
from models.assessment import Assessment, assess, is_news, unassessed
from models.figures import figures
from models.rules import Bools, Int64s
from tests.support.sink_documents import Record
from tests.support.standing import standing_model

MODEL = standing_model()
COURSES = (5, 6)
#: 2013-09-21, when the course of the dashboard's replay begins
FIRST_DAY, DAYS = 15_969, 49
STUDENTS = 36


@dataclass(frozen=True)
class Written:
    """The records of both topics in the order of writing."""

    risk: list[Record]
    alerts: list[Record]


@cache
def written(*, site: bool = False) -> Written:
    """Return the rows of both courses, or of the site as one."""
    return _Course(site).run()


class _Course:
    def __init__(self, site: bool) -> None:
        self.site, self.random = site, random.Random(14)
        self.students = np.arange(101, 101 + STUDENTS)
        self.activity = Activity.none()
        self.risk: list[Record] = []
        self.alerts: list[Record] = []

    def run(self) -> Written:
        for day in range(FIRST_DAY, FIRST_DAY + DAYS):
            self.visit(day)
            self.tick(day)
        self.forget(np.flatnonzero(self.activity.alert)[:1], FIRST_DAY + DAYS)
        return Written(self.risk, self.alerts)

    def visit(self, day: int) -> None:
        """Add the events of a day, and publish the risk of whoever is there for the first time on it."""
        rows = [
            (student, 0 if self.site else course, day, self.random.random() < 0.08)
            for student in range(STUDENTS)
            for course in (COURSES if student % 3 else COURSES[:1])
            if self.random.random() < self.keenness(student, course, day - FIRST_DAY)
        ]
        if not rows:
            return
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        added = add(self.activity, Events(*columns), forget_days=MODEL.cohort.forget_days)
        self.activity = added.activity
        self.publish(self.assess(day), day, np.flatnonzero(added.changed), "event")

    def keenness(self, student: int, course: int, day: int) -> float:
        """Probability of a visit: a third of the students stops, and a ninth comes back."""
        stops = 10 + student if student % 3 == 1 else DAYS
        back = stops + 12 if student % 9 == 1 else DAYS
        if stops <= day < back:
            return 0.0
        return 0.1 + 0.5 * ((7 * student + course) % 10) / 10

    def assess(self, day: int) -> Assessment:
        a = self.activity
        rule = {"half_life_days": MODEL.half_life_days, "forget_days": MODEL.cohort.forget_days}
        own = figures(a, day, **rule)
        table = cohorts.tabulate(cohorts.of(a.course, a.first, own), MODEL.cohort)
        return assess(MODEL, a, own, cohorts.peers(table, a.course, a.first), day)

    def tick(self, day: int) -> None:
        assessment = self.assess(day)
        news = is_news(MODEL, self.activity, assessment)
        advanced = alerts.advance(MODEL, self.activity, assessment, day, students=self.students)
        self.activity = advanced.activity
        changed = advanced.opened | advanced.closed
        rows = np.flatnonzero(changed)
        self.announce(rows, assessment.take(rows), day, advanced.opened[rows], advanced.why[rows])
        self.publish(assessment, day, np.flatnonzero(news | changed), "tick")

    def publish(self, assessment: Assessment, day: int, rows: Int64s, trigger: str) -> None:
        some, days = self.activity.take(rows), np.full(len(rows), day)
        made = risk_rows.risk(
            days * 86_400_000, self.keys(rows), assessment.take(rows), MODEL,
            alert=some.alert, opened=some.opened, as_of=days, is_tick=np.full(len(rows), trigger == "tick"),
        )  # fmt: skip
        self.risk += [(key, value) for _, key, value, _ in made]
        units, band = self.activity.risk.copy(), self.activity.band.copy()
        units[rows], band[rows] = assessment.units[rows], assessment.band[rows]
        self.activity = replace(self.activity, risk=units, band=band)

    def announce(self, rows: Int64s, assessment: Assessment, day: int, opened: Bools, why: Int64s) -> None:
        if not len(rows):
            return
        days = np.full(len(rows), day)
        made = risk_rows.alerts(
            days * 86_400_000, self.keys(rows), assessment, MODEL,
            is_opening=opened, day=days, opened=self.activity.opened[rows], why=why,
        )  # fmt: skip
        self.alerts += [(key, value) for _, key, value, _ in made]

    def forget(self, rows: Int64s, day: int) -> None:
        why = np.full(len(rows), int(alerts.Why.FORGOTTEN))
        self.announce(rows, unassessed(len(rows)), day, np.zeros(len(rows), np.bool_), why)
        at = np.full(len(rows), day * 86_400_000)
        self.risk += [(key, value) for _, key, value, _ in risk_rows.tombstones(at, self.keys(rows))]

    def keys(self, rows: Int64s) -> Keys:
        some = self.activity.take(rows)
        return Keys(self.students[some.owner], some.course, self.site)


__all__ = ["MODEL", "Written", "written"]
