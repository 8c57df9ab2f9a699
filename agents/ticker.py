"""ticker: the daily tick of a visits partition, in two transactions: its cohort sums, then its scores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from agents.ports import Log, Metrics, StatePartition, Target
from agents.risk import TABLES_BEFORE, Risk, Tables
from agents.risk_output import Effect, RiskOptions
from codec.record import NO_HEADERS, Row
from codec.record_batch import Rows
from models import activity_records, alerts, cohort_records, early_events
from models.activity import NO_DAY, Activity
from models.assessment import figures_for
from models.cohort_keys import reached_key, sums_key
from models.cohorts import CohortSums
from models.rules import Int64s
from models.ticks import Ticks
from models.topic_names import TopicNames

#: number of students that are scored before other work gets its turn
SLICE = 10_000
#: for how many days before a tick a partition's sums are kept: events are scored against those of the last two or three
KEPT_DAYS = 5


class Ticker:
    """Runs ticks; see models/ticks.py for when they are due."""

    def __init__(
        self, log: Log, names: TopicNames, metrics: Metrics, options: RiskOptions, risk: Risk, tables: Tables
    ) -> None:
        self._log, self._names, self._metrics = log, names, metrics
        self._options, self._risk, self._tables = options, risk, tables

    async def begin(self, partition: StatePartition, ticks: Ticks) -> bool:
        """Store the first `ticks` of a partition. False if another worker owns it by now."""
        return await self._reach(partition, [], ticks)

    async def run(self, partition: StatePartition, stream_time: int) -> bool:
        """Run the ticks of a partition that are due at `stream_time` [ms], and finish one that was interrupted.

        False if another worker owns the partition by now.
        """
        last = self._options.days.last_tick(stream_time)
        while (ticks := partition.ticks) is not None:
            if ticks.scored < ticks.reached:
                if not await self._score(partition, ticks):
                    return False
                if not await self._add_early(partition):
                    return False
            elif ticks.reached >= last:
                return True
            elif not await self._add_early(partition) or not await self._sum(
                partition, ticks, await self._end(partition, ticks, last)
            ):
                return False
        return True

    async def _end(self, partition: StatePartition, ticks: Ticks, last: int) -> int:
        """The last of the ticks up to `last` that run together."""
        for _, records in partition.scan_early(SLICE):
            # the ticks of these days and of later ones need the events, which are not added yet
            last = min(last, int(early_events.unpack(records).day.min()) - 1)
            await asyncio.sleep(0)
        if self._options.budget and await self._days_with_entries(partition, ticks.reached + 1, last):
            return ticks.reached + 1  # the line for each depends on the one before
        return last

    async def _add_early(self, partition: StatePartition) -> bool:
        """Add the early events whose days are near enough by now."""
        effects = []
        for students, records in partition.scan_early(SLICE):
            effect = await self._risk.of_early(partition, students, records)
            if effect is None:
                return False
            effects.append(effect)
        for effect in effects:
            if effect.early and not await partition.flush(
                {}, {}, activity=effect.activity, early=effect.early, more=effect.rows
            ):
                return False
            count_rows(self._metrics, effect.rows)
        return True

    async def _sum(self, partition: StatePartition, ticks: Ticks, last: int) -> bool:
        """Write the sums of the partition as of each day up to `last`."""
        days = await self._days_with_entries(partition, ticks.reached + 1, last)
        model, budget = self._options.model, self._options.budget
        sums = {day: CohortSums(budget) for day in days}
        async for students, activity, _ in _slices(partition):
            for day in days:
                figures = figures_for(model, activity, day)
                line = alerts.waiting(model, activity, figures, day, students=students, budget=budget)
                sums[day].add(activity.course, activity.first, figures, line)
                await asyncio.sleep(0)
        rows: list[Row] = []
        for day, total in sums.items():
            pieces = cohort_records.encode(total.cohorts()) if len(total) else []
            rows += [(None, sums_key(day, partition.number, i), piece, NO_HEADERS) for i, piece in enumerate(pieces)]
        return await self._reach(partition, rows, Ticks(last, ticks.scored if days else last))

    async def _reach(self, partition: StatePartition, sums: Sequence[Row], ticks: Ticks) -> bool:
        """Write sums, and the day that they reach, which comes behind them."""
        outdated = self._log.outdated_sums(partition.number, ticks.reached - KEPT_DAYS)
        rows: list[Row] = [
            *((None, key, None, NO_HEADERS) for key in outdated),
            *sums,
            (None, reached_key(partition.number), b"%d" % ticks.reached, NO_HEADERS),
        ]
        return await partition.flush({(self._names.cohorts, 0): rows}, {}, ticks=ticks)

    async def _score(self, partition: StatePartition, ticks: Ticks) -> bool:
        """Score all students as of each day whose sums are written."""
        days = await self._days_with_entries(partition, ticks.scored + 1, ticks.reached)
        tables = await self._tables.get(partition, [*range(days[0] - TABLES_BEFORE, days[0]), *days] if days else [])
        if tables is None:
            return False
        effect, entries = Effect(), 0
        async for students, activity, predicted in _slices(partition):
            scored = self._risk.of_tick(students, activity, predicted, days, tables)
            effect.rows += scored.rows
            effect.activity |= scored.activity
            entries += len(activity) * len(days)
            await asyncio.sleep(0)
        done = Ticks(ticks.reached, ticks.reached)
        if not await partition.flush({}, {}, activity=effect.activity, ticks=done, more=effect.rows):
            return False
        self._metrics.add("ticks", len(days))
        self._metrics.add("scored", entries)
        count_rows(self._metrics, effect.rows)
        return True

    async def _days_with_entries(self, partition: StatePartition, first: int, last: int) -> list[int]:
        """Those of the days `first` to `last` as of which the partition may have an entry, or has one to forget."""
        if first == last:
            return [first]
        newest = NO_DAY
        async for _, activity, _ in _slices(partition):
            newest = max(newest, int(activity.newest.max(initial=NO_DAY)))
            await asyncio.sleep(0)
        return list(range(first, min(last, newest + self._options.model.cohort.forget_days + 1) + 1))


def count_rows(metrics: Metrics, rows: Sequence[tuple[Target, Rows]]) -> None:
    """Count rows by topic."""
    for (topic, _), written in rows:
        metrics.add("rows", len(written), topic)


async def _slices(partition: StatePartition) -> AsyncIterator[tuple[Int64s, Activity, Int64s]]:
    """Yield all students with their entries, and the risk last predicted, SLICE students at a time."""
    for students, records in partition.scan_activity(SLICE):
        activity, predicted = activity_records.unpack(records)
        yield students, activity, predicted
