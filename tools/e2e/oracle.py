"""What must come out of a log, counted anew in plain Python, and whether it did.

This shares no code with models/: it is the other opinion. It knows no grace and no expiry, so it holds
for logs whose rows are in time order to within a day.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.e2e.read_topic import Record

#: silence that closes a session [ms]
_GAP_MS = 15 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Truth:
    """The tables a log must leave."""

    events: int
    #: key bytes → value of MOODLE_LOGS_SESSIONS_PER_15MINS
    sessions: dict[bytes, bytes]
    #: key bytes → (value, timestamp) of MOODLE_LOGS_PREDICTION_AGG
    totals: dict[bytes, tuple[bytes, int]]


def recount(visits: Iterable[tuple[int, int]]) -> Truth:
    """The truth about visits (userid, ms)."""
    times: defaultdict[int, list[int]] = defaultdict(list)
    for student, at in visits:
        times[student].append(at)
    sessions: dict[bytes, bytes] = {}
    totals: dict[bytes, tuple[bytes, int]] = {}
    for student, ats in times.items():
        mine = _sessions(sorted(ats))
        for start, end, n in mine:
            key = str(student).encode() + struct.pack(">qq", end, start)
            sessions[key] = _json(USERID=student, ACTIVITIES=n, START_DATE=start, END_DATE=end, DURATION=_s(start, end))
        mean = sum(_s(start, end) for start, end, _ in mine) // len(mine)
        row = _json(USERID=student, ACTIVITIES=len(ats), DURATION=mean, SESSIONS=len(mine))
        totals[str(student).encode()] = (row, max(ats))
    return Truth(sum(map(len, times.values())), sessions, totals)


def _sessions(ats: Sequence[int]) -> list[tuple[int, int, int]]:
    found = [(ats[0], ats[0], 1)]
    for at in ats[1:]:
        start, end, n = found[-1]
        if at - end <= _GAP_MS:
            found[-1] = (start, at, n + 1)
        else:
            found.append((at, at, 1))
    return found


def _s(start: int, end: int) -> int:
    return (end - start) // 1000


def _json(**columns: int) -> bytes:
    return json.dumps(columns, separators=(",", ":")).encode()


def compacted(records: Iterable[Record]) -> dict[bytes, Record]:
    """The last record of each key, without those deleted."""
    last = {r.key or b"": r for r in records}
    return {key: r for key, r in last.items() if r.value is not None}


def differences(truth: Truth, topics: Mapping[str, Sequence[Record]], scored: bool = True) -> list[str]:
    """What is wrong with the four topics (by their plain names), one line each; nothing if all is exact.

    Beside the end states: no session row stands there twice, every last prediction belongs to the
    student's last totals, and in-risk holds exactly the predictions above 0.7, in order.
    """
    sessions, agg = topics["MOODLE_LOGS_SESSIONS_PER_15MINS"], topics["MOODLE_LOGS_PREDICTION_AGG"]
    predictions, in_risk = topics["MOODLE_LOGS_PREDICTION"], topics["MOODLE_LOGS_PREDICTION_IN_RISK"]
    wrong = _table("sessions", truth.sessions, {k: r.value for k, r in compacted(sessions).items()})
    wrong += _table("totals", truth.totals, {k: (r.value, r.at) for k, r in compacted(agg).items()})
    wrong += [f"sessions: {n} rows {row} are the same" for row, n in _doubles(sessions)]
    alarms = [(r.key, r.value, r.at) for r in predictions if _risk(r) > 0.7]
    if alarms != [(r.key, r.value, r.at) for r in in_risk]:
        wrong.append(f"in risk: {len(in_risk)} rows, {len(alarms)} predictions are above 0.7, or they differ")
    if scored:
        last = compacted(predictions)
        wrong += _table("predicted", {k: at for k, (_, at) in truth.totals.items()}, {k: r.at for k, r in last.items()})
    return wrong


def row_by_row(topics: Mapping[str, Sequence[Record]]) -> list[str]:
    """What is wrong with the order of rows where every row is the state after a batch (RISK_EMIT=batch).

    Totals only grow, and each was scored once. Something that was applied twice and taken back would show.
    """
    agg, predictions = topics["MOODLE_LOGS_PREDICTION_AGG"], topics["MOODLE_LOGS_PREDICTION"]
    wrong, latest = [], dict[bytes, int]()
    for record in agg:
        key, activities = record.key or b"", json.loads(record.value or b"{}")["ACTIVITIES"]
        if activities <= latest.get(key, 0):
            wrong.append(f"totals of {key!r}: {activities} after {latest[key]}")
        latest[key] = activities
    if predictions and _by_key(agg) != _by_key(predictions):
        wrong.append(f"{len(agg)} rows of totals, {len(predictions)} predictions, or not for the same moments")
    return wrong[:5]


def _by_key(records: Sequence[Record]) -> dict[bytes, list[int]]:
    ats: defaultdict[bytes, list[int]] = defaultdict(list)
    for record in records:
        ats[record.key or b""].append(record.at)
    return ats


def _risk(record: Record) -> float:
    return float(json.loads(record.value)["PREDICTION"]) if record.value else math.nan


def _doubles(records: Sequence[Record]) -> Sequence[tuple[object, int]]:
    rows = Counter((r.key, r.value) for r in records if r.value is not None)
    return [(row, n) for row, n in rows.items() if n > 1][:5]


def _table(name: str, wanted: Mapping[bytes, object], got: Mapping[bytes, object]) -> list[str]:
    if wanted == got:
        return []
    lacking, extra = wanted.keys() - got.keys(), got.keys() - wanted.keys()
    other = [k for k in wanted.keys() & got.keys() if wanted[k] != got[k]]
    line = f"{name}: {len(wanted)} wanted, {len(got)} there; {len(lacking)} missing, {len(extra)} too many"
    if other:
        line += f", {len(other)} differ, e.g. {other[0]!r}: {wanted[other[0]]!r} became {got[other[0]]!r}"
    return [line]
