"""The process agent applies deliveries that have arrived together in one flush, without changing the result."""

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
from tests.support.effort import examples
from tests.test_pipeline import NOW, SETTINGS, new_driver
from tools.test_driver import TopologyTestDriver

#: visits of a visit batch, as (student, ms since the previous visit)
VISIT_BATCH = st.lists(st.tuples(st.integers(1, 4), st.integers(-400_000, 1_200_000)), max_size=4)
#: visit batches of each chunk
CHUNKS = st.lists(st.lists(VISIT_BATCH, max_size=4), min_size=1, max_size=7)


def chunks_of(log: list[list[list[tuple[int, int]]]]) -> list[Chunk]:
    """Chunks of the visits topic with contiguous visit batches."""
    chunks, offset, at, start = [], 0, NOW, 0
    for visit_batches in log:
        values = []
        for visits in visit_batches:
            n = len(visits)
            ats = np.cumsum([at, *(since for _, since in visits)])[1:]
            at = int(ats[-1]) if n else at
            columns = (np.array([s for s, _ in visits], np.int64), np.zeros(n, np.bool_), ats)
            encoded = Visits(*columns, np.arange(offset, offset + n))
            watermark = int(ats.max(initial=-1))
            values.append(encode(VisitBatch(1, [SourceRange(0, offset, offset + n, watermark, False, encoded)])))
            offset += n
        # each chunk is followed by a transaction marker
        end = start + len(values) + 1
        chunks.append(Chunk("visits", 0, range(start, end - 1), [None] * len(values), values, start, end, end))
        start = end
    return chunks


def source_end(chunk: Chunk) -> int:
    """Return the source offset after the chunk's last visit batch; -1 if it has none."""
    return decode(chunk.values[-1] or b"").ranges[-1].end if len(chunk) else -1


async def run_process(m: TopologyTestDriver, deliveries: Sequence[Delivery]) -> list[tuple[str, Any]]:
    """Run the agent over `deliveries`. Returns its steps: flushes with their source offset, and processed chunks."""
    steps: list[tuple[str, Any]] = []
    original = m.students(0).flush

    async def flush(rows: Any, records: Any, position: Any, *more: Any, **risk: Any) -> bool:
        steps.append(("flush", int(position.offsets[0])))
        return await original(rows, records, position, *more)

    async def processed(chunk: Chunk) -> None:
        steps.append(("done", chunk))

    async def stream() -> AsyncIterator[Delivery]:
        for delivery in deliveries:
            yield delivery

    m.students(0).flush = flush  # type: ignore[method-assign]
    m.processed = processed  # type: ignore[method-assign]
    await m.pipeline.process.run(stream())
    return steps


def deliveries(chunks: Sequence[Chunk], has_next: Sequence[bool], generation: int = 1) -> list[Delivery]:
    return [Delivery(c, generation, frozenset({0}), more) for c, more in zip(chunks, has_next, strict=True)]


def draw_has_next(data: st.DataObject, n: int) -> list[bool]:
    """Draw for each delivery whether the next one has already arrived; false for the last."""
    return [*data.draw(st.lists(st.booleans(), min_size=n - 1, max_size=n - 1)), False]


@given(CHUNKS, st.integers(1, 12), st.data())
@settings(max_examples=examples(100))
async def test_grouping_deliveries_does_not_change_the_output(log, batch_rows, data):
    """Any grouping gives the same revisions in the same order, and the same final state and position."""
    chunks = chunks_of(log)
    changes = dataclasses.replace(SETTINGS, emit="changes", batch_rows=batch_rows)
    alone, together = new_driver(dataclasses.replace(changes, batch_rows=10_000)), new_driver(changes)
    await run_process(alone, deliveries(chunks, [False] * len(chunks)))
    await run_process(together, deliveries(chunks, draw_has_next(data, len(chunks))))
    assert together.topics == alone.topics
    assert together.students(0).records == alone.students(0).records
    assert together.students(0).position.offsets.tolist() == alone.students(0).position.offsets.tolist()
    assert together.metrics["visits"] == sum(len(visits) for visit_batches in log for visits in visit_batches)
    assert together.metrics["repeated"] == together.metrics["detached_slices"] == 0


@given(CHUNKS, st.integers(1, 12), st.data())
@settings(max_examples=examples(100))
async def test_a_chunk_is_processed_once_and_after_the_flush_of_its_last_visit_batch(log, batch_rows, data):
    """Chunks are processed in log order. One committed too early is lost in a crash; one never committed blocks all."""
    chunks = chunks_of(log)
    has_next = draw_has_next(data, len(chunks))
    m = new_driver(dataclasses.replace(SETTINGS, batch_rows=batch_rows))
    steps = await run_process(m, deliveries(chunks, has_next))
    assert [value for step, value in steps if step == "done"] == chunks
    applied = -1
    for step, value in steps:
        if step == "flush":
            applied = value
        else:
            assert applied >= source_end(value)
    # a delivery with nothing after it is flushed at once
    flushes = sum(step == "flush" for step, _ in steps)
    assert flushes >= has_next.count(False)
    assert flushes <= len(chunks) + sum(len(visits) for visit_batches in log for visits in visit_batches)


@given(CHUNKS, st.integers(0, 6), st.data())
@settings(max_examples=examples(100))
async def test_unflushed_deliveries_of_an_older_generation_are_dropped(log, dropped, data):
    """The new owner reads them again: they count once, and are not marked processed for the old assignment."""
    chunks = chunks_of(log)
    cut = min(dropped, len(chunks))
    m = new_driver()
    old = deliveries(chunks[:cut], [True] * cut)
    new = deliveries(chunks, draw_has_next(data, len(chunks)), generation=2)
    steps = await run_process(m, [*old, *new])
    assert [value for step, value in steps if step == "done"] == chunks
    assert m.metrics["visits"] == sum(len(visits) for visit_batches in log for visits in visit_batches)
    assert m.metrics["repeated"] == 0
    counted = {key: int(state.unpack([record])[0].activities[0]) for key, record in m.students(0).records.items()}
    wanted: dict[bytes, int] = {}
    for student, _ in (visit for visit_batches in log for visit_batch in visit_batches for visit in visit_batch):
        wanted[b"%d" % student] = wanted.get(b"%d" % student, 0) + 1
    assert counted == wanted


async def test_visit_batches_of_different_generations_are_not_flushed_together():
    """The position may differ after a rebalance: visits of the old assignment must not reach the new state."""
    first, again = chunks_of([[[(1, 0)]]]), chunks_of([[[(1, 0)], [(2, 5)]]])
    m = new_driver()
    steps = await run_process(m, [*deliveries(first, [True]), *deliveries(again, [False], generation=2)])
    assert steps == [("flush", 2), ("done", again[0])]
    assert m.metrics["repeated"] == 0
