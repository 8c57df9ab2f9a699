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

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from agents.ports import Log, StatePartition
from agents.risk_output import Effect, RiskOptions, RiskOutput
from agents.sessionize import CountedVisits
from models import activity_records, alerts, cohorts, early_events
from models.activity import NO_DAY, NONE, Activity, Events, add, distinct
from models.assessment import Assessment, assess, figures_for, is_news, unassessed
from models.cohorts import CohortTable
from models.factorize import factorize
from models.figures import is_forgotten
from models.rules import Bools, Int64s
from models.standing import StandingModel
from models.ticks import Ticks
from models.topic_names import TopicNames

#: for how many days before a tick there may be entries that are scored against the table of such a day: a day's table
#: is that of two days before, or of three where the clock is changed
TABLES_BEFORE = 3
#: number of tables of cohorts that are kept
_TABLES = 40


class Tables:
    """The cohort tables of the days against which entries are scored. Mutable."""

    def __init__(self, log: Log, model: StandingModel) -> None:
        self._log, self._model = log, model
        self._tables: dict[int, CohortTable] = {}

    async def get(self, partition: StatePartition, days: Sequence[int]) -> Mapping[int, CohortTable] | None:
        """Return the tables of `days`, once all partitions have reached the last of them.

        None: `partition` is not the worker's any more.
        """
        if missing := [day for day in days if day not in self._tables]:
            sums = await self._log.cohorts(partition, missing)
            if sums is None:
                return None
            # another partition may have waited for the same
            for day in (day for day in missing if day not in self._tables):
                self._tables[day] = cohorts.tabulate(sums[day], self._model.cohort)
        tables = {day: self._tables[day] for day in days}
        while len(self._tables) > _TABLES:
            del self._tables[min(self._tables)]
        return tables


