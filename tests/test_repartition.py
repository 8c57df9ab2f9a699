"""From fetches to visit batches: no visit lost or repeated, in time order, each student in one partition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from aiokafka.partitioner import murmur2 as reference_murmur2
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.ports import Delivery
from agents.repartition import Repartition
from app.ops.metrics import Metrics
from codec.moodle_log import Plans
from models.chunk import Chunk
from models.decoded import DecodedChunk
from models.murmur2 import keys_of, partitions_of
from models.position import Position, drop_applied
from models.routing import Router, visit_batches
from models.topic_names import TopicNames
from models.visit_batch import UNKNOWN_BEGIN, SourceRange, VisitBatch, decode
from models.visits import Visits
from tests.support.effort import examples

PARTITIONS = 3


def visits(students: list[int], ats: list[int], first: int) -> Visits:
    n = len(ats)
    columns = (np.array(students, np.int64), np.zeros(n, np.bool_), np.array(ats, np.int64))
    return Visits(*columns, np.arange(first, first + n))


ALL_PARTITIONS = frozenset(range(PARTITIONS))


@dataclass(frozen=True)
class Fetch:
    """A chunk of a source partition, and the visits decoded from it."""

    partition: int
    visits: Visits
    next_offset: int
    lagging: bool
    generation: int = 1
    has_next: bool = False

    def delivery(self) -> Delivery:
        """Return the chunk as the agent receives it; `Decoder` has its visits."""
        end = self.next_offset + self.lagging
        offsets = self.visits.offset.tolist()
        start = offsets[0] if offsets else self.next_offset
        nothing = [None] * len(offsets)
        chunk = Chunk("log", self.partition, offsets, nothing, nothing, start, self.next_offset, end)
        return Delivery(chunk, self.generation, ALL_PARTITIONS, self.has_next)


@dataclass
class Source:
    """One source partition: its events, and the sizes of the fetches that return them."""

    events: list[tuple[int, int]]
    cuts: list[int]

    def fetches(self, partition: int, generation: int = 1) -> list[Fetch]:
        out, at = [], 0
        for size in [*self.cuts, len(self.events)]:
            piece = self.events[at : at + size]
            v = visits([s for s, _ in piece], [t for _, t in piece], at)
            at += len(piece)
            out.append(Fetch(partition, v, at, at < len(self.events), generation))
        return out


@st.composite
def sources(draw: st.DrawFn) -> list[Source]:
    out = []
    for _ in range(PARTITIONS):
        ats = np.cumsum(draw(st.lists(st.integers(-3, 50), max_size=25))).clip(0).tolist()
        events = [(draw(st.integers(1, 9)), at) for at in ats]
        out.append(Source(events, draw(st.lists(st.integers(0, 6), max_size=5))))
    return out


class Decoder:
    """Decodes each delivered chunk to the visits that were given with it."""

    def __init__(self) -> None:
        self._visits: dict[int, Visits] = {}

    def expect(self, chunk: Chunk, visits: Visits) -> None:
        self._visits[id(chunk)] = visits

    def missing(self, chunk: Chunk) -> frozenset[int]:
        return frozenset()

    def read(self, chunk: Chunk, plans: Plans) -> DecodedChunk:
        v = self._visits[id(chunk)]
        return DecodedChunk(np.arange(len(v)), v.student, v.null, v.at, [], 0, 0)


class Recorder:
    """A log that remembers each round: the visit batches it sends, and the chunks processed after it."""

    def __init__(self) -> None:
        self.rounds: list[tuple[list[list[VisitBatch]], list[Chunk]]] = []

    async def send_visits(self, visit_batches: Sequence[Sequence[bytes]]) -> None:
        self.rounds.append(([[decode(raw) for raw in batches] for batches in visit_batches], []))

    async def processed(self, chunk: Chunk) -> None:
        if not self.rounds:
            self.rounds.append(([[] for _ in range(PARTITIONS)], []))
        self.rounds[-1][1].append(chunk)

    def pause(self, topic: str, partition: int, waits_for: str = "") -> None: ...

    def resume(self, topic: str, partition: int) -> None: ...


async def rounds_of(fetches: list[Fetch], max_rows: int = 1000) -> list[tuple[list[list[VisitBatch]], list[Chunk]]]:
    """Run the agent; return the visit batches it sends and the chunks it marks as processed, round by round."""
    decoder, log = Decoder(), Recorder()
    names = TopicNames.of(source="log", prefix="", app_id="test")

    async def deliveries() -> AsyncIterator[Delivery]:
        for fetch in fetches:
            delivery = fetch.delivery()
            decoder.expect(delivery.chunk, fetch.visits)
            yield delivery

    agent: Any = Repartition
    agent = agent(log, names, decoder, Metrics(), partitions=PARTITIONS, batch_rows=max_rows, unit="ms")
    await agent.run(deliveries())
    return log.rounds


async def run(fetches: list[Fetch], max_rows: int = 1000) -> tuple[list[list[VisitBatch]], list[tuple[int, int]]]:
    """Run the agent; return the visit batches of each visits partition, and (partition, next offset) of each chunk
    that is processed."""
    rounds = await rounds_of(fetches, max_rows)
    sent = [[batch for batches, _ in rounds for batch in batches[p]] for p in range(PARTITIONS)]
    return sent, [(chunk.partition, chunk.next_offset) for _, done in rounds for chunk in done]


def interleave(log: list[Source], random) -> list[Fetch]:
    """Interleave the fetches of all partitions at random, each partition's in order."""
    waiting = [s.fetches(p) for p, s in enumerate(log)]
    out = []
    while any(waiting):
        pick = random.choice([w for w in waiting if w])
        out.append(pick.pop(0))
    return out


