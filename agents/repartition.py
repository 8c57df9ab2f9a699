"""repartition: what was fetched of the source partitions -> rounds of frames, keyed by student, in time order."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass

from models.aligner import Aligner
from models.heartbeats import HeartbeatCoalescer
from models.routing import Router, visit_batches
from models.visit_batch import VisitBatch
from models.visits import Visits


@dataclass(frozen=True, slots=True)
class Fetched:
    """The good visits of one fetch of one source partition; possibly none."""

    partition: int
    visits: Visits
    #: the source offset behind what was fetched
    next_offset: int
    #: whether the partition holds more
    lagging: bool
    #: the assignment this belongs to, and all source partitions that are in it
    generation: int
    assigned: frozenset[int]
    #: handed back in `Round.done` when everything of this fetch is in a round
    token: object
    #: whether another fetch has arrived behind this one
    more: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """Frames to send, and what is done once they are written."""

    #: for each visits partition [s] its frames, in order
    visit_batches: Sequence[Sequence[VisitBatch]]
    #: the tokens of the fetches that are wholly sent with this round
    done: Sequence[object]
    #: number of visits held back per source partition, where that is said
    held: dict[int, int]


async def repartition(fetches: AsyncIterable[Fetched], sources: int, max_rows: int) -> AsyncIterator[Round]:
    """Align the source partitions and route their visits.

    sources: partitions of the source topic, and of the visits topic; max_rows: visits in one frame,
    and what has arrived beyond which nothing more is waited for.
    A fetch of another generation begins anew: what is held belongs to an assignment that is gone,
    and is fetched again by whoever owns it now. What has arrived of several partitions goes in one round.
    """
    generation: int | None = None
    aligner, router, coalescer = Aligner(set()), Router(sources), HeartbeatCoalescer(sources)
    open_fetches: dict[int, deque[tuple[int, object]]] = {}
    waiting = 0
    async for fetched in fetches:
        if fetched.generation != generation:
            generation, aligner = fetched.generation, Aligner(set(fetched.assigned))
            coalescer = HeartbeatCoalescer(sources)
            open_fetches = {p: deque() for p in fetched.assigned}
        aligner.add(fetched.partition, fetched.visits, fetched.next_offset, fetched.lagging)
        open_fetches[fetched.partition].append((fetched.next_offset, fetched.token))
        waiting += len(fetched.visits)
        if fetched.more and waiting < max_rows:
            continue
        waiting = 0
        while ranges := aligner.release(max_rows):
            yield Round(coalescer.coalesce(visit_batches(ranges, router, max_rows)), _done(open_fetches, aligner), {})
        # at the end, whether or not anything was let go, say what waits
        yield Round((), _done(open_fetches, aligner), {p: aligner.buffered(p) for p in fetched.assigned})


def _done(open_fetches: dict[int, deque[tuple[int, object]]], aligner: Aligner) -> list[object]:
    """The tokens of the fetches that are wholly released by now."""
    done = []
    for partition, waiting in open_fetches.items():
        while waiting and waiting[0][0] <= aligner.released_to(partition):
            done.append(waiting.popleft()[1])
    return done
