"""A source partition is confirmed to be read to its end as of an event time known before the end was asked for."""

from __future__ import annotations

from app.kafka.confirmations import CONFIRM_EVERY_MS, Confirmations
from models.rules import MAX_LEAD_MS
from tests.support.consumer import SOURCE, SOURCE_1, Worker, chunk

DAY = 86_400_000


def test_a_partition_is_confirmed_when_everything_before_its_end_is_delivered() -> None:
    """As of the time at which that end was requested, however late it is reached, and once."""
    confirmations: Confirmations[str] = Confirmations()
    confirmations.note_ends({"a": 10, "b": 5}, DAY)
    assert confirmations.take({"a": 9, "b": 5}) == {"b": DAY}
    confirmations.note_ends({"a": 20, "b": 5}, 2 * DAY)
    assert confirmations.take({"a": 15, "b": 5}) == {"a": DAY, "b": 2 * DAY}
    assert confirmations.take({"a": 15, "b": 5}) == {}
    confirmations.note_ends({"a": 20}, 2 * DAY)
    assert confirmations.take({"a": 20}) == {"a": 2 * DAY}


def test_confirmations_are_repeated_when_event_time_has_advanced() -> None:
    """Often enough that stream time is not held: within its lead."""
    confirmations: Confirmations[str] = Confirmations()
    confirmations.note_ends({"a": 1}, DAY)
    confirmations.take({"a": 1})
    confirmations.note_ends({"a": 1}, DAY + CONFIRM_EVERY_MS - 1)
    assert confirmations.take({"a": 1}) == {}
    confirmations.note_ends({"a": 1}, DAY + CONFIRM_EVERY_MS)
    assert confirmations.take({"a": 1}) == {"a": DAY + CONFIRM_EVERY_MS}
    assert 3 * CONFIRM_EVERY_MS < MAX_LEAD_MS


def test_a_new_assignment_confirms_anew() -> None:
    confirmations: Confirmations[str] = Confirmations()
    confirmations.note_ends({"a": 1, "b": 9}, DAY)
    confirmations.take({"a": 1, "b": 1})
    confirmations.clear()
    assert confirmations.take({"b": 9}) == {}
    confirmations.note_ends({"a": 1}, DAY)
    assert confirmations.take({"a": 1}) == {"a": DAY}


async def test_the_consumer_delivers_a_chunk_without_records_for_each_confirmation(monkeypatch) -> None:
    """After the records before that end; only for partitions of the source topic that are read to their end."""
    worker = Worker(monkeypatch)
    worker.consumer.source_topic = SOURCE.topic
    worker.consumer.newest_event_time = lambda: 7 * DAY
    worker.thread.ends = {SOURCE: 12, SOURCE_1: 30}
    await worker.assign(SOURCE, SOURCE_1)
    await worker.read(chunk(SOURCE, 10, 12, 10, 11), chunk(SOURCE_1, 0, 5, 4))
    chunks = [(q.chunk.partition, len(q.chunk), q.chunk.lagging, q.chunk.as_of) for q in worker.take()]
    confirmed = [c for c in chunks if c[3] != -1]
    assert confirmed == [(0, 0, False, 7 * DAY)] or confirmed == [(0, 2, False, 7 * DAY)]  # merged while it waited
    assert chunks[0][3] == -1
