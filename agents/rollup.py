"""rollup: changes of the sessions table -> totals per student."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from agents.sessionize import Sessionized
from models.totals import Rollup, roll_up


@dataclass(frozen=True, slots=True)
class RolledUp:
    """A batch with what it makes of its students' totals."""

    batch: Sessionized
    rollup: Rollup


async def rollup(batches: AsyncIterable[Sessionized], *, emit_every_change: bool) -> AsyncIterator[RolledUp]:
    """Subtract the sessions that go, add those that come; each: a revision for every record."""
    async for batch in batches:
        yield RolledUp(batch, roll_up(batch.totals, batch.changes, emit_every_change=emit_every_change))
