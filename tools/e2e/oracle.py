"""An independent oracle: the tables a log must produce, computed in plain Python, and the differences from them.

It shares no code with models/. It implements neither grace nor retention, so it holds only for logs whose rows
are in time order to within a day.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.e2e.read_topic import Record

#: inactivity that closes a session [ms]
_GAP_MS = 15 * 60 * 1000


@dataclass(frozen=True, slots=True)
class ExpectedTables:
    """The final tables a log must produce."""

    events: int
    #: key bytes → value of MOODLE_LOGS_SESSIONS_PER_15MINS
    sessions: dict[bytes, bytes]
    #: key bytes → (value, timestamp) of MOODLE_LOGS_PREDICTION_AGG
    totals: dict[bytes, tuple[bytes, int]]


def expected_tables(visits: Iterable[tuple[int, int]]) -> ExpectedTables:
    """Compute the tables for visits (userid, epoch ms)."""
    times: defaultdict[int, list[int]] = defaultdict(list)
    for student, at in visits:
        times[student].append(at)
    sessions: dict[bytes, bytes] = {}
    totals: dict[bytes, tuple[bytes, int]] = {}
    for student, ats in times.items():
        intervals = _sessions(sorted(ats))
        for start, end, n in intervals:
            key = str(student).encode() + struct.pack(">qq", end, start)
            duration = _seconds(start, end)
            sessions[key] = _json(USERID=student, ACTIVITIES=n, START_DATE=start, END_DATE=end, DURATION=duration)
        mean = sum(_seconds(start, end) for start, end, _ in intervals) // len(intervals)
        row = _json(USERID=student, ACTIVITIES=len(ats), DURATION=mean, SESSIONS=len(intervals))
        totals[str(student).encode()] = (row, max(ats))
    return ExpectedTables(sum(map(len, times.values())), sessions, totals)


def _sessions(ats: Sequence[int]) -> list[tuple[int, int, int]]:
    """Group sorted times into sessions (start, end, number of events)."""
    sessions = [(ats[0], ats[0], 1)]
    for at in ats[1:]:
        start, end, n = sessions[-1]
        if at - end <= _GAP_MS:
            sessions[-1] = (start, at, n + 1)
        else:
            sessions.append((at, at, 1))
    return sessions


def _seconds(start: int, end: int) -> int:
    return (end - start) // 1000


def _json(**columns: int) -> bytes:
    return json.dumps(columns, separators=(",", ":")).encode()


def compacted(records: Iterable[Record]) -> dict[bytes, Record]:
    """Return the last record of each key, without deleted keys."""
    last = {r.key or b"": r for r in records}
    return {key: r for key, r in last.items() if r.value is not None}


def differences(expected: ExpectedTables, topics: Mapping[str, Sequence[Record]], scored: bool = True) -> list[str]:
    """Compare the four output topics (by their unprefixed names) with the expected tables: one line a difference.

    Apart from the final tables: no session row occurs twice, each student's last prediction belongs to their last
    totals, and the in-risk topic holds exactly the predictions above 0.7, in order.
    scored: whether a totals model predicts. Predictions of the standing model are checked by tools/e2e/risk_oracle.
    """
    sessions, agg = topics["MOODLE_LOGS_SESSIONS_PER_15MINS"], topics["MOODLE_LOGS_PREDICTION_AGG"]
    predictions, in_risk = topics["MOODLE_LOGS_PREDICTION"], topics["MOODLE_LOGS_PREDICTION_IN_RISK"]
    lines = _compare("sessions", expected.sessions, {k: r.value for k, r in compacted(sessions).items()})
    lines += _compare("totals", expected.totals, {k: (r.value, r.at) for k, r in compacted(agg).items()})
    lines += [f"sessions: row {row} occurs {n} times" for row, n in _duplicates(sessions)]
    alerts = [(r.key, r.value, r.at) for r in predictions if _risk(r) > 0.7]
    if alerts != [(r.key, r.value, r.at) for r in in_risk]:
        lines.append(f"in risk: {len(in_risk)} rows, {len(alerts)} predictions above 0.7, or their content differs")
    if scored:
        timestamps = {k: r.at for k, r in compacted(predictions).items()}
        lines += _compare("predictions", {k: at for k, (_, at) in expected.totals.items()}, timestamps)
    return lines


def order_differences(topics: Mapping[str, Sequence[Record]], scored: bool = True) -> list[str]:
    """Check the order of rows where every row is the state after a batch (RISK_EMIT=batch).

    Totals only grow, and each totals row was scored exactly once, if a totals model predicts (`scored`). This detects
    an update that was applied twice and then undone. Returns at most five lines.
    """
    agg, predictions = topics["MOODLE_LOGS_PREDICTION_AGG"], topics["MOODLE_LOGS_PREDICTION"]
    lines, latest = [], dict[bytes, int]()
    for record in agg:
        key, activities = record.key or b"", json.loads(record.value or b"{}")["ACTIVITIES"]
        if activities <= latest.get(key, 0):
            lines.append(f"totals of {key!r}: {activities} after {latest[key]}")
        latest[key] = activities
    if scored and predictions and _timestamps_by_key(agg) != _timestamps_by_key(predictions):
        lines.append(f"{len(agg)} totals rows, {len(predictions)} predictions, or their timestamps differ")
    return lines[:5]


def _timestamps_by_key(records: Sequence[Record]) -> dict[bytes, list[int]]:
    ats: defaultdict[bytes, list[int]] = defaultdict(list)
    for record in records:
        ats[record.key or b""].append(record.at)
    return ats


def _risk(record: Record) -> float:
    return float(json.loads(record.value)["PREDICTION"]) if record.value else math.nan


def _duplicates(records: Sequence[Record]) -> Sequence[tuple[object, int]]:
    rows = Counter((r.key, r.value) for r in records if r.value is not None)
    return [(row, n) for row, n in rows.items() if n > 1][:5]


def _compare(name: str, expected: Mapping[bytes, object], actual: Mapping[bytes, object]) -> list[str]:
    if expected == actual:
        return []
    missing, extra = expected.keys() - actual.keys(), actual.keys() - expected.keys()
    unequal = [k for k in expected.keys() & actual.keys() if expected[k] != actual[k]]
    line = f"{name}: {len(expected)} expected, {len(actual)} found; {len(missing)} missing, {len(extra)} extra"
    if unequal:
        key = unequal[0]
        line += f", {len(unequal)} differ, e.g. {key!r}: expected {expected[key]!r}, found {actual[key]!r}"
    return [line]
