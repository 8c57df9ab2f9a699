"""sessionize: visit batches -> changes of the sessions of their students."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.ports import StatePartition
from models import state, windowing
from models.position import Gap, Position, drop_applied
from models.session_changes import SessionChanges
from models.sessions import Sessions
from models.totals import Totals
from models.visit_batch import VisitBatch
from models.visits import StudentDictionary, Visits, dictionary_encode


@dataclass(frozen=True, slots=True)
class Sessionized:
    """What visit batches do to the sessions of their students."""

    #: the visits that had not been applied before [n]
    visits: Visits
    #: their students [u]
    students: StudentDictionary
    changes: SessionChanges
    #: all open sessions of these students afterwards
    sessions: Sessions
    #: their totals before
    totals: Totals
    #: how far the log is applied afterwards
    position: Position
    #: visits refused as late, visits that had been applied before, source ranges that did not join
    late: int
    repeated: int
    detached: int
    #: source offsets that are missing because a visit batch was corrupt
    gaps: Sequence[Gap]


def sessionize(
    partition: StatePartition, visit_batches: Sequence[VisitBatch], *, emit_every_change: bool
) -> Sessionized:
    """Apply visit batches, in order, to the state as the last flush of the partition left it.

    emit_every_change: report every revision (KSQL with its cache off), or one change a session.
    Raises StateError if a stored record is damaged or too new.
    """
    new = drop_applied(partition.position, visit_batches)
    students = dictionary_encode(new.visits)
    records = partition.load(students)
    totals, sessions = state.unpack(records)
    position = replace(new.position, students=new.position.students + sum(record is None for record in records))
    windowed = windowing.apply(
        sessions,
        students.indices,
        new.visits.at,
        new.before,
        new.position.watermarks.stream_time,
        emit_every_change=emit_every_change,
    )
    return Sessionized(
        visits=new.visits,
        students=students,
        changes=windowed.changes,
        sessions=windowed.sessions,
        totals=totals,
        position=position,
        late=int(windowed.late.sum()),
        repeated=new.repeated,
        detached=new.detached,
        gaps=new.gaps,
    )
