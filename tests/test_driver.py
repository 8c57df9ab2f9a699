"""The consumer delivers chunks after its seek, in order, without a hole, and none that a queue would lose."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from app.errors import PartitionsChanged
from app.kafka.confirmations import CONFIRM_EVERY_MS
from app.kafka.delivery import with_has_next
from app.kafka.end_polls import EndPolls
from app.kafka.queue import FULL_BYTES, QueuedChunk
from app.kafka.source_progress import SourceProgress
from app.topology import declare
from models.chunk import Chunk
from tests.support.consumer import CHANGELOG, SETTINGS, SOURCE, SOURCE_1, Worker, chunk, until


def offsets(chunks: Iterable[QueuedChunk]) -> list[tuple[int, int]]:
    """Return begin and end of each chunk."""
    return [(queued.chunk.start, queued.chunk.next_offset) for queued in chunks]


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(monkeypatch)


@pytest.fixture
async def reading(worker: Worker) -> Worker:
    """A worker that has delivered the position of source partition 0 after its seek."""
    await worker.assign(SOURCE)
    await worker.read()
    worker.take()
    return worker


async def test_after_a_seek_agents_receive_each_partitions_position(worker: Worker) -> None:
    await worker.assign(SOURCE)
    await worker.read(large(chunk(SOURCE, 10, 12, 10, 11)))
    assert offsets(worker.take()) == [(10, 10), (10, 12)]


async def test_chunks_fetched_before_a_seek_are_dropped(reading: Worker) -> None:
    """They are fetched again; delivered twice, only the position would prevent counting them twice."""
    await reading.read(chunk(SOURCE, 5, 11, 5, 10), chunk(SOURCE, 10, 12, 10, 11))
    assert offsets(reading.take()) == [(10, 12)]
    assert reading.thread.sought == []


def test_an_idle_worker_waits_for_end_offsets() -> None:
    """A worker that has read everything thus notices, too, that the broker is down."""
    progress = SourceProgress()
    progress.begin({SOURCE: 10}, {SOURCE: 10})
    description, mark = progress.backlog()
    assert description == "Kafka has not answered with the topics' end offsets"
    progress.update_ends({SOURCE: 10})
    assert progress.backlog() != (description, mark)


async def test_while_nothing_happens_every_fourth_poll_asks_for_end_offsets(reading: Worker) -> None:
    progress = SourceProgress()
    progress.begin({SOURCE: 10}, {SOURCE: 30})
    polls = EndPolls(reading.consumer, progress)
    for _ in range(9):
        await polls.poll()
    assert progress.end_offset_polls == 3
    progress.advance(SOURCE, chunk(SOURCE, 10, 12))
    await polls.poll()
    assert progress.end_offset_polls == 4
    reading.app.consumer_generation_id += 1  # no seek yet
    await polls.poll()
    assert progress.end_offset_polls == 4


async def test_after_a_hole_the_partition_is_read_again(reading: Worker) -> None:
    """The missing records exist, for the topic begins at 3, so they must be read."""
    fetches = (chunk(SOURCE, 10, 12, 10, 11), chunk(SOURCE, 15, 16, 15), large(chunk(SOURCE, 12, 16, 12, 15)))
    await reading.read(*fetches)
    assert offsets(reading.take()) == [(10, 12), (12, 16)]
    assert reading.thread.sought == [(SOURCE, 12)]


def test_all_chunks_of_a_topic_but_the_last_have_a_next_one() -> None:
    fetched = [chunk(SOURCE, 0, 1), chunk(CHANGELOG, 7, 8), chunk(SOURCE_1, 5, 6)]
    queued = [(q.chunk.topic, q.chunk.partition, q.has_next) for q in with_has_next(fetched)]
    assert queued == [(SOURCE.topic, 0, True), (SOURCE.topic, 1, False), (CHANGELOG.topic, 0, False)]
    assert with_has_next([]) == []


async def test_has_next_does_not_count_chunks_that_are_dropped(worker: Worker) -> None:
    """An agent waits for the next chunk: one from before a seek never comes, and the topic may be quiet."""
    await worker.assign(SOURCE, SOURCE_1)
    await worker.read()
    worker.take()
    await worker.read([chunk(SOURCE, 10, 12, 10, 11), chunk(SOURCE_1, 3, 5, 3)])
    assert [(q.chunk.partition, q.chunk.next_offset, q.has_next) for q in worker.take()] == [(0, 12, False)]


async def test_has_next_counts_chunks_of_other_partitions(worker: Worker) -> None:
    await worker.assign(SOURCE, SOURCE_1)
    await worker.read()
    worker.take()
    await worker.read([chunk(SOURCE, 10, 13, 12), chunk(SOURCE_1, 0, 5, 3)])
    assert [(q.chunk.partition, q.has_next) for q in worker.take()] == [(0, True), (1, False)]


async def test_before_this_generations_seek_only_changelogs_are_fetched(reading: Worker) -> None:
    """The seek of another generation says nothing about what is committed now."""
    reading.app.consumer_generation_id += 1
    reading.thread.requested.clear()
    await reading.read()
    assert set(map(frozenset, reading.thread.requested)) == {frozenset({CHANGELOG})}


async def test_the_next_fetch_is_made_while_a_chunk_waits_for_its_queue(reading: Worker) -> None:
    """An agent whose queue is full must not idle the consumer's thread."""
    fill(reading.queue)
    requests = len(reading.thread.requested)
    reading.thread.fetches = [[chunk(SOURCE, 10, 11, 10)], [chunk(SOURCE, 11, 12, 11)]]
    async with reading.reading():
        await until(lambda: not reading.thread.fetches)
        await asyncio.sleep(0.01)
        assert len(reading.thread.requested) == requests + 2
        assert reading.queue.full()


