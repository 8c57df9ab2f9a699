"""How long events of the source topic wait for company: RISK_LINGER_MS."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace

import pytest
from aiokafka.structs import TopicPartition

from app.kafka.linger import Linger
from app.kafka.thread import sends_all_visits
from models.chunk import Chunk

SOURCE, VISITS, PREDICTION = "log", "visits", "prediction"
PARTITIONS = [TopicPartition(topic, p) for topic, p in ((SOURCE, 0), (SOURCE, 1), (VISITS, 0), (PREDICTION, 0))]


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
    linger = Linger(SOURCE, VISITS, PREDICTION, seconds, clock=lambda: broker.now)
    linger.begin(1, broker)
    return linger


def events(partition: int, start: int, count: int = 1, *, topic: str = SOURCE, behind: int = 0) -> Chunk:
    values = [b"x"] * count
    next_offset = start + count
    offsets = list(range(start, next_offset))
    return Chunk(topic, partition, offsets, values, values, start, next_offset, next_offset + behind)


def read(
    linger: Linger, broker: Broker, *chunks: Chunk, generation: int = 1, sends_all_visits: bool = False
) -> list[tuple[str, int, int, int]]:
    """Topic, partition, begin and end of what a read that brings `chunks` returns."""
    due = linger.apply(chunks, generation, PARTITIONS, broker, sends_all_visits=sends_all_visits)
    return [(chunk.topic, chunk.partition, chunk.start, chunk.next_offset) for chunk in due]


def test_events_wait_and_what_comes_meanwhile_goes_with_them(linger: Linger, broker: Broker) -> None:
    assert read(linger, broker, events(0, 5)) == []
    assert (broker.held, broker.until) == ({SOURCE, PREDICTION}, 100.1)
    broker.now, broker.answered = 100.101, True
    assert linger.is_over(broker)
    assert read(linger, broker, events(0, 6), events(1, 0)) == [(SOURCE, 0, 5, 7), (SOURCE, 1, 0, 1)]
    assert SOURCE not in broker.held


def test_predictions_of_several_rounds_go_together(linger: Linger, broker: Broker) -> None:
    assert read(linger, broker, events(0, 0, topic=PREDICTION)) == []
    broker.now = 100.4
    assert read(linger, broker, events(0, 1, topic=PREDICTION)) == []
    assert linger.longest_read(0.5) == pytest.approx(0.1)
    broker.now = 100.5
    assert read(linger, broker) == [(PREDICTION, 0, 0, 2)]
    assert linger.longest_read(0.5) == 0.5


@pytest.mark.parametrize(("seconds", "wait"), [(0.02, 0.1), (0.5, 1.0), (3.0, 3.0)])
def test_predictions_wait_a_second_at_most_or_as_long_as_an_event(broker: Broker, seconds: float, wait: float) -> None:
    linger = reading(broker, seconds)
    read(linger, broker, events(0, 0, topic=PREDICTION))
    assert linger.longest_read(9.0) == pytest.approx(wait)


@pytest.mark.parametrize(("count", "behind"), [(400, 0), (1, 1)])
def test_many_predictions_and_a_backlog_of_them_do_not_wait(
    linger: Linger, broker: Broker, count: int, behind: int
) -> None:
    read(linger, broker, events(0, 0, topic=PREDICTION))
    due = read(linger, broker, events(0, 1, count, topic=PREDICTION, behind=behind))
    assert due == [(PREDICTION, 0, 0, 1 + count)]


def test_visits_are_held_too_where_none_can_come(linger: Linger, broker: Broker) -> None:
    """They are sent by the worker itself, and those of the events so far have come."""
    read(linger, broker, events(0, 5), sends_all_visits=True)
    assert broker.held == {SOURCE, PREDICTION}  # an earlier generation may have sent some
    read(linger, broker, events(0, 0, topic=VISITS), sends_all_visits=True)
    assert (broker.held, broker.until) == ({SOURCE, VISITS, PREDICTION}, 100.1)
    broker.now, broker.answered = 100.1, True
    assert read(linger, broker, events(1, 0, 4), sends_all_visits=True) == [(SOURCE, 0, 5, 6), (SOURCE, 1, 0, 4)]
    assert broker.held == {SOURCE, PREDICTION}
    read(linger, broker, events(0, 1, topic=VISITS), sends_all_visits=True)
    assert (broker.held, broker.until) == ({SOURCE, VISITS, PREDICTION}, pytest.approx(100.2))


@pytest.mark.parametrize(
    ("assigned", "sends_all"),
    [
        ([("log", 0), ("log", 1), ("t.visits", 0)], True),
        ([("log", 0), ("t.visits", 0)], False),  # another worker has the other source partition
        ([("log", 0), ("log", 1), ("t.visits", 0), ("t.visits", 1)], False),
        ([("log", 0), ("log", 1)], False),
    ],
)
def test_a_worker_with_all_source_partitions_and_one_visits_partition_sends_all_visits(
    assigned: list[tuple[str, int]], sends_all: bool
) -> None:
    consumer = SimpleNamespace(
        assignment=lambda: {TopicPartition(*tp) for tp in assigned}, partitions_for_topic=lambda _: {0, 1}
    )
    names = SimpleNamespace(visits="t.visits")
    app = SimpleNamespace(settings=SimpleNamespace(source_topic="log", topic_names=names))
    assert sends_all_visits(consumer, app) is sends_all


def test_visits_of_other_workers_are_not_held(linger: Linger, broker: Broker) -> None:
    read(linger, broker, events(0, 5))
    read(linger, broker, events(0, 0, topic=VISITS))
    assert broker.held == {SOURCE, PREDICTION}


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
    assert broker.held == set()


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
    assert read(linger, broker, events(0, 6, 600)) == [(SOURCE, 0, 5, 6)]
    assert linger.longest_read(0.5) == 0.0
    assert read(linger, broker) == [(SOURCE, 0, 6, 606)]


def test_events_of_an_earlier_generation_are_dropped(linger: Linger, broker: Broker) -> None:
    """They are fetched again by whoever owns their partition now."""
    read(linger, broker, events(0, 5))
    read(linger, broker, events(0, 0, topic=PREDICTION))
    linger.begin(2, broker)
    assert broker.held == set()
    broker.now = 101.0
    assert read(linger, broker, generation=2) == []
    assert read(linger, broker, events(0, 9), generation=1) == [(SOURCE, 0, 9, 10)]  # dropped by the driver


def test_without_the_setting_nothing_waits(broker: Broker) -> None:
    linger = reading(broker, 0.0)
    assert read(linger, broker, events(0, 5)) == [(SOURCE, 0, 5, 6)]
    assert broker.held == set()
