"""Output rows, byte for byte as KSQL 5.3 writes them: compact JSON, upper-case names, nulls written."""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from codec.record import NO_HEADERS, Row
from codec.record_batch import ROW_WISE_MAX, OutputColumns, Rows, is_dense, make_rows
from models.binary_column import BinaryColumn
from models.chunk import Chunk, Headers
from models.java.doubles import java_double
from models.murmur2 import NULL_KEY, keys_of
from models.padded_bytes import PaddedBytes, TextTable, big_endian, concatenate, decimals, literal, pad_column, take
from models.predictions import InRisk
from models.rules import Float64s, Int64s
from models.session_changes import SessionChanges
from models.totals import Rollup
from models.visits import StudentDictionary

# KSQL groups a null userid under the key "null", which is also JSON's null: one text serves key and value
assert NULL_KEY == b"null"


_SESSION = b'{"USERID":%b,"ACTIVITIES":%d,"START_DATE":%d,"END_DATE":%d,"DURATION":%d}'
_AGG = b'{"USERID":%b,"ACTIVITIES":%d,"DURATION":%b,"SESSIONS":%d}'
_PREDICTION = b'{"USERID":%b,"PREDICTION":%b,"CREATED_DATE":%d}'
_PLACEHOLDER = re.compile(b"%[bd]")
#: end and start of a session in its key
_WINDOW = struct.Struct(">qq")


@lru_cache(maxsize=20_000)
def _double(x: float) -> bytes:
    return java_double(x).encode()


#: risks of standing are in 1e-4: their texts
_UNITS = 10_000
_UNIT_TEXTS = TextTable(_UNITS + 1, 8, lambda units: _double(units / _UNITS))


def session_key(student: bytes, start: int, end: int) -> bytes:
    """The key of a session in MOODLE_LOGS_SESSIONS_PER_15MINS, of the student with this key; start, end [ms]."""
    return student + _WINDOW.pack(end, start)


def split_session_key(key: bytes) -> tuple[bytes, int, int]:
    """The student's key, start and end [ms] in a session's key. Raises struct.error if it is none."""
    end, start = _WINDOW.unpack(key[-_WINDOW.size :])
    return key[: -_WINDOW.size], start, end


def sessions(
    changes: SessionChanges,
    students: StudentDictionary,
    keys: Sequence[bytes],
    visit_headers: Sequence[Headers] | None,
) -> Rows:
    """Make the rows and tombstones of MOODLE_LOGS_SESSIONS_PER_15MINS.

    keys [u]: of the `students`; visit_headers [n]: of the visits that caused the changes, None if none has any.
    A row's key is utf8(userid), then end and start as big-endian int64 (Kafka Streams SessionKeySchema).
    """
    changes = changes.take(np.flatnonzero(changes.written))
    s, added, headers = changes.sessions, changes.delta > 0, _headers(visit_headers, changes.cause)
    columns = (s.count, s.start, s.end, s.seconds)
    if len(changes) <= ROW_WISE_MAX:
        rows: list[Row] = []
        row_headers = headers or [NO_HEADERS] * len(changes)
        for owner, row, is_added, header in zip(
            s.owner.tolist(), zip(*(c.tolist() for c in columns), strict=True), added.tolist(), row_headers, strict=True
        ):
            _, start, end, _ = row
            value = _SESSION % (keys[owner], *row) if is_added else None
            rows.append((end, session_key(keys[owner], start, end), value, header))
        return rows
    student = _student_keys(students, s.owner)
    return OutputColumns(
        at=s.end,
        key=(student, big_endian(s.end, s.start)),
        value=_fill(_SESSION, (student, *(decimals(c) for c in columns))),
        has_value=None if added.all() else added,
        row_headers=headers,
    )


def totals(
    rollup: Rollup, students: StudentDictionary, keys: Sequence[bytes], visit_headers: Sequence[Headers] | None
) -> Rows:
    """Make the rows of MOODLE_LOGS_PREDICTION_AGG; for `keys` and `visit_headers` see `sessions`."""
    r, headers = rollup.rows, _headers(visit_headers, rollup.cause)
    empty = r.sessions == 0
    if len(r) <= ROW_WISE_MAX:
        key = [keys[owner] for owner in rollup.owner.tolist()]
        means = [b"null" if none else b"%d" % d for none, d in zip(empty.tolist(), r.duration.tolist(), strict=True)]
        values = [_AGG % row for row in zip(key, r.activities.tolist(), means, r.sessions.tolist(), strict=True)]
        return list(zip(r.at.tolist(), key, values, headers or [NO_HEADERS] * len(r), strict=True))
    student, duration = _student_keys(students, rollup.owner), [decimals(r.duration)]
    if empty.any():
        duration = [duration[0].where(~empty), literal(b"null", len(r)).where(empty)]
    value = _fill(_AGG, (student, decimals(r.activities), duration, decimals(r.sessions)))
    return OutputColumns(at=r.at, key=(student,), value=value, row_headers=headers)


