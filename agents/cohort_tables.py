"""The cohort tables against which entries are scored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from agents.ports import Log, StatePartition
from models import cohorts
from models.cohorts import Cohorts, CohortTable
from models.standing import StandingModel

P = ParamSpec("P")
T = TypeVar("T")
#: for how many days before a tick there may be entries that are scored against the table of such a day: a day's table
#: is that of two days before, or of three where the clock is changed
TABLES_BEFORE = 3
#: number of cohorts above which their sums are worked on in a thread, so that the loop is not held
MANY_COHORTS = 2_000
#: most days that are scored together; with many cohorts fewer, so that their tables have about so many in all
_DAYS, _COHORTS = 32, 100_000


class Tables:
    """The cohort tables of the days against which entries are scored. Mutable."""

    def __init__(self, log: Log, model: StandingModel) -> None:
        self._log, self._model = log, model
        self._tables: dict[int, CohortTable] = {}
        self._tabulating = asyncio.Lock()

    @property
    def days_together(self) -> int:
        """The number of days that may be scored together, which bounds the memory for their tables."""
        largest = max((len(table.cohorts) for table in self._tables.values()), default=0)
        return max(1, min(_DAYS, _COHORTS // max(largest, 1)))

    async def get(self, partition: StatePartition, days: Sequence[int]) -> Mapping[int, CohortTable] | None:
        """Return the tables of `days`, once all partitions have reached the last of them.

        None: `partition` is not the worker's any more.
        """
        # other partitions may ask for the same, and let go of others, in the meantime
        tables = {day: self._tables[day] for day in days if day in self._tables}
        if missing := [day for day in days if day not in tables]:
            sums = await self._log.cohorts(partition, missing)
            if sums is None:
                return None
            for day in missing:
                tables[day] = await self._tabulated(day, sums[day])
        self._tables |= tables
        while len(self._tables) > len(days) + self.days_together + TABLES_BEFORE:
            del self._tables[min(self._tables)]
        return tables

    async def _tabulated(self, day: int, sums: Cohorts) -> CohortTable:
        async with self._tabulating:  # partitions ask for the same at the same time
            if (table := self._tables.get(day)) is None:
                is_long = len(sums) > MANY_COHORTS
                table = self._tables[day] = await in_thread_if(is_long, cohorts.tabulate, sums, self._model.cohort)
            return table


async def in_thread_if(is_long: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `work`, in another thread if it takes long."""
    return await asyncio.to_thread(work, *args, **kwargs) if is_long else work(*args, **kwargs)
