"""risk: activity of students in courses -> their risk, at events and at the daily tick.

An entry of which a day bit was set is scored at once, as of its newest day. A tick scores every entry as of its day,
opens and closes alerts, and forgets entries that have been silent for long.

What stands in MOODLE_RISK in the end depends on nothing but the day bits and on the cohort sums of days that all
partitions have reached (models/ticks.py), whatever the order in which the partitions of a backlog were read:

- An entry without a visit after the latest tick's day has the row of a tick: of the one of its newest day, which always
  writes one, or of a later one that had news. News are told from what ticks found before, never from events.
- Any other entry has the row of its newest day. A tick writes it again if the cohort sums against which that day is
  scored have only come with this tick, or if it opened or closed the alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from agents.cohort_tables import Tables
from agents.entries import Entries
from agents.ports import StatePartition
from agents.risk_output import Effect, RiskOptions, RiskOutput
from agents.sessionize import CountedVisits
from models import activity_records, alerts, cohorts, early_events
from models.activity import NO_DAY, NONE, Activity, Events, add, first_events, newest_days
from models.assessment import Assessment, assess, figures_for, is_news
from models.cohorts import CohortTable
from models.early_events import EarlyEvents
from models.factorize import factorize
from models.figures import is_forgotten
from models.grouped import group_starts
from models.rules import Bools, Int64s
from models.topic_names import TopicNames

#: number of rows of MOODLE_RISK that are made at once, about
ROWS = 2_000


class Risk:
    """Scores entries of activity."""

    def __init__(self, names: TopicNames, options: RiskOptions, tables: Tables) -> None:
        self._options, self._tables = options, tables
        self._output = RiskOutput(names, options)

    async def of_events(
        self, partition: StatePartition, counted: CountedVisits | None, *, before_ticks: bool = False
    ) -> Effect | None:
        """Add what counts to the activity of a partition, and score the entries of which a day bit was set.

        before_ticks: whether ticks follow, so that what comes behind one of them has to wait. None if another worker
        owns the partition by now.
        """
        effect, ticks = Effect(), partition.ticks
        if counted is None or not len(counted) or ticks is None:
            return effect
        students, owner = factorize(counted.student)
        events = Events(owner, counted.course, self._options.days.of(counted.at), counted.submission)
        first = first_events(events)  # of eight on average in a session
        tick = self._options.days.last_ticks(counted.after[first])
        arrived = EarlyEvents(events.take(first), counted.at[first], tick)
        activity, predicted = activity_records.unpack(partition.activity(students))
        entries = Entries(students, activity, predicted, EarlyEvents.none(), students[:0])
        waits = self.due(arrived) > ticks.scored
        if waits.any():
            if not before_ticks:
                waits &= ~self.is_near(activity, arrived, ticks.scored)
            self._keep_early(effect, partition, students, arrived.take(waits))
            arrived = arrived.take(~waits)
        if not await self._add(effect, partition, entries, arrived, ticks.scored):
            return None
        entries.keep(effect)
        self._output.complete(effect)
        return effect

    def _keep_early(self, effect: Effect, partition: StatePartition, students: Int64s, arrived: EarlyEvents) -> None:
        owners, owner = factorize(arrived.events.owner)
        before = early_events.unpack(partition.early(students[owners]))
        records = early_events.pack(early_events.join(before, arrived.owned_by(owner)), len(owners))
        effect.early |= dict(zip(students[owners].tolist(), records, strict=True))

    def due(self, early: EarlyEvents) -> Int64s:
        """The tick after which each event [n] becomes part of its entry.

        It is the last one before its day began: whoever reads the partitions of the source topic in step has run that
        when the event arrives.
        """
        return np.maximum(early.tick, self._options.days.table_days(early.events.day))

    def is_near(self, activity: Activity, early: EarlyEvents, scored: int) -> Bools:
        """Whether each event [n] may become part of its entry at once although it is not due.

        No tick may lack a day for it, or an entry that it lets begin anew.
        """
        events = early.events
        newest = newest_days(activity, events)
        begins_anew = (newest != NO_DAY) & (events.day > newest + self._options.model.cohort.forget_days)
        is_near: Bools = (events.day <= scored + 1 + early_events.HORIZON) & ~begins_anew
        return is_near

    async def settle(
        self, effect: Effect, partition: StatePartition, entries: Entries, scored: int, *, is_last: bool = False
    ) -> bool:
        """Add the early events that are due when `scored` is the last tick; is_last: and those that are near.

        False if another worker owns the partition by now.
        """
        early = entries.early
        if not len(early):
            return True
        ready = entries.due <= scored
        if is_last:
            ready |= self.is_near(entries.activity, early, scored)
        if not ready.any():
            return True
        some, entries.early, entries.due = early.take(ready), early.take(~ready), entries.due[~ready]
        entries.taken[some.events.owner] = True
        return await self._add(effect, partition, entries, some, scored)

    def make_rows(self, effect: Effect, at_least: int = ROWS) -> None:
        """Make rows of what has been published, if there are so many: one call of a few thousand costs least."""
        if sum(map(len, effect.published)) >= at_least:
            self._output.complete(effect)

    async def _add(
        self, effect: Effect, partition: StatePartition, entries: Entries, early: EarlyEvents, scored: int
    ) -> bool:
        """Add events to their entries, and score what has changed; False if another worker owns the partition."""
        before, students = entries.activity, entries.students
        added = add(before, early.events, forget_days=self._options.model.cohort.forget_days)
        changed = np.flatnonzero(added.changed)
        if not len(changed):
            return True
        some, at = added.activity.take(changed), early.at[added.cause[changed]]
        days = self._table_days(scored, some.newest)
        tables = await self._tables.get(partition, _distinct(days))
        if tables is None:
            return False
        activity = self._view_newest(effect, students, added.activity, changed, days, tables, at)
        if (anew := added.forgotten[changed]).any():
            former = _former(before, some.take(anew))
            self._output.close(effect, students, former, at[anew], some.newest[anew])
        last = np.full(len(students), NONE, np.int64)
        np.maximum.at(last, some.owner, at)
        owners = some.owner[group_starts(some.owner)]
        entries.activity = activity
        entries.predicted = self._output.predict(effect, students, activity, entries.predicted, owners, last)
        entries.changed[owners] = True
        return True

    def _view_newest(
        self,
        effect: Effect,
        students: Int64s,
        activity: Activity,
        rows: Int64s,
        days: Int64s,
        tables: Mapping[int, CohortTable],
        at: Int64s,
    ) -> Activity:
        """Publish the entries at `rows` [k] as of their newest days.

        days [k]: of the tables against which they are scored; at [k] ms: timestamps.
        """
        risk, band = activity.risk.copy(), activity.band.copy()
        for day in _distinct(days):
            group = days == day
            some = activity.take(rows[group])
            assessment = self._assess(some, some.newest, tables[day])
            risk[rows[group]], band[rows[group]] = assessment.units, assessment.band
            self._output.publish(effect, students, some, assessment, at[group], some.newest, by_tick=False)
        return replace(activity, risk=risk, band=band)

    def tick(self, effect: Effect, entries: Entries, day: int, tables: Mapping[int, CohortTable]) -> None:
        """Score `entries` as of `day`; tables: of that day and of TABLES_BEFORE days before."""
        students, activity = entries.students, entries.activity
        model, at, table = self._options.model, self._options.days.tick_at(day), tables[day]
        forgotten = is_forgotten(activity, day, model.cohort.forget_days)
        left = activity.owner[forgotten]  # of their courses another one has the highest risk now
        if forgotten.any():
            entries.changed[left] = True
            gone = activity.take(forgotten)
            self._output.forget(effect, students, gone, at, day)
            activity = activity.take(~forgotten)
        assessment = self._assess(activity, day, table)
        advanced = alerts.advance(
            model,
            activity,
            assessment,
            day,
            students=students,
            waiting=table.cohorts.waiting,
            budget=self._options.budget,
        )
        turned, seen = advanced.opened | advanced.closed, assessment.figures.seen
        news = seen & is_news(model, activity, assessment)
        # what is as of a later day stays
        final = seen & (activity.newest <= day) & (news | turned | (activity.newest == day))
        after = replace(
            advanced.activity,
            tick_risk=np.where(news, assessment.units, activity.tick_risk),
            tick_band=np.where(news, assessment.band, activity.tick_band),
            risk=np.where(final, assessment.units, activity.risk),
            band=np.where(final, assessment.band, activity.band),
        )
        rows = np.flatnonzero(final)
        when, as_of = np.full(len(rows), at), np.full(len(rows), day)
        self._output.publish(effect, students, after.take(rows), assessment.take(rows), when, as_of, by_tick=True)
        after, again = self._view_later(effect, students, after, turned, day, tables)
        self._output.write_alerts(
            effect, students, after, assessment, np.flatnonzero(turned), advanced.opened, advanced.why, day
        )
        entries.changed[activity.owner[_differ(activity, after)]] = True
        touched = np.zeros(len(students), np.bool_)
        touched[left] = touched[activity.owner[rows]] = touched[activity.owner[again]] = True
        times = np.full(len(students), at)
        entries.activity = after
        predicted = self._output.predict(effect, students, after, entries.predicted, np.flatnonzero(touched), times)
        entries.changed |= predicted != entries.predicted
        entries.predicted = predicted

    def _view_later(
        self,
        effect: Effect,
        students: Int64s,
        activity: Activity,
        turned: Bools,
        day: int,
        tables: Mapping[int, CohortTable],
    ) -> tuple[Activity, Int64s]:
        """Publish entries as of their newest days, after the tick of `day`, again where this tick has changed that.

        Returns the activity, and the indices of these entries.
        """
        later = np.flatnonzero(activity.newest > day)
        if not len(later):
            return activity, later
        days = self._table_days(day, activity.newest[later])
        again = (days == day) | turned[later]
        rows, days = later[again], days[again]
        if not len(rows):
            return activity, rows
        at = np.array([self._options.days.start(d) for d in activity.newest[rows].tolist()], np.int64)
        return self._view_newest(effect, students, activity, rows, days, tables, at), rows

    def _assess(self, entries: Activity, day: int | Int64s, table: CohortTable) -> Assessment:
        model = self._options.model
        figures = figures_for(model, entries, day)
        return assess(model, entries, figures, cohorts.peers(table, entries.course, entries.first), day)

    def _table_days(self, scored: int, newest: Int64s) -> Int64s:
        """The day of the table against which an event on each of the days `newest` [k] is scored."""
        return np.minimum(self._options.days.table_days(newest), scored)


def _distinct(days: Int64s) -> list[int]:
    """The distinct `days` [k], ascending."""
    if len(days) and days[0] == days.max() == days.min():
        return [int(days[0])]
    distinct: list[int] = factorize(days)[0].tolist()
    return distinct


def _differ(before: Activity, after: Activity) -> Bools:
    """Whether a tick has changed each entry [m]."""
    differs = np.zeros(len(after), np.bool_)
    for name in ("risk", "band", "tick_risk", "tick_band", "above", "below", "alert", "opened"):
        differs |= getattr(after, name) != getattr(before, name)
    return differs


def _former(before: Activity, entries: Activity) -> Activity:
    """What the entries were before they began anew; there are few."""
    index = {pair: i for i, pair in enumerate(zip(before.owner.tolist(), before.course.tolist(), strict=True))}
    pairs = zip(entries.owner.tolist(), entries.course.tolist(), strict=True)
    return before.take(np.array([index[pair] for pair in pairs], np.int64))
