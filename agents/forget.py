"""forget: the part of `process` that erases students from a visits partition, on request of `faust -A app forget`.

A request is a visit batch with the students' ids. It is applied in its place among the visits, in one transaction: the
state of the students, what was written for them under keys, and how far the partition has forgotten. What they do
later counts as that of students who were never seen. A request that is read again has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agents.ports import Metrics, StatePartition, Target
from agents.risk_output import Effect, RiskOptions, RiskOutput
from codec import tombstones
from codec.record_batch import Rows
from models import activity_records, forgotten, state
from models.alerts import Why
from models.forgotten import Forgotten
from models.murmur2 import keys_of
from models.position import Position
from models.rules import Int64s
from models.topic_names import TopicNames
from models.visit_batch import VisitBatch
from models.visits import StudentDictionary


@dataclass(frozen=True, slots=True)
class Erasure:
    """What has to be written for some students to be forgotten."""

    #: tombstones of KSQL's topics, and what is written to those of the risk
    rows: Mapping[Target, Rows]
    more: Sequence[tuple[Target, Rows]]
    #: state records by key; None: to be deleted
    records: Mapping[bytes, bytes | None]
    position: Position
    students: StudentDictionary


async def apply(
    partition: StatePartition,
    request: VisitBatch,
    offset: int,
    names: TopicNames,
    metrics: Metrics,
    *,
    scoring: bool,
    risk: RiskOptions | None = None,
) -> bool:
    """Forget the students of a request, which is at `offset` of the visits topic.

    scoring: whether the app writes predictions itself; risk: None if it is off. Returns False, and has written nothing,
    if another worker owns the partition by now. Raises StateError if a stored record is damaged or too new.
    """
    if request.partitions != partition.position.partitions and request.partitions and partition.position.partitions:
        metrics.add("outdated_batches")
        return True
    if offset < partition.forgotten.next_offset:
        return True  # read again after a restart
    erasure = erase(partition, request.forget, offset + 1, names, scoring=scoring, risk=risk)
    gone: list[bytes | None] = [None] * len(erasure.students.student)
    if not await partition.flush(
        erasure.rows,
        erasure.records,
        erasure.position,
        (erasure.students, gone),
        activity=dict.fromkeys(erasure.students.student.tolist()),
        early=dict.fromkeys(erasure.students.student.tolist()),
        more=erasure.more,
    ):
        return False
    metrics.add("flushes")
    metrics.add("forgotten", len(gone))
    for (topic, _), written in [*erasure.rows.items(), *erasure.more]:
        metrics.add("rows", len(written), topic)
    return True


def erase(
    partition: StatePartition,
    ids: Int64s,
    next_offset: int,
    names: TopicNames,
    *,
    scoring: bool,
    risk: RiskOptions | None = None,
) -> Erasure:
    """What to write to forget the students `ids` [n] of a partition; next_offset: behind the request.

    There are tombstones for students without a state too: the topics may know them from a former app.
    """
    position = partition.position
    student = np.unique(ids)
    students = StudentDictionary(student, np.zeros(len(student), np.bool_), np.arange(len(student)))
    keys = keys_of(student, students.null)
    stored = partition.load(students)
    _, sessions = state.unpack(stored)
    at = max(position.watermarks.stream_time, 0)
    rows: dict[Target, Rows] = {
        (names.sessions, 0): tombstones.of_sessions(keys, sessions, at),
        (names.agg, 0): tombstones.of_keys(keys, at),
    }
    if scoring:
        rows[names.prediction, 0] = tombstones.of_keys(keys, at)
    known = [key for key, record in zip(keys, stored, strict=True) if record is not None]
    records: dict[bytes, bytes | None] = dict.fromkeys(known)
    records[forgotten.KEY] = forgotten.pack(Forgotten(next_offset, position.watermarks.stream_time))
    more = [] if risk is None else _of_risk(partition, student, names, risk, at)
    return Erasure(rows, more, records, replace(position, students=position.students - len(known)), students)


def _of_risk(
    partition: StatePartition, student: Int64s, names: TopicNames, risk: RiskOptions, at: int
) -> list[tuple[Target, Rows]]:
    """Close the alerts of students [u] that are open, and write tombstones for their entries; at: stream time [ms]."""
    entries, _ = activity_records.unpack(partition.activity(student))
    open_, effect = entries.take(entries.alert), Effect()
    closed = np.full(len(open_), at)
    output = RiskOutput(names, risk)
    output.close(effect, student, open_, closed, risk.days.of(closed), Why.ERASED)
    output.complete(effect)
    pairs = zip(student[entries.owner].tolist(), entries.course.tolist(), strict=True)
    keys = [b"%d|%d" % pair if risk.per_course else b"%d" % pair[0] for pair in pairs]
    return [*effect.rows, *(((topic, 0), tombstones.of_keys(keys, at)) for topic in (names.risk, names.risk_alerts))]
