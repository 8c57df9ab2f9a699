"""Dividing students among more partitions: nothing is lost, repeated or late that would not have been."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from unittest.mock import AsyncMock, Mock

import numpy as np
import pytest
from aiokafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.sessionize import sessionize
from app.errors import ConfigError
from app.kafka import topics
from app.ops import grow
from app.settings import Settings
from app.state.stored_positions import divided_by, unfinished_growth
from models import activity_records, early_events, growth, log_ids, position, state
from models.aligner import Aligner
from models.chunk import Chunk, RefusedRange
from models.murmur2 import keys_of
from models.position import Position, drop_applied
from models.routing import Router, visit_batches
from models.state_keys import OF_PARTITION, is_student
from models.ticks import Ticks
from models.topic_names import TopicNames
from models.totals import roll_up
from models.visit_batch import SourceRange, VisitBatch, decode, encode
from models.visits import StudentDictionary, Visits
from models.watermarks import Watermarks
from tests.support.effort import examples
from tools.e2e.oracle import expected_tables

NAMES = TopicNames.of(source="log", prefix="", app_id="app")
MINUTE = 60_000


@dataclass
class Students:
    """One partition of the students' state, as bytes. Implements what `sessionize` needs of a StatePartition."""

    position: Position
    records: dict[bytes, bytes] = field(default_factory=dict)

    def load(self, students: StudentDictionary) -> Sequence[bytes | None]:
        return [self.records.get(key) for key in keys_of(students.student, students.null)]

    def apply(self, visit_batches: Sequence[VisitBatch]) -> None:
        """Apply visit batches as a flush does."""
        done = sessionize(self, visit_batches, emit_every_change=False)  # type: ignore[arg-type]
        rollup = roll_up(done.totals, done.changes, emit_every_change=False)
        keys = keys_of(done.students.student, done.students.null)
        self.records |= dict(zip(keys, state.pack(rollup.totals, done.sessions), strict=True))
        self.position = done.position


class Deployment:
    """Source partitions, and the students divided among partitions that they are read into."""

    def __init__(self, partitions: int, sources: int) -> None:
        self.students = [Students(replace(Position.start(sources), partitions=partitions)) for _ in range(partitions)]

    def read(self, log: Sequence[Sequence[tuple[int, int]]], begins: Sequence[int], ends: Sequence[int]) -> None:
        """Read source partitions as a new owner of all, from `begins` to `ends`; apply all of it."""
        aligner, router = Aligner(set(range(len(log)))), Router(len(self.students))
        for source, (rows, begin, end) in enumerate(zip(log, begins, ends, strict=True)):
            part = rows[begin:end]
            columns = (np.array([s for s, _ in part], np.int64), np.zeros(len(part), np.bool_))
            at = np.array([at for _, at in part], np.int64)
            aligner.add(source, Visits(*columns, at, np.arange(begin, begin + len(part))), end, end < len(rows))
        while ranges := aligner.release(7, hold_back=False):
            for students, batches in zip(self.students, visit_batches(ranges, len(log), router, 5), strict=True):
                students.apply([decode(encode(batch)) for batch in batches])

    def grow(self, partitions: int) -> None:
        """Divide the students among more partitions, through the stored form of everything."""
        stored = [position.unpack(position.pack(students.position), 0) for students in self.students]
        assert growth.is_even(stored)
        tables: list[dict[bytes, bytes]] = [{} for _ in range(partitions)]
        for students in self.students:
            target = growth.divide(students.records, partitions).tolist()
            for (key, record), to in zip(students.records.items(), target, strict=True):
                tables[to][key] = record
        counts = np.array([len(table) for table in tables])
        merged = growth.with_students(growth.merge(stored), counts)
        self.students = [Students(p, table) for p, table in zip(merged, tables, strict=True)]

    def activities(self) -> dict[bytes, int]:
        """Return the number of events of each student."""
        records = [item for students in self.students for item in students.records.items()]
        totals, _ = state.unpack([record for _, record in records])
        return dict(zip([key for key, _ in records], totals.activities.tolist(), strict=True))


