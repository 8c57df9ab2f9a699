"""The models of the risk driven over several partitions by a small loop, without agents: what a worker would write."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from codec import risk_rows
from codec.record_batch import Rows
from models import activity as activities
from models import activity_records, alerts, cohort_records, cohorts
from models.activity import Activity, Events
from models.alerts import Why
from models.assessment import Assessment, assess, is_news, unassessed
from models.cohorts import CohortTable
from models.days import LocalDays
from models.factorize import factorize
from models.figures import Figures, figures, is_forgotten
from models.rules import Int64s
from models.standing import StandingModel
from tools.e2e.read_topic import Record
from tools.e2e.risk_oracle.log import Counting, LogRow


@dataclass
class RiskLoop:
    """Partitions of students, fed with rows of the log. Mutable."""

    model: StandingModel
    days: LocalDays
    counting: Counting
    partitions: int = 1
    budget: int = 0
    risk: list[Record] = field(default_factory=list)
    alerts: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._records: list[dict[int, bytes | None]] = [{} for _ in range(self.partitions)]
        self._tables: dict[int, CohortTable] = {}

    def run(self, rows: Sequence[LogRow], rng: random.Random, *, times: int = 1) -> None:
        """Apply the rows in order, cut into fetches at random; times: how often each fetch is delivered."""
        cuts = sorted(rng.sample(range(len(rows) + 1), min(len(rows), rng.randrange(12))))
        stream_time, last = None, 0
        for begin, end in pairwise([0, *cuts, len(rows)]):
            fetch: list[LogRow] = []
            for row in rows[begin:end]:
                if stream_time is None or row.at > stream_time:
                    due = self.days.last_tick(row.at)
                    if stream_time is not None and due > last:
                        self._apply(fetch, times)
                        fetch = []
                        for day in range(last + 1, due + 1):
                            self.tick(day)
                    stream_time, last = row.at, due
                if row.at >= stream_time - 86_400_000:
                    fetch.append(row)
            self._apply(fetch, times)

    def _apply(self, rows: Sequence[LogRow], times: int) -> None:
        marks = [(key, row.at, submission) for row in rows for key, submission in self.counting.marks(row)]
        for number in range(self.partitions):
            mine = [mark for mark in marks if mark[0][0] % self.partitions == number]
            for _ in range(times):
                self._add(self._records[number], mine)

    def _add(self, records: dict[int, bytes | None], marks: Sequence[tuple[tuple[int, int], int, bool]]) -> None:
        if not marks:
            return
        students, owner = factorize(np.array([student for (student, _), _, _ in marks], np.int64))
        at = np.array([at for _, at, _ in marks], np.int64)
        course = np.array([course for (_, course), _, _ in marks], np.int64)
        submission = np.array([submission for _, _, submission in marks], np.bool_)
        before, predicted = activity_records.unpack([records.get(s) for s in students.tolist()])
        forget = self.model.cohort.forget_days
        added = activities.add(before, Events(owner, course, self.days.of(at), submission), forget_days=forget)
        activity = added.activity
        for i in np.flatnonzero(added.forgotten).tolist():
            (former,) = np.flatnonzero((before.owner == activity.owner[i]) & (before.course == activity.course[i]))
            opened = before.opened[former]
            self._write_alert(students, replace(activity.take(_one(i)), opened=np.array([opened])), None,
                              at[added.cause[_one(i)]], activity.newest[_one(i)], False, Why.FORGOTTEN)  # fmt: skip
        for i in np.flatnonzero(added.changed).tolist():
            entry = activity.take(_one(i))
            table = self._tables.get(self.days.table_day(int(entry.newest[0])))
            assessment = self._assess(entry, int(entry.newest[0]), table)
            self._write(students, entry, assessment, at[added.cause[_one(i)]], entry.newest, "event")
        packed = activity_records.pack(activity, predicted)
        records.update(zip(students.tolist(), packed, strict=True))

    def tick(self, day: int) -> None:
        """Score all partitions as of `day`."""
        states, parts = [], []
        for records in self._records:
            students = np.array(sorted(s for s, record in records.items() if record is not None), np.int64)
            activity, predicted = activity_records.unpack([records[s] for s in students.tolist()])
            own = self._figures(activity, day)
            line = alerts.waiting(self.model, activity, own, day, students=students, budget=self.budget)
            encoded = cohort_records.encode(cohorts.of(activity.course, activity.first, own, line))
            parts.append(cohort_records.decode(encoded))
            states.append((records, students, activity, predicted))
        sums = cohorts.add(parts, self.budget)
        table = self._tables[day] = cohorts.tabulate(sums, self.model.cohort)
        for records, students, activity, predicted in states:
            kept = self._tick(students, activity, day, table)
            packed = activity_records.pack(kept, predicted)
            records.update(zip(students.tolist(), packed, strict=True))

    def _tick(self, students: Int64s, activity: Activity, day: int, table: CohortTable) -> Activity:
        at = np.array([self.days.tick_at(day)])
        forgotten = is_forgotten(activity, day, self.model.cohort.forget_days)
        for i in np.flatnonzero(forgotten).tolist():
            entry = activity.take(_one(i))
            if entry.alert[0]:
                self._write_alert(students, entry, None, at, np.array([day]), False, Why.FORGOTTEN)
            self.risk += _records(risk_rows.tombstones(at, self._keys(students, entry)))
        activity = activity.take(~forgotten)
        assessment = self._assess(activity, day, table)
        waiting = table.cohorts.waiting
        advanced = alerts.advance(
            self.model, activity, assessment, day, students=students, waiting=waiting, budget=self.budget
        )
        turned, seen = advanced.opened | advanced.closed, assessment.figures.seen
        news = seen & is_news(self.model, activity, assessment)
        after = replace(
            advanced.activity,
            tick_risk=np.where(news, assessment.units, activity.tick_risk),
            tick_band=np.where(news, assessment.band, activity.tick_band),
        )
        for i in np.flatnonzero(seen & (activity.newest <= day) & (news | turned | (activity.newest == day))).tolist():
            self._write(students, after.take(_one(i)), assessment.take(_one(i)), at, np.array([day]), "tick")
        for i in np.flatnonzero(activity.newest > day).tolist():
            entry, newest = after.take(_one(i)), int(activity.newest[i])
            table_day = min(self.days.table_day(newest), day)
            if turned[i] or table_day == day:
                again = self._assess(entry, newest, self._tables[table_day])
                self._write(students, entry, again, np.array([self.days.start(newest)]), entry.newest, "event")
        for i in np.flatnonzero(turned).tolist():
            opened, why = bool(advanced.opened[i]), Why(advanced.why[i])
            self._write_alert(students, after.take(_one(i)), assessment.take(_one(i)), at, np.array([day]), opened, why)
        return after

    def _figures(self, activity: Activity, day: int) -> Figures:
        return figures(
            activity, day, half_life_days=self.model.half_life_days, forget_days=self.model.cohort.forget_days
        )

    def _assess(self, activity: Activity, day: int, table: CohortTable | None) -> Assessment:
        if table is None:
            return replace(unassessed(len(activity)), figures=self._figures(activity, day))
        peers = cohorts.peers(table, activity.course, activity.first)
        return assess(self.model, activity, self._figures(activity, day), peers, day)

    def _keys(self, students: Int64s, entry: Activity) -> risk_rows.Keys:
        return risk_rows.Keys(students[entry.owner], entry.course, not self.counting.per_course)

    def _write(
        self, students: Int64s, entry: Activity, assessment: Assessment, at: Int64s, as_of: Int64s, trigger: str
    ) -> None:
        rows = risk_rows.risk(
            at, self._keys(students, entry), assessment, self.model,
            alert=entry.alert, opened=entry.opened, as_of=as_of, is_tick=np.full(len(at), trigger == "tick"),
        )  # fmt: skip
        self.risk += _records(rows)

    def _write_alert(
        self, students: Int64s, entry: Activity, assessment: Assessment | None,
        at: Int64s, day: Int64s, opened: bool, why: Why,
    ) -> None:  # fmt: skip
        rows = risk_rows.alerts(
            at, self._keys(students, entry), assessment or unassessed(1), self.model,
            is_opening=np.array([opened]), day=day, opened=entry.opened, why=np.array([why]),
        )  # fmt: skip
        self.alerts += _records(rows)


def _records(rows: Rows) -> list[Record]:
    return [Record(key, value, at or 0, headers) for at, key, value, headers in rows]  # type: ignore[arg-type]


def _one(i: int) -> Int64s:
    return np.array([i], np.int64)
