"""The decoded records of a chunk of the Moodle log: visits, rejected records and tombstones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.chunk import Chunk
from models.columns import concatenate
from models.counting import CountingRules, Judged, RiskColumns, judge
from models.rules import MAX_AT, Bools, Int64s
from models.visits import COUNTED, EXTRA, NO_LOG_ID, SUBMISSION, Visits

#: a timecreated below this is a plausible time in s (up to the year 5138), any other one in ms (since 1973)
_SECONDS_BELOW = 100_000_000_000


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that has no effect; KSQL logs and skips it."""

    #: the index of the record in the chunk
    index: int
    #: bad-magic, truncated, malformed, unknown-schema, wrong-schema, unreadable-schema, type-mismatch,
    #: negative-time, time-too-large or ahead-of-clock
    reason: str
    #: one line for the operator
    detail: str


@dataclass(frozen=True, slots=True)
class OddSchema:
    """A writer's schema that an operator must hear of: its records are refused, or read although something is odd."""

    schema_id: int
    #: number of records of the chunk that have it
    records: int
    refused: bool
    #: one line for the operator
    detail: str


@dataclass(frozen=True, slots=True)
class DecodedChunk:
    """The visits of a chunk, in its order, and the records that are none."""

    #: the index of each visit's record in the chunk, ascending [n]
    row: Int64s
    #: userid, 0 if null [n]
    student: Int64s
    #: whether userid is null: KSQL groups these under the key "null" [n]
    null: Bools
    #: event time [n] ms
    at: Int64s
    #: ascending by index
    rejects: list[RejectedRecord]
    #: number of records without a value, which have no effect
    tombstones: int
    #: number of visits whose timecreated is implausible in the configured unit
    suspicious: int
    #: the log's own id of each row [n], NO_LOG_ID for a row without one; None: not read
    log_id: Int64s | None = None
    #: what each row is to the risk; None: not read (RISK_MODEL=none)
    judged: Judged | None = None
    #: the odd ones among the schemas of the records
    odd_schemas: Sequence[OddSchema] = ()

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: Bools) -> DecodedChunk:
        """The chunk with the visits of a mask [n] only."""
        log_id = None if self.log_id is None else self.log_id[rows]
        judged = None if self.judged is None else self.judged.take(rows)
        row, student, null, at = self.row[rows], self.student[rows], self.null[rows], self.at[rows]
        return replace(self, row=row, student=student, null=null, at=at, log_id=log_id, judged=judged)

    def visits(self, chunk: Chunk) -> Visits:
        """The visits with the offsets and headers of the `chunk` they were decoded from, and the EXTRA rows."""
        offset = np.asarray(chunk.offsets, np.int64)
        headers = chunk.headers
        if len(self.row) < len(offset):
            offset = offset[self.row]
            headers = None if headers is None else [headers[i] for i in self.row.tolist()]
        judged = self.judged
        if judged is None:
            return Visits(self.student, self.null, self.at, offset, headers, self.log_id)
        visits = Visits(self.student, self.null, self.at, offset, headers, self.log_id, judged.course, judged.kind)
        return _with_extra(visits, judged.other) if judged.other.any() else visits


def _with_extra(visits: Visits, other: Int64s) -> Visits:
    """The visits [n], each followed by an EXTRA row for the student in `other` [n], unless that is 0."""
    due = other != 0
    extra = np.flatnonzero(due) + np.arange(1, 1 + np.count_nonzero(due))
    visits = visits.take(np.repeat(np.arange(len(visits)), 1 + due))
    assert visits.kind is not None
    visits.student[extra], visits.null[extra] = other[due], False
    visits.kind[extra] = COUNTED | SUBMISSION | EXTRA
    if visits.log_id is not None:
        visits.log_id[extra] = NO_LOG_ID
    headers = visits.headers
    if headers is not None:
        is_extra = set(extra.tolist())
        headers = [() if i in is_extra else record_headers for i, record_headers in enumerate(headers)]
    return replace(visits, headers=headers)


@dataclass(frozen=True, slots=True)
class DecodedRows:
    """Some decoded records of a chunk; `at` is timecreated in its own unit."""

    row: Int64s
    student: Int64s
    null: Bools
    at: Int64s
    #: None: not read
    log_id: Int64s | None = None
    risk: RiskColumns | None = None

    def take(self, which: Int64s | Bools) -> DecodedRows:
        """The rows at `which` (indices or a mask)."""
        log_id = None if self.log_id is None else self.log_id[which]
        risk = None if self.risk is None else self.risk.take(which)
        return DecodedRows(self.row[which], self.student[which], self.null[which], self.at[which], log_id, risk)


def assemble(
    parts: list[DecodedRows],
    rejects: list[RejectedRecord],
    tombstones: int,
    unit_ms: int,
    counting: CountingRules | None = None,
) -> DecodedChunk:
    """Sort `parts` by row, check their times, convert them from `unit_ms` (1 or 1000) to ms, and judge what they are
    to the risk, unless `counting` is None.

    A negative time is rejected as in KSQL. So is one within a session gap of 2**63 ms or above, which would terminate
    KSQL's query.
    """
    rows = parts[0] if len(parts) == 1 else _in_order(parts)
    at = rows.at
    max_at = MAX_AT // unit_ms
    if len(at) and (at.min() < 0 or at.max() > max_at):
        valid = (at >= 0) & (at <= max_at)
        invalid = np.flatnonzero(~valid)
        times = zip(rows.row[invalid].tolist(), at[invalid].tolist(), strict=True)
        rejects = rejects + [_rejected_time(index, time, unit_ms) for index, time in times]
        rows = rows.take(valid)
        at = rows.at
    if unit_ms == 1:
        implausible = (at > 0) & (at < _SECONDS_BELOW)
    else:
        implausible = at >= _SECONDS_BELOW
        at = at * unit_ms
    rejects = sorted(rejects, key=lambda reject: reject.index)
    suspicious = int(np.count_nonzero(implausible))
    judged = None if counting is None or rows.risk is None else judge(counting, rows.student, rows.risk)
    return DecodedChunk(rows.row, rows.student, rows.null, at, rejects, tombstones, suspicious, rows.log_id, judged)


def _in_order(parts: list[DecodedRows]) -> DecodedRows:
    if not parts:
        empty = np.empty(0, np.int64)
        return DecodedRows(empty, empty, np.empty(0, np.bool_), empty)
    row = np.concatenate([part.row for part in parts])
    # all parts have log ids, or none has; the same for the risk
    log_ids = [part.log_id for part in parts if part.log_id is not None]
    risks = [part.risk for part in parts if part.risk is not None]
    return DecodedRows(
        row,
        np.concatenate([part.student for part in parts]),
        np.concatenate([part.null for part in parts]),
        np.concatenate([part.at for part in parts]),
        np.concatenate(log_ids) if log_ids else None,
        concatenate(risks) if risks else None,
    ).take(np.argsort(row))


def _rejected_time(index: int, time: int, unit_ms: int) -> RejectedRecord:
    unit = "ms" if unit_ms == 1 else "s"
    if time < 0:
        return RejectedRecord(index, "negative-time", f"timecreated is {time} {unit}")
    return RejectedRecord(index, "time-too-large", f"timecreated is {time} {unit}: above {MAX_AT} ms")
