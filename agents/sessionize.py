"""sessionize: frames of visits -> changes of the sessions table."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from models import state, windowing
from models.position import Gap, Position, drop_applied
from models.session_changes import SessionChanges
from models.sessions import Sessions
from models.totals import Totals
from models.visit_batch import VisitBatch
from models.visits import StudentDictionary, Visits, dictionary_encode


class Students(Protocol):
    """The students of one visits partition, as of the last flush."""

    @property
    def position(self) -> Position:
        """How far the log has been applied to them."""

    def load(self, students: StudentDictionary) -> Sequence[bytes | None]:
        """The state record of each student [u]; None for one never seen."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Frames of one visits partition, in order, to be applied at once."""

    visit_batches: Sequence[VisitBatch]
    #: handed through: what is processed once this batch is flushed
    done: Sequence[object]


@dataclass(frozen=True, slots=True)
class Sessionized:
    """What a batch of visits does to the sessions of its students."""

    visits: Visits
    #: the students of the batch [u]
    students: StudentDictionary
    changes: SessionChanges
    #: all open sessions of these students afterwards
    sessions: Sessions
    #: their totals before
    totals: Totals
    position: Position
    #: visits refused as late, visits applied before, slices that did not join
    late: int
    repeated: int
    detached: int
    #: what is missing, because a frame could not be read
    gaps: Sequence[Gap]
    done: Sequence[object]


async def sessionize(
    arrivals: AsyncIterable[Arrived], students: Students, *, emit_every_change: bool
) -> AsyncIterator[Sessionized]:
    """Apply each batch to the state as the flush before it left it.

    each: report every revision (KSQL with its cache off), or one change a session.
    """
    async for arrived in arrivals:
        passed = drop_applied(students.position, arrived.visit_batches)
        who = dictionary_encode(passed.visits)
        records = students.load(who)
        totals, sessions = state.unpack(records)
        position = replace(passed.position, students=passed.position.students + sum(r is None for r in records))
        stream_time = passed.position.watermarks.stream_time
        done = windowing.apply(
            sessions, who.indices, passed.visits.at, passed.before, stream_time, emit_every_change=emit_every_change
        )
        yield Sessionized(
            visits=passed.visits,
            students=who,
            changes=done.changes,
            sessions=done.sessions,
            totals=totals,
            position=position,
            late=int(done.late.sum()),
            repeated=passed.repeated,
            detached=passed.detached,
            gaps=passed.gaps,
            done=arrived.done,
        )