@st.composite
def logs(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """Source partitions, at least two, of (student, epoch ms) in time order."""
    row = st.tuples(st.integers(1, 40), st.integers(0, 40))
    parts = draw(st.lists(st.lists(row, max_size=30), min_size=2, max_size=5))
    minutes = [np.cumsum([m for _, m in rows], dtype=int).tolist() for rows in parts]
    return [
        [(student, at * MINUTE) for (student, _), at in zip(rows, ats, strict=True)]
        for rows, ats in zip(parts, minutes, strict=True)
    ]


@given(logs(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.data())
@settings(max_examples=examples(150))
def test_what_is_read_before_and_after_growing_counts_once(log, partitions, added, more, data):
    """Grown twice, with some of each source partition read in between, a part of it twice; the source grows too."""
    known = log[:-1]
    first = [data.draw(st.integers(0, len(rows))) for rows in known]
    again = [data.draw(st.integers(0, end)) for end in first]
    second = [data.draw(st.integers(end, len(rows))) for end, rows in zip(first, known, strict=True)]
    deployment = Deployment(partitions, len(known))
    deployment.read(known, [0] * len(known), first)
    deployment.grow(partitions + added)
    deployment.read(known, again, second)
    deployment.grow(partitions + added + more)
    deployment.read(log, [*second, 0], [len(rows) for rows in log])
    expected = expected_tables([row for rows in log for row in rows]).totals
    assert deployment.activities() == {key: json.loads(row)["ACTIVITIES"] for key, (row, _) in expected.items()}
    for number, students in enumerate(deployment.students):
        assert students.position.students == len(students.records)
        assert (growth.divide(students.records, len(deployment.students)) == number).all()
        assert students.position.offsets.tolist() == [len(rows) for rows in log]


def positions(*offsets: list[int], partitions: int | None = None) -> list[Position]:
    """Return the positions of partitions with these source offsets."""
    n = len(offsets) if partitions is None else partitions
    return [replace(Position.start(len(o)), offsets=np.array(o), partitions=n) for o in offsets]


def test_positions_are_even_if_all_state_it_and_have_the_same_offsets():
    assert growth.is_even(positions([3, 4], [3, 4]))
    assert not growth.is_even(positions([3, 4], [3, 5]))
    assert not growth.is_even(positions([3, 4], [3]))
    assert not growth.is_even(positions([3, 4], [3, 4], partitions=0))  # written before positions stated it
    assert not growth.is_even(positions([3, 4], partitions=2))


def test_a_merged_position_is_the_furthest_and_is_confirmed_by_all():
    first, second = positions([3, 4], [3, 4])
    first = replace(first, watermarks=Watermarks(np.array([5, 9]), np.array([True, False]), np.array([7, 7]), 5))
    second = replace(
        second,
        watermarks=Watermarks(np.array([6, 8]), np.array([False, False]), np.array([9, 6]), 8),
        after_corrupt=np.array([True, False]),
    )
    merged = growth.merge([first, second])
    assert merged.offsets.tolist() == [3, 4]
    assert merged.watermarks.at.tolist() == [6, 9]
    assert merged.watermarks.confirmed.tolist() == [7, 6]
    assert merged.watermarks.stream_time == 8
    assert merged.watermarks.lagging.all()
    assert not merged.after_corrupt.any()


def test_ticks_are_even_if_all_partitions_have_scored_the_same_day():
    same = [Ticks(5, 5), Ticks(5, 5)]
    assert growth.are_even(same)
    assert growth.are_even([None, None])
    assert not growth.are_even([Ticks(5, 5), Ticks(6, 6)])
    assert not growth.are_even([Ticks(5, 5), None])
    assert not growth.are_even([Ticks(6, 5), Ticks(6, 5)])  # sums are written that nobody has scored yet
    assert growth.merge_ticks(same) == Ticks(5, 5)
    assert growth.merge_ticks([None, Ticks(5, 4), Ticks(4, 4)]) == Ticks(5, 5)  # the risk has been switched off
    assert growth.merge_ticks([None]) is None


def test_activity_moves_with_its_student():
    """A record of activity goes where the record of sessions goes; neither is taken for the other."""
    students = np.arange(-3, 300)
    texts = keys_of(students, np.zeros(len(students), np.bool_))
    assert (growth.divide(activity_records.keys_of(students), 7) == growth.divide(texts, 7)).all()
    assert all(map(is_student, [*texts, b"null"]))
    assert (growth.divide(early_events.keys_of(students), 7) == growth.divide(texts, 7)).all()
    others = [
        *activity_records.keys_of(students),
        *early_events.keys_of(students),
        *log_ids.keys_of(students),
        *OF_PARTITION,
    ]
    assert not any(map(is_student, others))


def test_visit_batches_for_another_number_of_partitions_are_dropped():
    """A worker that was suspended while the app grew divides the students as they were divided then."""
    (before,) = positions([0], partitions=5)
    visits = Visits(np.array([7]), np.array([False]), np.array([MINUTE]), np.array([0]))
    batches = [VisitBatch(1, [SourceRange(0, -1, 1, MINUTE, False, visits)], partitions=n) for n in (2, 5, 5)]
    new = drop_applied(before, batches)
    assert (new.outdated, len(new.visits), new.repeated, new.position.partitions) == (1, 1, 1, 5)


@pytest.mark.parametrize("stated", [0, 3])
def test_a_position_states_among_how_many_partitions_the_students_are_divided(stated):
    """Positions of layout 2 do not: then it is the partitions that have one."""
    records: list[bytes | None] = [position.pack(p) for p in positions([1], [1], [1], partitions=stated)]
    assert divided_by([]) == divided_by([None, None]) == 0
    assert divided_by(records) == divided_by([*records, None, None]) == 3
    assert unfinished_growth("t", records) is None
    assert (unfinished_growth("t", [*records, None]) is None) == (stated == 0)


def test_a_worker_is_led_to_grow_and_never_to_delete():
    (told,) = {unfinished_growth("t", [position.pack(p), None]) for p in positions([1], partitions=1)}
    assert told == (
        "topic t has 2 partitions, and its students are divided among 1: growing was interrupted; stop all workers, "
        "then run faust -A app grow --partitions 2"
    )
    existing = {NAMES.source: 3, NAMES.visits: 4}
    internal = topics.internal_partitions(NAMES, existing)
    assert internal == {NAMES.visits: 4, NAMES.students_changelog: 4}
    assert topics.internal_partitions(NAMES, {NAMES.source: 3}) == dict.fromkeys(internal, 3)
    assert topics.unfinished_growth(internal) is None
    grown = topics.unfinished_growth({NAMES.visits: 4, NAMES.students_changelog: 2})
    assert grown is not None
    assert "--partitions 4" in grown


async def test_a_changelog_that_cannot_be_read_is_not_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing of the state would be lost without a word."""
    chunk = Chunk("app-students-changelog", 2, [], [], [], 0, 9, 9, refused=(RefusedRange(4, 9, "too large"),))
    tp = TopicPartition(chunk.topic, chunk.partition)

    async def read(*_: object) -> list[Chunk]:
        return [chunk]

    consumer = AsyncMock(assign=Mock(), end_offsets=AsyncMock(return_value={tp: 9}))
    consumer.position.return_value = 0
    monkeypatch.setattr(grow, "read_chunks", read)
    monkeypatch.setattr(grow, "new_consumer", lambda *_, **__: consumer)
    with pytest.raises(ConfigError, match=r"changelog partition 2: .* at offset 4 cannot be read .* nothing has been"):
        await grow.read_state(Settings(app_id="app"), chunk.topic, chunk.partition)
    consumer.stop.assert_awaited()


async def test_a_position_that_cannot_be_read_ends_grow_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> bool:
        return position.unpack(b"damaged", 1) is None

    monkeypatch.setattr(grow, "connect", AsyncMock())
    monkeypatch.setattr(grow, "wait_until_idle", AsyncMock())
    monkeypatch.setattr(grow, "locked", lambda _: nullcontext())
    monkeypatch.setattr(grow, "_try_to_grow", fail)
    line = r"^topic app-students-changelog: a position record is damaged: it has 7 bytes; nothing has been moved: "
    with pytest.raises(ConfigError, match=line):
        await grow.grow(Settings(app_id="app"), 4, AsyncMock(), Mock())