@given(sources(), st.randoms(use_true_random=False), st.integers(1, 30))
@settings(deadline=None, max_examples=examples(150))
async def test_every_visit_is_sent_once_and_every_chunk_is_processed(log, random, max_rows):
    """Every event of every partition is sent exactly once, and every chunk is marked as processed."""
    sent, done = await run(interleave(log, random), max_rows)
    got = {
        (piece.source, int(offset), int(student), int(at))
        for partition in sent
        for visit_batch in partition
        for piece in visit_batch.ranges
        for offset, student, at in zip(piece.visits.offset, piece.visits.student, piece.visits.at, strict=True)
    }
    wanted = {(p, i, s, t) for p, source in enumerate(log) for i, (s, t) in enumerate(source.events)}
    assert got == wanted
    assert sum(len(visit_batch) for partition in sent for visit_batch in partition) == len(wanted)
    assert sorted(done) == sorted((p, f.next_offset) for p, s in enumerate(log) for f in s.fetches(p))
    assert all(len(visit_batch) <= max_rows for partition in sent for visit_batch in partition)


@given(sources(), st.randoms(use_true_random=False), st.integers(1, 30))
@settings(deadline=None, max_examples=examples(150))
async def test_a_student_belongs_to_one_partition_and_every_visit_is_applied_once(log, random, max_rows):
    """Visit batches are contiguous however they are cut, and a second delivery applies nothing."""
    sent, _ = await run(interleave(log, random), max_rows)
    homes: dict[int, set[int]] = {}
    for p, partition in enumerate(sent):
        new = drop_applied(Position.start(PARTITIONS), partition)
        assert new.repeated == new.detached == 0
        assert len(new.visits) == sum(map(len, partition))
        again = drop_applied(new.position, partition)
        assert len(again.visits) == 0
        for student in new.visits.student.tolist():
            homes.setdefault(student, set()).add(p)
    assert all(len(home) == 1 for home in homes.values())


