"""Which chunks of a fetch are said to have company: only those whose company will surely be delivered."""

from __future__ import annotations

from faust.types import TP

from app.transport.driver import _followed
from models.chunk import Chunk


def chunk(topic: str, partition: int, start: int) -> Chunk:
    return Chunk(topic, partition, (), (), (), start, start + 1, start + 1)


def test_a_topics_chunks_stand_side_by_side_and_all_but_its_last_have_company() -> None:
    fetched = [chunk("log", 0, 0), chunk("visits", 0, 7), chunk("log", 1, 5)]
    expected = {TP("log", 0): 0, TP("log", 1): 5, TP("visits", 0): 7}
    told = [(c.topic, c.partition, c.followed) for c in _followed(fetched, expected)]
    assert told == [("log", 0, True), ("log", 1, False), ("visits", 0, False)]


def test_a_chunk_that_will_be_dropped_is_no_company() -> None:
    """From before a seek, or behind a hole: whoever waited for it would wait until something else comes."""
    fetched = [chunk("log", 0, 0), chunk("log", 1, 5), chunk("log", 2, 9)]
    expected = {TP("log", 0): 0, TP("log", 1): 6, TP("log", 2): 8}
    assert not any(c.followed for c in _followed(fetched, expected))
    assert _followed([], expected) == []