class Risk:
    """Scores entries of activity."""

    def __init__(self, names: TopicNames, options: RiskOptions, tables: Tables) -> None:
        self._options, self._tables = options, tables
        self._output = RiskOutput(names, options)

    async def of_events(self, partition: StatePartition, counted: CountedVisits | None) -> Effect | None:
        """Add what counts to the activity of a partition, and score the entries of which a day bit was set.

        None if another worker owns the partition by now.
        """
        effect = Effect()
        if counted is None or not len(counted):
            return effect
        students, owner = factorize(counted.student)
        events = Events(owner, counted.course, self._options.days.of(counted.at), counted.submission)
        is_early = events.day > _horizon(partition.ticks)
        if is_early.any():
            self._keep_early(effect, partition, students, events.take(is_early))
            events = events.take(~is_early)
        return await self._add(effect, partition, students, events, counted.at[~is_early])

    async def of_early(self, partition: StatePartition, students: Int64s, records: Sequence[bytes]) -> Effect | None:
        """Add those of the early events of `students` [u] that are near enough to the next tick by now.

        None if another worker owns the partition by now.
        """
        effect, events = Effect(), early_events.unpack(records)
        is_early = events.day > _horizon(partition.ticks)
        if is_early.all():
            return effect
        left = early_events.pack(events.take(is_early), len(students))
        effect.early |= dict(zip(students.tolist(), left, strict=True))
        events = events.take(~is_early)
        at = np.array([self._options.days.start(day) for day in events.day.tolist()], np.int64)
        return await self._add(effect, partition, students, events, at)

    def _keep_early(self, effect: Effect, partition: StatePartition, students: Int64s, events: Events) -> None:
        owners = np.unique(events.owner)
        before = early_events.unpack(partition.early(students[owners]))
        merged = distinct([before, replace(events, owner=np.searchsorted(owners, events.owner))])
        records = early_events.pack(merged, len(owners))
        effect.early |= dict(zip(students[owners].tolist(), records, strict=True))

    async def _add(
        self, effect: Effect, partition: StatePartition, students: Int64s, events: Events, at: Int64s
    ) -> Effect | None:
        """Add events of `students` [u], which happened `at` [n] ms, to their activity, and score what has changed."""
        before, predicted = activity_records.unpack(partition.activity(students))
        added = add(before, events, forget_days=self._options.model.cohort.forget_days)
        changed = np.flatnonzero(added.changed)
        if not len(changed):
            return effect
        entries, at = added.activity.take(changed), at[added.cause[changed]]
        days = self._table_days(partition.ticks, entries.newest)
        tables = await self._tables.get(partition, np.unique(days[days != NO_DAY]).tolist())
        if tables is None:
            return None
        activity = self._view_newest(effect, students, added.activity, changed, days, tables, at)
        if (anew := added.forgotten[changed]).any():
            former = _former(before, entries.take(anew))
            self._output.close(effect, students, former, at[anew], entries.newest[anew])
        last = np.full(len(students), NONE, np.int64)
        np.maximum.at(last, entries.owner, at)
        owners = np.unique(entries.owner)
        predicted = self._output.predict(effect, students, activity, predicted, owners, last)
        self._keep(effect, students, activity, predicted, owners)
        return effect

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

        days [k]: of the tables against which they are scored, NO_DAY for none; at [k] ms: timestamps.
        """
        risk, band = activity.risk.copy(), activity.band.copy()
        for day in np.unique(days).tolist():
            group = days == day
            some = activity.take(rows[group])
            assessment = self._assess(some, some.newest, tables.get(day))
            risk[rows[group]], band[rows[group]] = assessment.units, assessment.band
            self._output.publish(effect, students, some, assessment, at[group], some.newest, "event")
        return replace(activity, risk=risk, band=band)

    def of_tick(
        self,
        students: Int64s,
        activity: Activity,
        predicted: Int64s,
        days: Sequence[int],
        tables: Mapping[int, CohortTable],
    ) -> Effect:
        """Score the entries of `students` [u] as of each of `days`.

        predicted: the risk of each student [u] last written to MOODLE_LOGS_PREDICTION; tables: of these days and of
        TABLES_BEFORE days before them.
        """
        effect, changed = Effect(), np.zeros(len(students), np.bool_)
        for day in days:
            activity, predicted = self._tick(effect, students, activity, predicted, day, tables, changed)
        self._keep(effect, students, activity, predicted, np.flatnonzero(changed))
        return effect

    def _tick(
        self,
        effect: Effect,
        students: Int64s,
        activity: Activity,
        predicted: Int64s,
        day: int,
        tables: Mapping[int, CohortTable],
        changed: Bools,
    ) -> tuple[Activity, Int64s]:
        """Score the entries as of `day`; mark the students whose records change in `changed` [u]."""
        model, at, table = self._options.model, self._options.days.tick_at(day), tables[day]
        forgotten = is_forgotten(activity, day, model.cohort.forget_days)
        left = activity.owner[forgotten]  # of their courses another one has the highest risk now
        if forgotten.any():
            changed[left] = True
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
        self._output.publish(effect, students, after.take(rows), assessment.take(rows), when, as_of, "tick")
        after, again = self._view_later(effect, students, after, turned, day, tables)
        self._output.write_alerts(
            effect, students, after, assessment, np.flatnonzero(turned), advanced.opened, advanced.why, day
        )
        differs = final | news | turned | (after.above != activity.above) | (after.below != activity.below)
        changed[activity.owner[differs]] = True
        changed[activity.owner[again]] = True
        touched = np.unique(np.concatenate((left, activity.owner[rows], activity.owner[again])))
        predicted = self._output.predict(effect, students, after, predicted, touched, np.full(len(students), at))
        return after, predicted

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
        days = self._table_days(Ticks(day, day), activity.newest[later])
        again = (days == day) | turned[later]
        rows, days = later[again], days[again]
        if not len(rows):
            return activity, rows
        at = np.array([self._options.days.start(d) for d in activity.newest[rows].tolist()], np.int64)
        return self._view_newest(effect, students, activity, rows, days, tables, at), rows

    def _assess(self, entries: Activity, day: int | Int64s, table: CohortTable | None) -> Assessment:
        model = self._options.model
        figures = figures_for(model, entries, day)
        if table is None:
            return replace(unassessed(len(entries)), figures=figures)
        return assess(model, entries, figures, cohorts.peers(table, entries.course, entries.first), day)

    def _table_days(self, ticks: Ticks | None, newest: Int64s) -> Int64s:
        """The day of the table against which an event on each of the days `newest` [k] is scored; NO_DAY: none."""
        if ticks is None:
            return np.full(len(newest), NO_DAY)
        newest_days, index = np.unique(newest, return_inverse=True)
        days = [min(self._options.days.table_day(day), ticks.scored) for day in newest_days.tolist()]
        return np.array(days, np.int64)[index]

    def _keep(self, effect: Effect, students: Int64s, activity: Activity, predicted: Int64s, owners: Int64s) -> None:
        """Keep the records of the students with indices `owners`, ascending."""
        new = np.full(len(students), -1, np.int64)
        new[owners] = np.arange(len(owners))
        some = activity.take(new[activity.owner] >= 0)
        records = activity_records.pack(replace(some, owner=new[some.owner]), predicted[owners])
        effect.activity |= dict(zip(students[owners].tolist(), records, strict=True))


def _horizon(ticks: Ticks | None) -> int:
    """The latest day of which events are added at once."""
    return int(np.iinfo(np.int64).max) if ticks is None else ticks.scored + 1 + early_events.HORIZON


def _former(before: Activity, entries: Activity) -> Activity:
    """What the entries were before they began anew; there are few."""
    index = {pair: i for i, pair in enumerate(zip(before.owner.tolist(), before.course.tolist(), strict=True))}
    pairs = zip(entries.owner.tolist(), entries.course.tolist(), strict=True)
    return before.take(np.array([index[pair] for pair in pairs], np.int64))