@given(sources(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=examples(150))
async def test_nothing_of_a_time_ordered_backlog_is_late(log, random):
    """Stream time never runs ahead of a partition that is still being read."""
    for source in log:
        source.events.sort(key=lambda event: event[1])
    sent, _ = await run(interleave(log, random))
    for partition in sent:
        new = drop_applied(Position.start(PARTITIONS), partition)
        # a partition may be ahead of the slowest by one visit batch, never by a whole backlog
        assert (new.before <= max([0, *(t for s in log for _, t in s.events)])).all()
        for source in range(PARTITIONS):
            mine = [piece.visits.at for batch in partition for piece in batch.ranges if piece.source == source]
            assert np.all(np.diff(np.concatenate([*mine, np.empty(0, np.int64)])) >= 0)


@given(sources(), st.randoms(use_true_random=False), st.integers(1, 30))
async def test_grouping_chunks_does_not_change_the_visits_sent(log, random, max_rows):
    """Rounds of several chunks have each partition's visits in the same order, and end with the same lagging flags."""
    alone = interleave(log, random)
    together = [replace(fetch, has_next=random.random() < 0.6) for fetch in alone[:-1]] + alone[-1:]
    wanted, all_done = await run(alone, max_rows)
    sent, done = await run(together, max_rows)
    assert by_source(sent) == by_source(wanted)
    assert sorted(done) == sorted(all_done)
    for pair in zip(sent, wanted, strict=True):
        grouped, single = (drop_applied(Position.start(PARTITIONS), visit_batches) for visit_batches in pair)
        assert grouped.repeated == grouped.detached == 0
        assert grouped.position.watermarks.lagging.tolist() == single.position.watermarks.lagging.tolist()


def by_source(sent: list[list[VisitBatch]]) -> list[list[list[tuple[int, int, int]]]]:
    """Return offset, student and time of the visits in order, by visits partition and source partition."""
    return [
        [
            [
                row
                for visit_batch in partition
                for s in visit_batch.ranges
                if s.source == source
                for row in zip(s.visits.offset.tolist(), s.visits.student.tolist(), s.visits.at.tolist(), strict=True)
            ]
            for source in range(PARTITIONS)
        ]
        for partition in sent
    ]


@given(sources(), st.randoms(use_true_random=False), st.integers(1, 30))
async def test_a_chunk_is_processed_after_the_round_that_sends_its_last_visit(log, random, max_rows):
    """Never before, or a crash would lose visits; chunks of a partition are processed in the order of arrival."""
    fetches = interleave(log, random)
    fetches = [replace(fetch, has_next=random.random() < 0.6) for fetch in fetches[:-1]] + fetches[-1:]
    offsets_sent: set[tuple[int, int]] = set()
    done: list[tuple[int, int]] = []

    for visit_batches_sent, chunks in await rounds_of(fetches, max_rows):
        ranges = [piece for partition in visit_batches_sent for batch in partition for piece in batch.ranges]
        offsets_sent |= {(piece.source, offset) for piece in ranges for offset in piece.visits.offset.tolist()}
        for chunk in chunks:
            assert {(chunk.partition, offset) for offset in range(chunk.next_offset)} <= offsets_sent
            done.append((chunk.partition, chunk.next_offset))
    for p, source in enumerate(log):
        assert [end for partition, end in done if partition == p] == [f.next_offset for f in source.fetches(p)]


@pytest.mark.parametrize(("max_rows", "expected"), [(1000, [(0, 1)]), (PARTITIONS, [(0,), (1,)])])
async def test_chunks_that_have_arrived_share_a_round(max_rows, expected):
    """A round has one visit batch per visits partition, not one per chunk, up to the largest visit batch."""

    def fetch(partition: int, first: int, *, has_next: bool) -> Fetch:
        return Fetch(partition, visits([1], [first], first), first + 1, False, 1, has_next)

    begin = [Fetch(p, Visits.none(), 0, False, 1, p < 2) for p in range(PARTITIONS)]
    again = [fetch(p, first, has_next=(p, first) != (PARTITIONS - 1, 1)) for first in (0, 1) for p in range(PARTITIONS)]
    rounds = await rounds_of([*begin, *again], max_rows)
    done = [sorted((chunk.partition, chunk.next_offset) for chunk in chunks) for _, chunks in rounds]
    started = [(p, 0) for p in range(PARTITIONS)]
    wanted = [sorted((p, first + 1) for first in firsts for p in range(PARTITIONS)) for firsts in expected]
    assert done == [started, *wanted]
    assert [sum(len(batch) for batches in sent for batch in batches) for sent, _ in rounds] == [0, *map(len, wanted)]


def test_a_source_range_that_leaves_a_hole_is_refused():
    """Visit batches that a fenced worker still had in flight are refused; the new owner sends them again."""
    position = Position.start(1)
    ahead = VisitBatch(1, [SourceRange(0, 5, 9, 90, True, visits([1], [90], 8))])
    refused = drop_applied(position, [ahead])
    assert (len(refused.visits), refused.detached) == (0, 1)
    assert refused.position.offsets.tolist() == [0]
    missing = VisitBatch(1, [SourceRange(0, 0, 5, 50, True, visits([1], [50], 4))])
    assert drop_applied(refused.position, [missing, ahead]).visits.offset.tolist() == [4, 8]


def test_the_first_range_of_a_new_owner_may_begin_anywhere():
    """A new owner begins at the committed offset, and marks its first range with UNKNOWN_BEGIN."""
    first = VisitBatch(1, [SourceRange(0, UNKNOWN_BEGIN, 9, 90, True, visits([1], [90], 8))])
    new = drop_applied(Position.start(1), [first])
    assert new.visits.offset.tolist() == [8]
    assert new.position.offsets.tolist() == [9]


async def test_a_new_assignment_drops_what_was_buffered():
    """The current owner of a partition fetches again what an earlier assignment buffered."""
    first = Source([(1, 10), (1, 900)], [2]).fetches(0)[0]
    early = replace(first, lagging=True)
    again = Source([(1, 10), (1, 900)], []).fetches(0, generation=2)
    rest = [f for p in (1, 2) for f in Source([], []).fetches(p, generation=2)]
    sent, done = await run([early, *again, *rest])
    assert sum(len(visit_batch) for partition in sent for visit_batch in partition) == 2
    assert done.count((0, 2)) == 1


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50), st.integers(1, 50))
def test_students_hash_as_kafkas_default_partitioner_does(students, count):
    """murmur2 of the decimal text, column by column, equals aiokafka's."""
    column = np.array(students, np.int64)
    keys = keys_of(column, np.zeros(len(students), np.bool_))
    wanted = [(reference_murmur2(key) & 0x7FFFFFFF) % count for key in keys]
    assert partitions_of(keys, count).tolist() == wanted


def test_the_null_student_hashes_as_the_text_null():
    """KSQL groups a null userid under the key "null"."""
    assert keys_of(np.array([0]), np.array([True])) == [b"null"]
    assert partitions_of([b"null"], 7).tolist() == [(reference_murmur2(b"null") & 0x7FFFFFFF) % 7]


def test_a_large_range_is_cut_into_contiguous_visit_batches():
    """Many visits of the same time cannot be divided by time: ranges are also cut by rows."""
    burst = SourceRange(0, UNKNOWN_BEGIN, 100, 7, False, visits([1] * 100, [7] * 100, 0))
    pieces = visit_batches([burst], 1, Router(1), 30)[0]
    assert [len(piece) for piece in pieces] == [30, 30, 30, 10]
    assert [source.lagging for piece in pieces for source in piece.ranges] == [True, True, True, False]
    assert len(drop_applied(Position.start(1), pieces).visits) == 100
