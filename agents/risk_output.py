"""Rows of the risk's topics, collected with the records that are written in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from agents.ports import Target
from codec import output_rows, risk_rows
from codec.record import Row
from codec.record_batch import ROW_WISE_MAX, Rows
from codec.risk_rows import Keys
from models.activity import NONE, Activity, highest_risk
from models.alerts import Why
from models.assessment import RISK_SCALE, Assessment, unassessed
from models.columns import concatenate
from models.days import LocalDays
from models.murmur2 import keys_of
from models.rules import Bools, Int64s
from models.standing import StandingModel
from models.ticks import Ticks
from models.topic_names import TopicNames
from models.visits import StudentDictionary


@dataclass(frozen=True, slots=True)
class RiskOptions:
    """How the risk is scored and written."""

    model: StandingModel
    days: LocalDays
    #: most alerts opened per course and week, 0 for any number
    budget: int = 0
    #: whether a student has a risk in each course
    per_course: bool = True

    def keys(self, student: Int64s, course: Int64s) -> Keys:
        """The keys of entries [k]."""
        return Keys(student, course, not self.per_course)


@dataclass(frozen=True, slots=True)
class Published:
    """Assessments that become rows of MOODLE_RISK [k]."""

    at: Int64s
    student: Int64s
    course: Int64s
    assessment: Assessment
    alert: Bools
    opened: Int64s
    as_of: Int64s
    is_tick: Bools

    def __len__(self) -> int:
        return len(self.at)

    def rows(self, options: RiskOptions) -> Rows:
        """Make the rows."""
        return risk_rows.risk(
            self.at,
            options.keys(self.student, self.course),
            self.assessment,
            options.model,
            alert=self.alert,
            opened=self.opened,
            as_of=self.as_of,
            is_tick=self.is_tick,
        )


@dataclass(frozen=True, slots=True)
class Turned:
    """Alerts that are opened or closed, and become rows of MOODLE_RISK_ALERTS [k]."""

    at: Int64s
    student: Int64s
    course: Int64s
    assessment: Assessment
    is_opening: Bools
    day: Int64s
    opened: Int64s
    why: Int64s

    def rows(self, options: RiskOptions) -> Rows:
        """Make the rows."""
        return risk_rows.alerts(
            self.at,
            options.keys(self.student, self.course),
            self.assessment,
            options.model,
            is_opening=self.is_opening,
            day=self.day,
            opened=self.opened,
            why=self.why,
        )


@dataclass(slots=True)
class Effect:
    """What is written in one transaction. Mutable while it is made."""

    rows: list[tuple[Target, Rows]] = field(default_factory=list)
    #: what becomes rows once it is complete, in order: making many rows costs little more than making one
    published: list[Published] = field(default_factory=list)
    turned: list[Turned] = field(default_factory=list)
    #: students, their new predictions in 1e-4, and when [k] ms
    predicted: list[tuple[Int64s, Int64s, Int64s]] = field(default_factory=list)
    #: records of the topic of cohort sums
    sums: list[Row] = field(default_factory=list)
    ticks: Ticks | None = None
    #: student → record, None: the student has no entry any more
    activity: dict[int, bytes | None] = field(default_factory=dict)
    #: student → record of early events, None: there are none any more
    early: dict[int, bytes | None] = field(default_factory=dict)


class RiskOutput:
    """Adds rows to an effect."""

    def __init__(self, names: TopicNames, options: RiskOptions) -> None:
        self._names, self._options = names, options

    def publish(
        self,
        effect: Effect,
        students: Int64s,
        entries: Activity,
        assessment: Assessment,
        at: Int64s,
        as_of: Int64s,
        *,
        by_tick: bool,
    ) -> None:
        """Write entries [k] as they were assessed as of the days as_of [k]; at [k] ms: timestamps."""
        if len(entries):
            is_tick = np.full(len(entries), by_tick)
            keys = (students[entries.owner], entries.course)
            effect.published.append(Published(at, *keys, assessment, entries.alert, entries.opened, as_of, is_tick))

    def complete(self, effect: Effect) -> None:
        """Make rows of what has been published, turned and predicted."""
        if effect.published:
            effect.rows.append(((self._names.risk, 0), concatenate(effect.published).rows(self._options)))
            effect.published = []
        if effect.turned:
            effect.rows.append(((self._names.risk_alerts, 0), concatenate(effect.turned).rows(self._options)))
            effect.turned = []
        if effect.predicted:
            students, risk, at = (np.concatenate(column) for column in zip(*effect.predicted, strict=True))
            named = StudentDictionary(students, np.zeros(len(students), np.bool_), np.empty(0, np.int64))
            keys = keys_of(named.student, named.null) if len(at) <= ROW_WISE_MAX else []  # more are written in columns
            headers = risk_rows.headers(self._options.model)
            written = output_rows.predictions(np.arange(len(at)), at, risk / RISK_SCALE, named, keys, headers)
            effect.rows.append(((self._names.prediction, 0), written))
            effect.predicted = []

    def write_alerts(
        self,
        effect: Effect,
        students: Int64s,
        entries: Activity,
        assessment: Assessment,
        rows: Int64s,
        opened: Bools,
        why: Int64s,
        day: int,
    ) -> None:
        """Write the alerts that were opened or closed at the tick of `day`: those of the entries at `rows`."""
        if len(rows):
            some, k = entries.take(rows), len(rows)
            keys = (students[some.owner], some.course)
            times, days = np.full(k, self._options.days.tick_at(day)), np.full(k, day)
            effect.turned.append(
                Turned(times, *keys, assessment.take(rows), opened[rows], days, some.opened, why[rows])
            )

    def forget(self, effect: Effect, students: Int64s, entries: Activity, at: int, day: int) -> None:
        """Delete entries that are forgotten at the tick of `day`, at `at` ms, and close their alerts."""
        self.complete(effect)  # a tombstone comes behind what was published before
        times = np.full(len(entries), at)
        keys = self._options.keys(students[entries.owner], entries.course)
        effect.rows.append(((self._names.risk, 0), risk_rows.tombstones(times, keys)))
        open_ = entries.take(entries.alert)
        self.close(effect, students, open_, times[: len(open_)], np.full(len(open_), day))

    def close(
        self,
        effect: Effect,
        students: Int64s,
        entries: Activity,
        at: Int64s,
        day: Int64s,
        why: Why = Why.FORGOTTEN,
    ) -> None:
        """Close the alerts of entries [k] that are forgotten, begin anew, or are erased."""
        if len(entries):
            k, keys = len(entries), (students[entries.owner], entries.course)
            closing, whys = np.zeros(k, np.bool_), np.full(k, int(why))
            effect.turned.append(Turned(at, *keys, unassessed(k), closing, day, entries.opened, whys))

    def predict(
        self, effect: Effect, students: Int64s, activity: Activity, predicted: Int64s, owners: Int64s, at: Int64s
    ) -> Int64s:
        """Write the highest risk of those students (indices `owners` [k]) of whom it has changed.

        predicted [u]: the risks written before; at [u] ms: the time of the change. Returns the risks written now.
        """
        highest = highest_risk(activity, len(students))
        rows = owners[(highest[owners] != predicted[owners]) & (highest[owners] != NONE)]
        if not len(rows):
            return predicted
        effect.predicted.append((students[rows], highest[rows], at[rows]))
        predicted = predicted.copy()
        predicted[rows] = highest[rows]
        return predicted