def predictions(
    owner: Int64s, at: Int64s, risk: Float64s, students: StudentDictionary, keys: Sequence[bytes], headers: Headers
) -> Rows:
    """Make the rows of MOODLE_LOGS_PREDICTION.

    owner [k]: the student's index; at [k] ms: the time of the totals that are scored; risk [k], 0…1;
    keys [u]: of the `students`; headers: the model's, the same on every row.
    """
    if len(owner) <= ROW_WISE_MAX:
        rows = zip(owner.tolist(), risk.tolist(), at.tolist(), strict=True)
        return [(ms, keys[i], _PREDICTION % (keys[i], _double(x), ms), headers) for i, x, ms in rows]
    student = _student_keys(students, owner)
    units = np.rint(risk * _UNITS).astype(np.int64)
    if (units / _UNITS == risk).all() and units.min(initial=0) >= 0 and units.max(initial=0) <= _UNITS:
        text = _UNIT_TEXTS.take(units)
    else:
        distinct, index = np.unique(risk, return_inverse=True)
        text = take([_double(x) for x in distinct.tolist()], index)
    value = _fill(_PREDICTION, (student, text, decimals(at)))
    return OutputColumns(at=at, key=(student,), value=value, headers=headers)


def in_risk(alerts: Sequence[tuple[Chunk, InRisk, int]]) -> Rows:
    """Make the rows of MOODLE_LOGS_PREDICTION_IN_RISK, with the headers of the predictions they come from.

    alerts: each chunk of predictions with those in risk and the index of its first new record.
    """
    if (columns := _in_risk_columns(alerts)) is not None:
        return columns
    at: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    headers: list[Headers] = []
    for chunk, result, first in alerts:
        new = slice(bisect_left(result.index, first), None)
        at += result.at[new]
        keys += result.keys[new]
        values += result.values[new]
        if chunk.headers is None:
            headers += [NO_HEADERS] * (len(values) - len(headers))
        else:
            headers += [chunk.headers[i] for i in result.index[new]]
    return make_rows(at, keys, values, headers)


def _in_risk_columns(alerts: Sequence[tuple[Chunk, InRisk, int]]) -> OutputColumns | None:
    """Make the rows of `in_risk` if keys and values are columns and all headers are the same; None if not."""
    shared = next((chunk.headers[0] for chunk, _, _ in alerts if chunk.headers), NO_HEADERS)
    keys, values, at = [], [], []
    for chunk, result, first in alerts:
        new = slice(bisect_left(result.index, first), None)
        key, value = result.keys, result.values
        if not (isinstance(key, BinaryColumn) and isinstance(value, BinaryColumn)):
            return None
        if (chunk.headers or [NO_HEADERS]).count(shared) != len(chunk.headers or [NO_HEADERS]):
            return None
        keys.append(key.take(new))
        values.append(value.take(new))
        at.append(np.array(result.at[new], np.int64))
    if sum(map(len, at)) <= ROW_WISE_MAX:
        return None
    both = []
    for columns in (keys, values):
        if not is_dense(np.concatenate([column.stop - column.start for column in columns])):
            return None
        both.append(concatenate([pad_column(column) for column in columns]))
    return OutputColumns(np.concatenate(at), (both[0],), (both[1],), headers=shared)


def _student_keys(students: StudentDictionary, owner: Int64s) -> PaddedBytes:
    """Return the key of each row's student [n]: the same bytes as models.murmur2.keys_of."""
    if not students.null.any():
        return decimals(students.student[owner])
    return take(keys_of(students.student, students.null), owner)


def _fill(template: bytes, columns: Sequence[PaddedBytes | list[PaddedBytes]]) -> list[PaddedBytes]:
    """Put a column, or several adjacent ones, into each placeholder of a template."""
    first, *texts = _PLACEHOLDER.split(template)
    lists = [column if isinstance(column, list) else [column] for column in columns]
    n = len(lists[0][0])
    pieces = [literal(first, n)]
    for column, text in zip(lists, texts, strict=True):
        pieces += [*column, literal(text, n)]
    return pieces


def _headers(visit_headers: Sequence[Headers] | None, cause: Int64s) -> Sequence[Headers] | None:
    """Return the headers of the visit that caused each row, as Kafka Streams forwards them."""
    return None if visit_headers is None else [visit_headers[visit] for visit in cause.tolist()]
