"""Deliveries that have arrived together are applied together: with the same outcome, and each counts once."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.ports import Delivery
from models import state
from models.chunk import Chunk
from models.visit_batch import SourceRange, VisitBatch, decode, encode
from models.visits import Visits
from tests.test_pipeline import NOW, SETTINGS, memory
from tools.test_driver import TopologyTestDriver

#: visits in a frame, as (student, ms since the one before); frames in a chunk
FRAME = st.lists(st.tuples(st.integers(1, 4), st.integers(-400_000, 1_200_000)), max_size=4)
CHUNKS = st.lists(st.lists(FRAME, max_size=4), min_size=1, max_size=7)


def chunks_of(log: list[list[list[tuple[int, int]]]]) -> list[Chunk]:
    """Chunks of the visits topic whose frames join."""
    chunks, offset, at, place = [], 0, NOW, 0
    for some in log:
        values = []
        for visits in some:
            n = len(visits)
            ats = np.cumsum([at, *(since for _, since in visits)])[1:]
            at = int(ats[-1]) if n else at
            columns = (np.array([s for s, _ in visits], np.int64), np.zeros(n, np.bool_), ats)
            whole = Visits(*columns, np.arange(offset, offset + n))
            watermark = int(ats.max(initial=-1))
            values.append(encode(VisitBatch(1, [SourceRange(0, offset, offset + n, watermark, False, whole)])))
            offset += n
        # a transaction's marker stands behind each chunk
        end = place + len(values) + 1
        chunks.append(Chunk("visits", 0, range(place, end - 1), [None] * len(values), values, place, end, end))
        place = end
    return chunks


def reach(chunk: Chunk) -> int:
    """The source offset behind the chunk's last frame; -1 if it has none."""
    return decode(chunk.values[-1] or b"").ranges[-1].end if len(chunk) else -1


async def given_to(m: TopologyTestDriver, deliveries: Sequence[Delivery]) -> list[tuple[str, Any]]:
    """Run the streams over `deliveries`; what happened: a flush with its front's position, a chunk that counts."""
    steps: list[tuple[str, Any]] = []
    flushed = m.students(0).flush

    async def flush(rows: Any, records: Any, position: Any, hot: Any) -> bool:
        steps.append(("flush", int(position.offsets[0])))
        return await flushed(rows, records, position, hot)

    async def processed(chunk: Chunk) -> None:
        steps.append(("done", chunk))

    async def stream() -> AsyncIterator[Delivery]:
        for one in deliveries:
            yield one

    m.students(0).flush = flush  # type: ignore[method-assign]
    m.processed = processed  # type: ignore[method-assign]
    await m.pipeline.process.run(stream())
    return steps


def deliveries(chunks: Sequence[Chunk], more: Sequence[bool], generation: int = 1) -> list[Delivery]:
    return [Delivery(c, generation, frozenset({0}), m) for c, m in zip(chunks, more, strict=True)]


def some_more(data: st.DataObject, n: int) -> list[bool]:
    """Whether another delivery has arrived already: never behind the last."""
    return [*data.draw(st.lists(st.booleans(), min_size=n - 1, max_size=n - 1)), False]


@given(CHUNKS, st.integers(1, 12), st.data())
@settings(max_examples=100)
async def test_what_has_arrived_together_makes_the_same_of_every_visit(log, batch_rows, data):
    """Every revision in the same order, and the same state and front in the end, however deliveries are merged."""
    chunks = chunks_of(log)
    changes = dataclasses.replace(SETTINGS, emit="changes", batch_rows=batch_rows)
    alone, together = memory(dataclasses.replace(changes, batch_rows=10_000)), memory(changes)
    await given_to(alone, deliveries(chunks, [False] * len(chunks)))
    await given_to(together, deliveries(chunks, some_more(data, len(chunks))))
    assert together.topics == alone.topics
    assert together.students(0).records == alone.students(0).records
    assert together.students(0).position.offsets.tolist() == alone.students(0).position.offsets.tolist()
    assert together.metrics["visits"] == sum(len(f) for some in log for f in some)
    assert together.metrics["repeated"] == together.metrics["detached_slices"] == 0


@given(CHUNKS, st.integers(1, 12), st.data())
@settings(max_examples=100)
async def test_a_chunk_counts_once_and_only_behind_the_flush_of_its_last_frame(log, batch_rows, data):
    """In the order of the log: what is committed earlier is lost with the worker, what never is holds all back."""
    chunks = chunks_of(log)
    more = some_more(data, len(chunks))
    m = memory(dataclasses.replace(SETTINGS, batch_rows=batch_rows))
    steps = await given_to(m, deliveries(chunks, more))
    assert [what for step, what in steps if step == "done"] == chunks
    applied = -1
    for step, what in steps:
        if step == "flush":
            applied = what
        else:
            assert applied >= reach(what)
    # and nothing waits that nothing stands behind
    flushes = sum(step == "flush" for step, _ in steps)
    assert flushes >= more.count(False)
    assert flushes <= len(chunks) + sum(len(f) for some in log for f in some)


@given(CHUNKS, st.integers(0, 6), st.data())
@settings(max_examples=100)
async def test_what_an_older_generation_left_waiting_is_dropped(log, place, data):
    """Whoever owns it now reads it again: it counts once, and not as processed for an assignment that is gone."""
    chunks = chunks_of(log)
    cut = min(place, len(chunks))
    m = memory()
    old = deliveries(chunks[:cut], [True] * cut)
    new = deliveries(chunks, some_more(data, len(chunks)), generation=2)
    steps = await given_to(m, [*old, *new])
    assert [what for step, what in steps if step == "done"] == chunks
    assert m.metrics["visits"] == sum(len(f) for some in log for f in some)
    assert m.metrics["repeated"] == 0
    counted = {key: int(state.unpack([record])[0].activities[0]) for key, record in m.students(0).records.items()}
    wanted: dict[bytes, int] = {}
    for student, _ in (visit for some in log for visit_batch in some for visit in visit_batch):
        wanted[b"%d" % student] = wanted.get(b"%d" % student, 0) + 1
    assert counted == wanted


async def test_frames_of_a_partition_that_moved_on_are_not_flushed_with_another_generations():
    """The new owner may stand elsewhere: what waited under the old assignment is not given to its state."""
    first, again = chunks_of([[[(1, 0)]]]), chunks_of([[[(1, 0)], [(2, 5)]]])
    m = memory()
    steps = await given_to(m, [*deliveries(first, [True]), *deliveries(again, [False], generation=2)])
    assert steps == [("flush", 2), ("done", again[0])]
    assert m.metrics["repeated"] == 0
