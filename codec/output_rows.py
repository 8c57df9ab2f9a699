"""Output rows, byte for byte as KSQL 5.3 writes them: compact JSON, upper-case names, nulls written."""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from agents.score import Scored
from agents.sessionize import Sessionized
from codec.record import NO_HEADERS, Row
from codec.record_batch import FEW, OutputColumns, Rows, make_rows
from models.chunk import Chunk, Headers
from models.java.doubles import java_double
from models.murmur2 import NULL_KEY, keys_of
from models.padded_bytes import PaddedBytes, big_endian, decimals, literal, take
from models.predictions import InRisk
from models.rules import Int64s
from models.totals import Rollup
from models.visits import StudentDictionary

# a null userid is grouped under the text "null", which is also how JSON writes it: key and value agree
assert NULL_KEY == b"null"


_SESSION = b'{"USERID":%b,"ACTIVITIES":%d,"START_DATE":%d,"END_DATE":%d,"DURATION":%d}'
_AGG = b'{"USERID":%b,"ACTIVITIES":%d,"DURATION":%b,"SESSIONS":%d}'
_PREDICTION = b'{"USERID":%b,"PREDICTION":%b,"CREATED_DATE":%d}'
#: where a template has a place
_PLACE = re.compile(b"%[bd]")
#: end and start of a session in its key
_WINDOW = struct.Struct(">qq")


@lru_cache(maxsize=20_000)
def _double(x: float) -> bytes:
    return java_double(x).encode()


def sessions(batch: Sessionized, keys: Sequence[bytes]) -> Rows:
    """Rows and tombstones of MOODLE_LOGS_SESSIONS_PER_15MINS; `keys` [u] of the batch's students.

    Key: utf8(userid), then end and start as big-endian int64 (Kafka Streams SessionKeySchema).
    """
    changes = batch.changes.take(np.flatnonzero(batch.changes.written))
    s, there, headers = changes.sessions, changes.delta > 0, _headers(batch, changes.cause)
    columns = (s.count, s.start, s.end, s.seconds)
    if len(changes) <= FEW:
        rows: list[Row] = []
        each = headers or [NO_HEADERS] * len(changes)
        for owner, row, written, header in zip(
            s.owner.tolist(), zip(*(c.tolist() for c in columns), strict=True), there.tolist(), each, strict=True
        ):
            _, start, end, _ = row
            value = _SESSION % (keys[owner], *row) if written else None
            rows.append((end, keys[owner] + _WINDOW.pack(end, start), value, header))
        return rows
    student = _students(batch.students, s.owner)
    return OutputColumns(
        at=s.end,
        key=(student, big_endian(s.end, s.start)),
        value=_filled(_SESSION, (student, *(decimals(c) for c in columns))),
        there=None if there.all() else there,
        each=headers,
    )


def totals(batch: Sessionized, rollup: Rollup, keys: Sequence[bytes]) -> Rows:
    """Rows of MOODLE_LOGS_PREDICTION_AGG."""
    r, headers = rollup.rows, _headers(batch, rollup.cause)
    empty = r.sessions == 0
    if len(r) <= FEW:
        key = [keys[owner] for owner in rollup.owner.tolist()]
        means = [b"null" if none else b"%d" % d for none, d in zip(empty.tolist(), r.duration.tolist(), strict=True)]
        values = [_AGG % row for row in zip(key, r.activities.tolist(), means, r.sessions.tolist(), strict=True)]
        return list(zip(r.at.tolist(), key, values, headers or [NO_HEADERS] * len(r), strict=True))
    student, duration = _students(batch.students, rollup.owner), [decimals(r.duration)]
    if empty.any():
        duration = [duration[0].where(~empty), literal(b"null", len(r)).where(empty)]
    value = _filled(_AGG, (student, decimals(r.activities), duration, decimals(r.sessions)))
    return OutputColumns(at=r.at, key=(student,), value=value, each=headers)


def predictions(scored: Scored, keys: Sequence[bytes], headers: Headers) -> Rows:
    """Rows of MOODLE_LOGS_PREDICTION, each with the model's `headers`."""
    rollup = scored.rolled.rollup
    owner, at = rollup.owner[scored.rows], rollup.rows.at[scored.rows]
    if len(owner) <= FEW:
        rows = zip(owner.tolist(), scored.risk.tolist(), at.tolist(), strict=True)
        return [(t, keys[who], _PREDICTION % (keys[who], _double(risk), t), headers) for who, risk, t in rows]
    student = _students(scored.rolled.batch.students, owner)
    risks, which = np.unique(scored.risk, return_inverse=True)
    risk = take([_double(x) for x in risks.tolist()], which)
    return OutputColumns(
        at=at, key=(student,), value=_filled(_PREDICTION, (student, risk, decimals(at))), headers=headers
    )


def in_risk(found: Sequence[tuple[Chunk, InRisk, int]]) -> Rows:
    """Rows of MOODLE_LOGS_PREDICTION_IN_RISK: what the records of each chunk give from a number on, with headers."""
    at: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes] = []
    headers: list[Headers] = []
    for chunk, result, first in found:
        fresh = slice(bisect_left(result.number, first), None)
        at += result.at[fresh]
        keys += result.keys[fresh]
        values += result.values[fresh]
        if chunk.headers is None:
            headers += [NO_HEADERS] * (len(values) - len(headers))
        else:
            headers += [chunk.headers[i] for i in result.number[fresh]]
    return make_rows(at, keys, values, headers)


def _students(students: StudentDictionary, owner: Int64s) -> PaddedBytes:
    """The key of each row's student [n]: the same bytes as models.murmur2.keys_of."""
    if not students.null.any():
        return decimals(students.student[owner])
    return take(keys_of(students.student, students.null), owner)


def _filled(template: bytes, columns: Sequence[PaddedBytes | list[PaddedBytes]]) -> list[PaddedBytes]:
    """A template with a column, or several, in each of its places."""
    first, *texts = _PLACE.split(template)
    lists = [column if isinstance(column, list) else [column] for column in columns]
    n = len(lists[0][0])
    pieces = [literal(first, n)]
    for column, text in zip(lists, texts, strict=True):
        pieces += [*column, literal(text, n)]
    return pieces


def _headers(batch: Sessionized, cause: Int64s) -> Sequence[Headers] | None:
    """The headers of the record that caused each row, as Kafka Streams forwards them; None if there are none."""
    headers = batch.visits.headers
    return None if headers is None else [headers[visit] for visit in cause.tolist()]
