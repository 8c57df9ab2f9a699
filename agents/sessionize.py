"""sessionize: visit batches -> changes of their students' sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agents.ports import StatePartition
from models import log_ids, state, windowing
from models.days import MAX_BEHIND_MS
from models.position import Gap, Position, drop_applied
from models.rules import Bools, Int64s
from models.session_changes import SessionChanges
from models.sessions import Sessions
from models.totals import Totals
from models.visit_batch import VisitBatch
from models.visits import COUNTED, SUBMISSION, StudentDictionary, Visits, dictionary_encode


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
class CountedVisits:
    """The visits and submissions that count for the risk, in the order of arrival [n]."""

    student: Int64s
    #: 0: the log does not tell, or the risk is per site
    course: Int64s
    #: event time [n] ms
    at: Int64s
    submission: Bools
    #: stream time after each [n] ms
    after: Int64s

    def __len__(self) -> int:
        return len(self.student)


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
    #: what counts for the risk; None: the risk is off
    counted: CountedVisits | None = None
    #: number of visits that do not count for the risk because they are late
    too_late: int = 0


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
    visits, before, source, after = new.visits, new.before, new.source, new.after
    changed: Mapping[bytes, bytes] = {}
    if deduplicate and visits.log_id is not None:
        is_new, changed = _add_log_ids(partition, visits.log_id)
        if not is_new.all():
            visits, before, source, after = visits.take(is_new), before[is_new], source[is_new], after[is_new]
    everything, before_everything, ksql = visits, before, None
    if (extra := visits.extra) is not None:
        # the rest is KSQL's, which knows no EXTRA rows
        ksql = ~extra
        visits, before, source = visits.take(ksql), before[ksql], source[ksql]
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
    counted, too_late = _counted(everything, before_everything, after, ksql, windowed.late)
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
        duplicates=len(new.visits) - len(everything),
        gaps=new.gaps,
        outdated=new.outdated,
        log_ids=changed,
        counted=counted,
        too_late=too_late,
    )


def _counted(
    visits: Visits, before: Int64s, after: Int64s, ksql: Bools | None, late: Bools
) -> tuple[CountedVisits | None, int]:
    """What of `visits` [n] counts for the risk, and how many do not because they are late.

    before, after: stream time before and after each [n] ms; ksql: which are visits of KSQL [n], None for all; late:
    whether KSQL drops each of those.
    """
    if visits.kind is None or visits.course is None:
        return None, 0
    counts = visits.kind & COUNTED != 0
    too_late = before - visits.at > MAX_BEHIND_MS
    too_late[slice(None) if ksql is None else ksql] |= late
    kept = counts & ~too_late
    number = int(np.count_nonzero(counts)) - int(np.count_nonzero(kept))
    submission = visits.kind[kept] & SUBMISSION != 0
    return CountedVisits(visits.student[kept], visits.course[kept], visits.at[kept], submission, after[kept]), number


def _add_log_ids(partition: StatePartition, ids: Int64s) -> tuple[Bools, Mapping[bytes, bytes]]:
    """Which rows have a log id [n] that the partition has not applied, and the records that change with them.

    Late visits are among them: what becomes of a row is decided once, so a second copy changes nothing.
    """
    spans = log_ids.spans_of(ids)
    before = partition.log_ids(spans)
    added = log_ids.add(ids, spans, before)
    changed = (added.bitmaps != before).any(1)
    return added.is_new, dict(zip(log_ids.keys_of(spans[changed]), log_ids.pack(added.bitmaps[changed]), strict=True))
