"""score: totals per student -> the risk of each student whose totals changed."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agents.rollup import RolledUp
from models.grouped import group_ends
from models.risk import RiskModel
from models.rules import Int64s

#: decimals a risk is given with: more would be noise, and few distinct values format fast
RISK_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Scored:
    """A batch with the scores it calls for."""

    rolled: RolledUp
    #: the revisions of the totals that are scored: rows of `rolled.rollup` [k]
    rows: Int64s
    #: risk of withdrawing of each [k], 0…1
    risk: npt.NDArray[np.float64]


async def score(batches: AsyncIterable[RolledUp], model: RiskModel | None) -> AsyncIterator[Scored]:
    """Score the totals as each visit leaves them; without a model, nothing.

    No score for a student without sessions, nor for the student that is none. The revisions between
    a subtraction and the addition that follows it are no state of a student, and are not scored.
    """
    async for rolled in batches:
        rows = np.empty(0, np.int64)
        risk = np.empty(0, np.float64)
        if model is not None and len(rolled.rollup.owner):
            result = rolled.rollup
            null = rolled.batch.students.null[result.owner]
            rows = np.flatnonzero((result.rows.sessions > 0) & ~null & group_ends(_visit(result.owner, result.cause)))
            totals = result.rows.take(rows)
            risk = np.round(model.score(totals.activities, totals.duration, totals.sessions), RISK_DECIMALS)
        yield Scored(rolled, rows, risk)


def _visit(owner: Int64s, cause: Int64s) -> Int64s:
    """A number that changes where the student or the causing visit does [r]."""
    changes = np.zeros(len(owner), np.int64)
    changes[1:] = (owner[1:] != owner[:-1]) | (cause[1:] != cause[:-1])
    return np.cumsum(changes)
