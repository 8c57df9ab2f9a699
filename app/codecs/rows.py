"""Output rows, byte for byte as KSQL 5.3 writes them: compact JSON, upper-case names, nulls written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from agents.score import Scored
from agents.sessionize import Sessionized
from app.producing import NO_HEADERS, Row
from models.chunk import Headers
from models.doubles import java_double
from models.murmur2 import NULL_KEY
from models.rules import Int64s
from models.totals import Rollup

_SESSION = b'{"USERID":%b,"ACTIVITIES":%d,"START_DATE":%d,"END_DATE":%d,"DURATION":%d}'
_AGG = b'{"USERID":%b,"ACTIVITIES":%d,"DURATION":%b,"SESSIONS":%d}'
_PREDICTION = b'{"USERID":%b,"PREDICTION":%b,"CREATED_DATE":%d}'

# a null userid is grouped under the text "null", which is also how JSON writes it: key and value agree
assert NULL_KEY == b"null"


@lru_cache(maxsize=20_000)
def _double(x: float) -> bytes:
    return java_double(x).encode()


def sessions(batch: Sessionized, keys: Sequence[bytes]) -> list[Row]:
    """Rows and tombstones of MOODLE_LOGS_SESSIONS_PER_15MINS; `keys` [u] of the batch's students.

    Key: utf8(userid), then end and start as big-endian int64 (Kafka Streams SessionKeySchema).
    """
    records = batch.records.take(np.flatnonzero(batch.records.written))
    s = records.sessions
    bounds = np.empty((len(records), 2), ">i8")
    bounds[:, 0], bounds[:, 1] = s.end, s.start
    windows = bounds.tobytes()
    headers = _headers(batch, records.cause)
    rows: list[Row] = []
    columns = zip(
        s.owner.tolist(), records.sign.tolist(), s.count.tolist(), s.start.tolist(), s.end.tolist(),
        s.seconds.tolist(), headers, strict=True,
    )  # fmt: skip
    for i, (owner, sign, count, start, end, seconds, header) in enumerate(columns):
        key = keys[owner]
        value = None if sign < 0 else _SESSION % (key, count, start, end, seconds)
        rows.append((end, key + windows[16 * i : 16 * i + 16], value, header))
    return rows


def totals(batch: Sessionized, rollup: Rollup, keys: Sequence[bytes]) -> list[Row]:
    """Rows of MOODLE_LOGS_PREDICTION_AGG."""
    r = rollup.rows
    durations = [b"%d" % d for d in r.duration.tolist()]
    for empty in np.flatnonzero(r.sessions == 0).tolist():
        durations[empty] = b"null"
    columns = zip(
        rollup.owner.tolist(), r.activities.tolist(), durations, r.sessions.tolist(), r.at.tolist(),
        _headers(batch, rollup.cause), strict=True,
    )  # fmt: skip
    return [
        (at, keys[owner], _AGG % (keys[owner], activities, duration, count), header)
        for owner, activities, duration, count, at, header in columns
    ]


def predictions(scored: Scored, keys: Sequence[bytes], headers: Headers) -> list[Row]:
    """Rows of MOODLE_LOGS_PREDICTION, each with the model's `headers`."""
    rollup = scored.rolled.rollup
    owners = rollup.owner[scored.rows].tolist()
    ats = rollup.rows.at[scored.rows].tolist()
    return [
        (at, keys[owner], _PREDICTION % (keys[owner], _double(risk), at), headers)
        for owner, at, risk in zip(owners, ats, scored.risk.tolist(), strict=True)
    ]


def _headers(batch: Sessionized, cause: Int64s) -> Sequence[Headers]:
    """The headers of the record that caused each row, as Kafka Streams forwards them."""
    headers = batch.visits.headers
    if headers is None:
        return [NO_HEADERS] * len(cause)
    return [headers[visit] for visit in cause.tolist()]
