"""sessionize: visit batches -> changes of their students' sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agents.ports import StatePartition
from models import state, windowing
from models.position import Gap, Position, drop_applied
from models.rules import Int64s
from models.session_changes import SessionChanges
from models.sessions import Sessions
from models.totals import Totals
from models.visit_batch import VisitBatch
from models.visits import StudentDictionary, Visits, dictionary_encode


@dataclass(frozen=True, slots=True)
class LateVisits:
    """The visits that were dropped as late [l]."""

    #: source partition and offset
    source: Int64s
    offset: Int64s
    #: how far behind stream time each was [ms]
    behind: Int64s

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(frozen=True, slots=True)
class Sessionized:
    """The effect of visit batches on the sessions of their students."""

    #: the visits that had not been applied before [n]
    visits: Visits
    #: their students [u]
    students: StudentDictionary
    changes: SessionChanges
    #: all open sessions of these students afterwards
    sessions: Sessions
    #: their totals before
    totals: Totals
    #: position after these visits
    position: Position
    late: LateVisits
    #: number of visits dropped because they had been applied before
    repeated: int
    #: number of source ranges refused because offsets before them are missing
    detached: int
    #: source offsets that are missing because a visit batch was corrupt
    gaps: Sequence[Gap]
    #: number of visit batches dropped because they were made for another number of visits partitions
    outdated: int


def sessionize(
    partition: StatePartition, visit_batches: Sequence[VisitBatch], *, emit_every_change: bool
) -> Sessionized:
    """Apply visit batches, in order, to the partition's state after its last flush.

    emit_every_change: report every revision (as KSQL with its cache off), or one change per session.
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
    late = np.flatnonzero(windowed.late)
    return Sessionized(
        visits=new.visits,
        students=students,
        changes=windowed.changes,
        sessions=windowed.sessions,
        totals=totals,
        position=position,
        late=LateVisits(new.source[late], new.visits.offset[late], new.before[late] - new.visits.at[late]),
        repeated=new.repeated,
        detached=new.detached,
        gaps=new.gaps,
        outdated=new.outdated,
    )
