"""score: roll-up totals -> the risk of each student whose totals changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.grouped import group_ends
from models.risk import RiskModel
from models.rules import Float64s, Int64s
from models.totals import Rollup
from models.visits import StudentDictionary

#: number of decimals of a risk: more would be noise, and few distinct values are formatted fast
RISK_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of students, in the order in which they are written."""

    #: index of the student [k]
    owner: Int64s
    #: timestamp of the totals that are scored [k] ms
    at: Int64s
    #: risk of withdrawing [k], 0…1
    risk: Float64s


def score(rollup: Rollup, students: StudentDictionary, model: RiskModel | None) -> Scores:
    """Score the totals after each visit; without a model nothing is scored.

    A student without sessions gets no score, nor does the null student. Neither do the intermediate totals between
    a subtraction and the addition that follows it.
    """
    if model is None or not len(rollup.owner):
        return Scores(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
    null = students.null[rollup.owner]
    last = group_ends(_revision(rollup.owner, rollup.cause))
    rows = np.flatnonzero((rollup.rows.sessions > 0) & ~null & last)
    totals = rollup.rows.take(rows)
    risk = np.round(model.score(totals.activities, totals.duration, totals.sessions), RISK_DECIMALS)
    return Scores(rollup.owner[rows], totals.at, risk)


def _revision(owner: Int64s, cause: Int64s) -> Int64s:
    """Number the runs of rows with the same student and causing visit [r]."""
    changes = np.zeros(len(owner), np.int64)
    changes[1:] = (owner[1:] != owner[:-1]) | (cause[1:] != cause[:-1])
    return np.cumsum(changes)
