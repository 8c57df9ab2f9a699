"""ticker: the daily ticks of a visits partition: first their cohort sums, then, once all partitions have, their scores.

The ticks that are due behind a batch run together, so that catching up costs two transactions per batch, not per day.
The first has the batch: what comes before the ticks is scored at once, what comes behind one of them waits as early
events (models/early_events.py). It also has the sums as of each day, which are those of the activity and the early
events in it. The second has the scores, and the early events as if each had come between the ticks: all rows in the
order of one tick after the other. Whoever finds the sums without the scores makes these from the state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np

from agents.cohort_tables import MANY_COHORTS, TABLES_BEFORE, Tables, in_thread_if
from agents.entries import SLICE, Entries, Scan, Turns
from agents.ports import Log, Metrics, StatePartition, Target
from agents.risk import Risk
from agents.risk_output import Effect, RiskOptions
from agents.sessionize import CountedVisits
from codec.record import NO_HEADERS, Row
from codec.record_batch import Rows
from models import alerts, cohort_records
from models.activity import NO_DAY, Activity, add
from models.assessment import figures_for
from models.cohort_keys import reached_key, sums_key
from models.cohorts import CohortSums
from models.rules import Int64s
from models.ticks import Ticks
from models.ticks import first as first_ticks
from models.topic_names import TopicNames
from models.visit_batch import VisitBatch

#: number of entries, of one day or several, whose figures are computed together
_TOGETHER = SLICE


class Ticker:
    """Runs ticks; see models/ticks.py for when they are due."""

    def __init__(
        self, log: Log, names: TopicNames, metrics: Metrics, options: RiskOptions, risk: Risk, tables: Tables
    ) -> None:
        self._log, self._names, self._metrics = log, names, metrics
        self._options, self._risk, self._tables = options, risk, tables
        self._turns = Turns()

    async def prepare(self, partition: StatePartition, batches: Sequence[VisitBatch]) -> bool:
        """Begin the ticks of a partition with its first event, or finish those that were interrupted.

        batches: those that are applied next. False if another worker owns the partition by now.
        """
        if partition.ticks is not None:
            return await self._finish(partition, partition.ticks)
        first = first_ticks(self._options.days, partition.position.watermarks.stream_time, batches)
        if first is None:
            return True
        return await self.flush(partition, Effect(sums=self._sums_rows(partition, [], first), ticks=first))

    async def _finish(self, partition: StatePartition, ticks: Ticks) -> bool:
        """Score the days of which only the sums are written. False if another worker owns the partition by now."""
        if ticks.scored == ticks.reached:
            return True
        scan, latest = Scan(partition, self._risk.due, self._turns), NO_DAY
        async for entries in scan.run(Effect()):
            early = entries.early.events.day[entries.due < ticks.reached]
            latest = max(latest, int(entries.activity.newest.max(initial=NO_DAY)), int(early.max(initial=NO_DAY)))
        latest += self._options.model.cohort.forget_days + 1
        days = range(ticks.scored + 1, min(ticks.reached, latest) + 1)
        effect = await self._score(partition, scan, days, ticks.reached, is_last=True)
        return effect is not None and await self.flush(partition, effect)

    async def steps(
        self, partition: StatePartition, counted: CountedVisits | None, stream_time: int
    ) -> AsyncIterator[Effect | None]:
        """Yield what is to be written for a batch, one transaction after the other, each written before the next.

        counted: what counts of it; stream_time: behind it [ms]. The first has to be written with the batch. None if
        another worker owns the partition by now.
        """
        ticks, last = partition.ticks, self._options.days.last_tick(stream_time)
        is_due = ticks is not None and ticks.reached < last
        effect = await self._risk.of_events(partition, counted, before_ticks=is_due)
        if effect is not None and ticks is None:
            # without a visit: others wait for its sums, and the next batch may come much later
            effect.ticks = first_ticks(self._options.days, stream_time)
            effect.sums = [] if effect.ticks is None else self._sums_rows(partition, [], effect.ticks)
        scan = Scan(partition, self._risk.due, self._turns)
        while effect is not None and ticks is not None and ticks.reached < last:
            to = min(last, ticks.reached + (1 if self._options.budget else self._tables.days_together))
            days, to = await self._sum(partition, scan, effect, ticks, to, last)
            yield effect
            effect = await self._score(partition, scan, days, to, is_last=to == last)
            ticks = Ticks(to, to)
        yield effect

    async def flush(self, partition: StatePartition, effect: Effect) -> bool:
        """Write an effect that is not that of a batch. False if another worker owns the partition by now."""
        if not await partition.flush(
            {}, {}, activity=effect.activity, early=effect.early, ticks=effect.ticks, more=self.rows(effect)
        ):
            return False
        count_rows(self._metrics, effect.rows)
        return True

    def rows(self, effect: Effect) -> list[tuple[Target, Rows]]:
        """The rows of an effect, with the cohort sums."""
        return [*effect.rows, ((self._names.cohorts, 0), effect.sums)] if effect.sums else effect.rows

    async def _sum(
        self, partition: StatePartition, scan: Scan, effect: Effect, ticks: Ticks, to: int, last: int
    ) -> tuple[Sequence[int], int]:
        """Add to an effect the sums as of each day from the next one to the day `to`, after what it has already.

        Returns the days as of which there are entries, or some to forget, and the day that is reached with them: later
        than `to`, but not than `last`, if nothing happens until then.
        """
        budget = self._options.budget
        begin = ticks.reached + 1
        sums = CohortSums(to - ticks.reached, budget)
        latest, next_due = NO_DAY, last
        async for entries in scan.run(effect):
            latest = max(latest, await self._sum_entries(entries, sums, range(begin, to + 1)))
            if len(entries.early):
                next_due = min(next_due, int(entries.due.min()))
        days = range(begin, min(to, latest) + 1)
        if not days:
            to = max(to, next_due)
        rows: list[Row] = []
        for day in days:
            pieces = await in_thread_if(len(sums) > MANY_COHORTS, _encode, sums, day - begin)
            rows += [(None, sums_key(day, partition.number, i), piece, NO_HEADERS) for i, piece in enumerate(pieces)]
        effect.ticks = Ticks(to, ticks.scored)
        effect.sums = self._sums_rows(partition, rows, effect.ticks)
        return days, to

    async def _sum_entries(self, entries: Entries, sums: CohortSums, days: range) -> int:
        """Add some entries to the sums of each day; return the last day as of which there is one, or one to forget."""
        forget_days = self._options.model.cohort.forget_days
        activity, early, due, latest = entries.activity, entries.early, entries.due, NO_DAY
        begin = days.start  # of the days as of which the activity is the same
        for day in days:
            if (due < day).any():
                latest = max(latest, await self._sum_days(entries.students, activity, sums, range(begin, day), days))
                begin = day
                ready = (due < day) | self._risk.is_near(activity, early, day - 1)
                some = early.take(ready)
                activity = add(activity, some.events, forget_days=forget_days).activity
                early, due = early.take(~ready), due[~ready]
        return max(latest, await self._sum_days(entries.students, activity, sums, range(begin, days.stop), days))

    async def _sum_days(self, students: Int64s, activity: Activity, sums: CohortSums, some: range, days: range) -> int:
        """Add entries to the sums of `some` of the days, of which they are the activity; see `_sum_entries`."""
        model, budget = self._options.model, self._options.budget
        latest = int(activity.newest.max(initial=NO_DAY)) + model.cohort.forget_days + 1
        some = range(some.start, min(some.stop, latest + 1))
        if not some:
            return NO_DAY
        number, step = len(activity), max(1, _TOGETHER // len(activity))
        for low in range(some.start, some.stop, step):
            part = range(low, min(low + step, some.stop))
            if len(part) == 1:
                figures = figures_for(model, activity, low)
                line = None
                if budget:
                    line = alerts.waiting(model, activity, figures, low, students=students, budget=budget)
                sums.add(activity.course, activity.first, figures, line, low - days.start)
            else:
                rows, day = np.tile(np.arange(number), len(part)), np.repeat(np.array(part), number)
                tiled = activity.take(rows)
                sums.add(tiled.course, tiled.first, figures_for(model, tiled, day), day=day - days.start)
            await self._turns.take()
        return some.stop - 1

    def _sums_rows(self, partition: StatePartition, sums: Sequence[Row], ticks: Ticks) -> list[Row]:
        """The sums, what of former ones nobody needs any more, and the day that they reach, which comes behind them."""
        outdated = self._log.outdated_sums(partition.number)
        removed: list[Row] = [(None, key, None, NO_HEADERS) for key in outdated]
        return [*removed, *sums, (None, reached_key(partition.number), b"%d" % ticks.reached, NO_HEADERS)]

    async def _score(
        self, partition: StatePartition, scan: Scan, days: Sequence[int], to: int, *, is_last: bool
    ) -> Effect | None:
        """Score all students as of each of `days`, with the early events that come between, up to the tick of day `to`.

        is_last: whether no ticks follow at once. None if another worker owns the partition by now.
        """
        tables = await self._tables.get(partition, [*range(days[0] - TABLES_BEFORE, days[0]), *days] if days else [])
        if tables is None:
            return None
        effect, entered = Effect(), 0
        async for entries in scan.run(effect):
            for day in days:
                if not await self._risk.settle(effect, partition, entries, day - 1):
                    return None
                entered += len(entries.activity)
                self._risk.tick(effect, entries, day, tables)
                self._risk.make_rows(effect)
                await self._turns.take()
            if not await self._risk.settle(effect, partition, entries, to, is_last=is_last):
                return None
            entries.keep(effect)
        self._risk.make_rows(effect, 0)
        effect.ticks = Ticks(to, to)
        self._metrics.add("ticks", len(days))
        self._metrics.add("scored", entered)
        return effect


def _encode(sums: CohortSums, day: int) -> Sequence[bytes]:
    cohorts = sums.cohorts(day)
    return cohort_records.encode(cohorts) if len(cohorts) else []


def count_rows(metrics: Metrics, rows: Sequence[tuple[Target, Rows]]) -> None:
    """Count rows by topic."""
    for (topic, _), written in rows:
        metrics.add("rows", len(written), topic)