async def test_a_chunk_that_waits_for_its_queue_is_dropped_when_flow_is_suspended(reading: Worker) -> None:
    """A rebalance must not wait for an agent whose queue is full."""
    fill(reading.queue)
    reading.thread.fetches = [[chunk(SOURCE, 10, 12, 10, 11)]]
    async with reading.reading():
        await until(lambda: not reading.thread.fetches)
        await asyncio.sleep(0.01)
        reading.consumer.stop_flow()
        await asyncio.sleep(0.01)
        reading.queue.clear()
        reading.consumer.resume_flow()
        requests = len(reading.thread.requested)
        await until(lambda: len(reading.thread.requested) > requests)  # the consumer no longer waits
        assert reading.waiting() == []


async def test_after_a_hole_nothing_is_fetched_before_the_seek(reading: Worker) -> None:
    """A fetch already in progress would be behind the hole again, which would cause another seek, and so on."""
    seeks: list[int] = []

    async def chunks(*_: object) -> Sequence[Chunk]:
        seeks.append(len(reading.thread.sought))
        await asyncio.sleep(0.001)
        return [chunk(SOURCE, 15, 16, 15)]

    reading.thread.chunks = chunks  # type: ignore[assignment, method-assign]
    async with reading.reading():
        await until(lambda: len(seeks) >= 3)
    assert seeks[:3] == [0, 1, 2]


async def test_a_changelog_message_has_the_offset_before_the_next_chunk(reading: Worker) -> None:
    """Recovery waits for the offset before the end: a control marker's, or one whose record compaction removed."""
    await reading.read(chunk(CHANGELOG, 0, 9, 2, 4))
    assert reading.changelog.get_nowait().message.offset == 8


async def test_resuming_active_flow_clears_no_queue() -> None:
    """Faust resumes twice, and clears what was delivered in between: a chunk that is never processed."""
    app = declare(SETTINGS)
    queue: Any = app.FlowControlQueue(maxsize=4, clear_on_resume=True)
    app.flow_control.resume()
    queue.put_nowait("a chunk")
    app.flow_control.resume()
    assert queue.qsize() == 1
    app.flow_control.suspend()
    app.flow_control.resume()
    assert queue.qsize() == 0


async def test_former_owners_are_fenced_before_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery begins when every table's `on_rebalance` has returned: by then the producers have started."""
    app: Any = declare(SETTINGS)
    students = app.tables["students"]
    monkeypatch.setattr(app.assignor, "assigned_actives", lambda: {CHANGELOG, TP("other-changelog", 3)})
    steps: list[str] = []

    async def own(partitions: set[int], generation: int) -> None:
        steps.append(f"fencing {partitions} of generation {generation}")
        await asyncio.sleep(0)
        steps.append("fenced")

    students.on_owned = own
    await students.on_rebalance({CHANGELOG}, set(), {CHANGELOG}, 7)
    assert steps == ["fencing {0} of generation 7", "fenced"]


async def test_a_rebalance_during_recovery_does_not_end_the_worker(worker: Worker) -> None:
    """Faust seeks a partition whose offset it has not looked up yet: it was assigned in the meantime."""
    recovery: Any = worker.app.tables.recovery
    later = TP(CHANGELOG.topic, 1)
    known = {CHANGELOG: 7, later: None}
    await recovery._seek_offsets(worker.consumer, known.keys(), known, "active")  # noqa: SLF001
    assert worker.thread.sought_together == {CHANGELOG: 7}


async def test_paused_partitions_are_not_fetched(reading: Worker) -> None:
    """They do not count as backlog either, since they wait for another partition."""
    assert reading.consumer.backlog()[0] == f"20 records of topic {SOURCE.topic} partition 0 wait"
    reading.consumer.pause(SOURCE.topic, 0)
    assert reading.consumer.backlog()[0] == "Kafka has not answered with the topics' end offsets"
    await reading.read()
    assert reading.thread.requested[-1] == {CHANGELOG}
    reading.consumer.resume(SOURCE.topic, 0)
    await reading.read()
    assert reading.thread.requested[-1] == {SOURCE, CHANGELOG}


