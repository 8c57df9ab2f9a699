"""How long events of the source topic wait for company: RISK_LINGER_MS."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from aiokafka.structs import TopicPartition

from app.kafka.linger import Linger
from models.chunk import Chunk

SOURCE, PREDICTION = "log", "prediction"
PARTITIONS = [TopicPartition(SOURCE, 0), TopicPartition(SOURCE, 1), TopicPartition(PREDICTION, 0)]


class Broker:
    """Stands in for the fetcher: remembers what is held, and has answered when `answer` was called."""

    def __init__(self) -> None:
        self.now = 100.0
        self.held: set[str] = set()
        self.until = 0.0
        self.answered = False

    def hold(self, partitions: Collection[TopicPartition], until: float) -> None:
        self.held, self.until, self.answered = {tp.topic for tp in partitions}, until, False

    def release(self) -> None:
        self.held = set()

    def has_answer(self) -> bool:
        return self.answered


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def linger(broker: Broker) -> Linger:
    return reading(broker, 0.1)


def reading(broker: Broker, seconds: float) -> Linger:
    linger = Linger(SOURCE, PREDICTION, seconds, clock=lambda: broker.now)
    linger.begin(1, broker)
    return linger


def events(partition: int, start: int, count: int = 1, *, topic: str = SOURCE, behind: int = 0) -> Chunk:
    values = [b"x"] * count
    next_offset = start + count
    offsets = list(range(start, next_offset))
    return Chunk(topic, partition, offsets, values, values, start, next_offset, next_offset + behind)


def read(linger: Linger, broker: Broker, *chunks: Chunk, generation: int = 1) -> list[tuple[str, int, int, int]]:
    """Topic, partition, begin and end of what a read that brings `chunks` returns."""
    due = linger.apply(chunks, generation, PARTITIONS, broker)
    return [(chunk.topic, chunk.partition, chunk.start, chunk.next_offset) for chunk in due]


def test_events_wait_and_what_comes_meanwhile_goes_with_them(linger: Linger, broker: Broker) -> None:
    assert read(linger, broker, events(0, 5)) == []
    assert (broker.held, broker.until) == ({SOURCE, PREDICTION}, 100.1)
    broker.now, broker.answered = 100.101, True
    assert linger.is_over(broker)
    assert read(linger, broker, events(0, 6), events(1, 0)) == [(SOURCE, 0, 5, 7), (SOURCE, 1, 0, 1)]
    assert SOURCE not in broker.held


def test_predictions_wait_for_those_of_other_partitions(linger: Linger, broker: Broker) -> None:
    read(linger, broker, events(0, 5))
    broker.now, broker.answered = 100.1, True
    read(linger, broker)
    assert (broker.held, broker.until) == ({PREDICTION}, pytest.approx(100.2))
    assert read(linger, broker) == []
    broker.now, broker.answered = 100.2, True
    assert read(linger, broker, events(0, 0, topic=PREDICTION)) == [(PREDICTION, 0, 0, 1)]
    assert broker.held == set()


def test_an_event_waits_no_longer_than_the_setting_says(linger: Linger, broker: Broker) -> None:
    """Also if the broker does not answer."""
    read(linger, broker, events(0, 5))
    broker.now = 100.12
    assert not linger.is_over(broker)
    assert read(linger, broker) == []
    assert linger.longest_read(0.5) == pytest.approx(0.03)
    broker.now = 100.151
    assert read(linger, broker) == [(SOURCE, 0, 5, 6)]
    broker.now = 100.31
    assert read(linger, broker) == []
    assert linger.longest_read(0.5) == 0.5


def test_other_topics_do_not_wait(linger: Linger, broker: Broker) -> None:
    read(linger, broker, events(0, 5))
    assert read(linger, broker, events(3, 7, topic="visits")) == [("visits", 3, 7, 8)]


def test_many_events_are_followed_by_the_next_wait_at_once(linger: Linger, broker: Broker) -> None:
    """Without a request for the first of them."""
    read(linger, broker, events(0, 5))
    broker.now, broker.answered = 100.1, True
    assert read(linger, broker, events(1, 0, 4)) == [(SOURCE, 0, 5, 6), (SOURCE, 1, 0, 4)]
    assert (broker.held, broker.until) == ({SOURCE, PREDICTION}, pytest.approx(100.2))
    broker.now, broker.answered = 100.2, True
    assert read(linger, broker) == []
    assert broker.held == {PREDICTION}


@pytest.mark.parametrize("waiting", [False, True])
def test_a_backlog_does_not_wait(linger: Linger, broker: Broker, waiting: bool) -> None:
    if waiting:
        read(linger, broker, events(1, 3))
    due = read(linger, broker, events(0, 5, 10, behind=1))
    assert due == [(SOURCE, 1, 3, 4)] * waiting + [(SOURCE, 0, 5, 15)]
    assert broker.held == set()


def test_a_position_without_events_does_not_wait(linger: Linger, broker: Broker) -> None:
    assert read(linger, broker, events(0, 5, 0)) == [(SOURCE, 0, 5, 5)]
    assert broker.held == set()


def test_each_read_brings_one_chunk_of_a_partition(linger: Linger, broker: Broker) -> None:
    """The next one must begin where the one before it was delivered."""
    read(linger, broker, events(0, 5))
    broker.now, broker.answered = 100.1, True
    assert read(linger, broker, events(0, 6, 300)) == [(SOURCE, 0, 5, 6)]
    assert linger.longest_read(0.5) == 0.0
    assert read(linger, broker) == [(SOURCE, 0, 6, 306)]


def test_events_of_an_earlier_generation_are_dropped(linger: Linger, broker: Broker) -> None:
    """They are fetched again by whoever owns their partition now."""
    read(linger, broker, events(0, 5))
    linger.begin(2, broker)
    assert broker.held == set()
    broker.now = 101.0
    assert read(linger, broker, generation=2) == []
    assert read(linger, broker, events(0, 9), generation=1) == [(SOURCE, 0, 9, 10)]  # dropped by the driver


def test_without_the_setting_nothing_waits(broker: Broker) -> None:
    linger = reading(broker, 0.0)
    assert read(linger, broker, events(0, 5)) == [(SOURCE, 0, 5, 6)]
    assert broker.held == set()
