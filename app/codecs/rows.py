"""Output rows, byte for byte as KSQL 5.3 writes them: compact JSON, upper-case names, nulls written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from agents.score import Scored
from agents.sessionize import Sessionized
from app.codecs.table import Table
from models.cells import Cells, big_endian, chosen, decimals, literal, split
from models.chunk import Headers
from models.doubles import java_double
from models.murmur2 import NULL_KEY, keys_of
from models.rules import Int64s
from models.totals import Rollup
from models.visits import Roster

# a null userid is grouped under the text "null", which is also how JSON writes it: key and value agree
assert NULL_KEY == b"null"


@lru_cache(maxsize=20_000)
def _double(x: float) -> bytes:
    return java_double(x).encode()


def keys_in_cells(students: Roster) -> Cells:
    """utf8(userid) of each student [u]; "null" where there is none: the same bytes as models.murmur2.keys_of."""
    if not students.null.any():
        return decimals(students.student)
    return chosen(keys_of(students.student, students.null), np.arange(len(students.student)))


def sessions(batch: Sessionized) -> Table:
    """Rows and tombstones of MOODLE_LOGS_SESSIONS_PER_15MINS.

    Key: utf8(userid), then end and start as big-endian int64 (Kafka Streams SessionKeySchema).
    """
    records = batch.records.take(np.flatnonzero(batch.records.written))
    s = records.sessions
    student, start, end = keys_in_cells(batch.students).take(s.owner), decimals(s.start), decimals(s.end)
    names = ("USERID", "ACTIVITIES", "START_DATE", "END_DATE", "DURATION")
    value = _json(names, (student, decimals(s.count), start, end, decimals(s.seconds)))
    there = records.sign > 0
    return Table(
        at=s.end,
        key=(student, big_endian(s.end, s.start)),
        value=value,
        there=None if there.all() else there,
        each=_headers(batch, records.cause),
    )


def totals(batch: Sessionized, rollup: Rollup) -> Table:
    """Rows of MOODLE_LOGS_PREDICTION_AGG."""
    r = rollup.rows
    student = keys_in_cells(batch.students).take(rollup.owner)
    duration = decimals(r.duration)
    empty = r.sessions == 0
    if empty.any():
        texts = [b"null" if none else text for none, text in zip(empty.tolist(), split([duration]), strict=True)]
        duration = chosen(texts, np.arange(len(texts)))
    names = ("USERID", "ACTIVITIES", "DURATION", "SESSIONS")
    value = _json(names, (student, decimals(r.activities), duration, decimals(r.sessions)))
    return Table(at=r.at, key=(student,), value=value, each=_headers(batch, rollup.cause))


def predictions(scored: Scored, headers: Headers) -> Table:
    """Rows of MOODLE_LOGS_PREDICTION, each with the model's `headers`."""
    rollup = scored.rolled.rollup
    student = keys_in_cells(scored.rolled.batch.students).take(rollup.owner[scored.rows])
    at = rollup.rows.at[scored.rows]
    risks, which = np.unique(scored.risk, return_inverse=True)
    risk = chosen([_double(x) for x in risks.tolist()], which)
    value = _json(("USERID", "PREDICTION", "CREATED_DATE"), (student, risk, decimals(at)))
    return Table(at=at, key=(student,), value=value, headers=headers)


def _json(names: Sequence[str], columns: Sequence[Cells]) -> list[Cells]:
    """Compact JSON objects."""
    n = len(columns[0])
    pieces: list[Cells] = []
    for name, column in zip(names, columns, strict=True):
        pieces += [literal(f'{"," if pieces else "{"}"{name}":'.encode(), n), column]
    return [*pieces, literal(b"}", n)]


def _headers(batch: Sessionized, cause: Int64s) -> Sequence[Headers] | None:
    """The headers of the record that caused each row, as Kafka Streams forwards them; None if there are none."""
    headers = batch.visits.headers
    return None if headers is None else [headers[visit] for visit in cause.tolist()]