async def test_small_chunks_that_wait_for_their_agent_are_merged(worker: Worker) -> None:
    await worker.assign(SOURCE, SOURCE_1)
    await worker.read()
    for position in worker.take():
        worker.consumer.processed(position.chunk)
    await worker.read(
        [chunk(SOURCE, 10, 12, 10, 11), chunk(SOURCE_1, 0, 1, 0)],
        [chunk(SOURCE, 12, 14, 13), chunk(SOURCE_1, 1, 2, 1)],
        [chunk(SOURCE, 14, 16)],
    )
    assert [(q.chunk.partition, q.chunk.start, q.chunk.next_offset, q.chunk.offsets) for q in worker.waiting()] == [
        (0, 10, 16, [10, 11, 13]),
        (1, 0, 2, [0, 1]),
    ]
    assert all(event.message.value is event.value for event in worker.events())
    # the merged chunk counts as processed as a whole
    assert worker.consumer.lags() == {(SOURCE.topic, 0): 20, (SOURCE.topic, 1): 30}
    worker.consumer.processed(worker.take()[0].chunk)
    assert worker.consumer.lags() == {(SOURCE.topic, 0): 14, (SOURCE.topic, 1): 30}


async def test_has_next_does_not_count_a_chunk_that_was_merged(worker: Worker) -> None:
    """`has_next` promises another event: a chunk merged into an earlier event has none."""
    await worker.assign(SOURCE, SOURCE_1)
    await worker.read()
    worker.take()
    await worker.read([chunk(SOURCE_1, 0, 1, 0)], [chunk(SOURCE, 10, 12, 10, 11), chunk(SOURCE_1, 1, 2, 1)])
    assert [(q.chunk.partition, q.has_next) for q in worker.waiting()] == [(1, False), (0, False)]


@pytest.mark.parametrize("why", ["large", "taken", "other generation", "after a hole"])
async def test_chunks_that_are_not_merged(why: str, reading: Worker) -> None:
    await reading.read(chunk(SOURCE, 10, 12, 10, 11))
    later = chunk(SOURCE, 12, 13, 12)
    if why == "large":
        later = large(later)
    elif why == "taken":
        reading.take()
    elif why == "other generation":
        reading.events()[0].message.generation_id -= 1
    else:
        later = chunk(SOURCE, 13, 14, 13)
        reading.thread.earliest = {SOURCE: 13}
    before = len(reading.waiting())
    await reading.read(later)
    assert [q.chunk.next_offset for q in reading.waiting()][before:] == [later.next_offset]


def large(small: Chunk) -> Chunk:
    """The chunk, too large to be merged."""
    return dataclasses.replace(small, nbytes=FULL_BYTES)


def fill(queue: Any) -> None:
    """Fill an agent's queue with chunks of another partition."""
    while not queue.full():
        value = QueuedChunk(large(chunk(SOURCE_1, 0, 1)))
        queue.put_nowait(SimpleNamespace(value=value, message=SimpleNamespace(tp=SOURCE_1, generation_id=0)))


async def test_a_topic_that_must_not_grow_ends_the_worker_before_it_reads(worker: Worker) -> None:
    """The students of an internal topic are divided among the partitions it had when the worker started."""
    worker.consumer.fixed_partitions = {SOURCE.topic: 2}
    await worker.assign(SOURCE)
    assert worker.consumer.partitions(SOURCE.topic) == 2
    worker.thread.partitions = 3
    with pytest.raises(PartitionsChanged, match="has 3 partitions, and had 2 when this worker started: start it again"):
        await worker.assign(SOURCE)


async def test_nothing_is_confirmed_while_a_source_partition_is_unknown(worker: Worker) -> None:
    """Stream time must not run away from a new partition that nobody reads yet."""
    worker.consumer.source_topic = SOURCE.topic
    await worker.assign(SOURCE)
    progress = SourceProgress()
    progress.begin({SOURCE: 10}, {SOURCE: 30})
    polls = EndPolls(worker.consumer, progress)
    for partitions, has_grown in ((2, False), (3, True)):
        worker.thread.partitions = partitions
        assert await polls.source_has_grown(CONFIRM_EVERY_MS * 2) == has_grown
    assert not await polls.source_has_grown(-1)  # nothing is due: nobody is asked


async def test_a_partition_may_be_left_unread(reading: Worker) -> None:
    """A draining worker reads only what it must."""
    reading.consumer.may_fetch = lambda tp: tp != SOURCE
    await reading.read(chunk(CHANGELOG, 0, 2))
    assert all(SOURCE not in requested for requested in reading.thread.requested[-2:])
    assert reading.consumer.next_offset(SOURCE) == 10
