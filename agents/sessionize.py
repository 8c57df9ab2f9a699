"""sessionize: visit batches -> changes of their students' sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agents.ports import StatePartition
from models import log_ids, state, windowing
from models.position import Gap, Position, drop_applied
from models.rules import Bools, Int64s
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
    #: number of visits dropped because their log id had been applied before
    duplicates: int
    #: source offsets that are missing because a visit batch was corrupt
    gaps: Sequence[Gap]
    #: number of visit batches dropped because they were made for another number of visits partitions
    outdated: int
    #: the changed records of log ids, by key
    log_ids: Mapping[bytes, bytes]


def sessionize(
    partition: StatePartition,
    visit_batches: Sequence[VisitBatch],
    *,
    emit_every_change: bool,
    deduplicate: bool = False,
) -> Sessionized:
    """Apply visit batches, in order, to the partition's state after its last flush.

    emit_every_change: report every revision (as KSQL with its cache off), or one change per session;
    deduplicate: drop visits whose log id has been applied.
    Raises StateError if a stored record is damaged or too new.
    """
    new = drop_applied(partition.position, visit_batches)
    visits, before, source = new.visits, new.before, new.source
    changed: Mapping[bytes, bytes] = {}
    if deduplicate and visits.log_id is not None:
        is_new, changed = _add_log_ids(partition, visits.log_id)
        if not is_new.all():
            visits, before, source = visits.take(is_new), before[is_new], source[is_new]
    students = dictionary_encode(visits)
    records = partition.load(students)
    totals, sessions = state.unpack(records)
    position = replace(new.position, students=new.position.students + sum(record is None for record in records))
    windowed = windowing.apply(
        sessions,
        students.indices,
        visits.at,
        before,
        new.position.watermarks.stream_time,
        emit_every_change=emit_every_change,
    )
    late = np.flatnonzero(windowed.late)
    return Sessionized(
        visits=visits,
        students=students,
        changes=windowed.changes,
        sessions=windowed.sessions,
        totals=totals,
        position=position,
        late=LateVisits(source[late], visits.offset[late], before[late] - visits.at[late]),
        repeated=new.repeated,
        detached=new.detached,
        duplicates=len(new.visits) - len(visits),
        gaps=new.gaps,
        outdated=new.outdated,
        log_ids=changed,
    )


def _add_log_ids(partition: StatePartition, ids: Int64s) -> tuple[Bools, Mapping[bytes, bytes]]:
    """Which rows have a log id [n] that the partition has not applied, and the records that change with them.

    Late visits are among them: what becomes of a row is decided once, so a second copy changes nothing.
    """
    spans = log_ids.spans_of(ids)
    before = partition.log_ids(spans)
    added = log_ids.add(ids, spans, before)
    changed = (added.bitmaps != before).any(1)
    return added.is_new, dict(zip(log_ids.keys_of(spans[changed]), log_ids.pack(added.bitmaps[changed]), strict=True))
