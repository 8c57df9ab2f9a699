"""Which chunks of a fetch are said to have company."""

from __future__ import annotations

from app.kafka.driver import _followed
from models.chunk import Chunk


def chunk(topic: str, partition: int, start: int) -> Chunk:
    return Chunk(topic, partition, (), (), (), start, start + 1, start + 1)


def test_a_topics_chunks_stand_side_by_side_and_all_but_its_last_have_company() -> None:
    fetched = [chunk("log", 0, 0), chunk("visits", 0, 7), chunk("log", 1, 5)]
    told = [(c.topic, c.partition, c.followed) for c in _followed(fetched)]
    assert told == [("log", 0, True), ("log", 1, False), ("visits", 0, False)]
    assert _followed([]) == []
