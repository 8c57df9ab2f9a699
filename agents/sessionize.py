"""sessionize: frames of visits -> changes of the sessions table."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from models import state, windowing
from models.position import Front, Gap, admit
from models.session_changes import Records
from models.sessions import Sessions
from models.totals import Totals
from models.visit_batch import Frame
from models.visits import Roster, Visits, roster


class Students(Protocol):
    """The students of one visits partition, as of the last flush."""

    @property
    def front(self) -> Front:
        """How far the log has been applied to them."""

    def load(self, students: Roster) -> Sequence[bytes | None]:
        """The state record of each student [u]; None for one never seen."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Frames of one visits partition, in order, to be applied at once."""

    frames: Sequence[Frame]
    #: handed through: what is processed once this batch is flushed
    done: Sequence[object]


@dataclass(frozen=True, slots=True)
class Sessionized:
    """What a batch of visits does to the sessions of its students."""

    visits: Visits
    #: the students of the batch [u]
    students: Roster
    records: Records
    #: all open sessions of these students afterwards
    sessions: Sessions
    #: their totals before
    totals: Totals
    front: Front
    #: visits refused as late, visits applied before, slices that did not join
    late: int
    repeated: int
    detached: int
    #: what is missing, because a frame could not be read
    gaps: Sequence[Gap]
    done: Sequence[object]


async def sessionize(arrivals: AsyncIterable[Arrived], students: Students, *, each: bool) -> AsyncIterator[Sessionized]:
    """Apply each batch to the state as the flush before it left it.

    each: report every revision (KSQL with its cache off), or one change a session.
    """
    async for arrived in arrivals:
        passed = admit(students.front, arrived.frames)
        who = roster(passed.visits)
        records = students.load(who)
        totals, sessions = state.unpack(records)
        front = replace(passed.front, students=passed.front.students + sum(r is None for r in records))
        observed = passed.front.clocks.observed
        done = windowing.apply(sessions, who.code, passed.visits.at, passed.before, observed, each=each)
        yield Sessionized(
            visits=passed.visits,
            students=who,
            records=done.records,
            sessions=done.sessions,
            totals=totals,
            front=front,
            late=int(done.late.sum()),
            repeated=passed.repeated,
            detached=passed.detached,
            gaps=passed.gaps,
            done=arrived.done,
        )
