"""An end below the committed offset: an old answer, or a topic that was created again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from faust.types import TP

from app.errors import MissingRecords
from app.kafka import ends
from app.kafka.ends import ends_behind

A, B = TP("log", 0), TP("log", 1)


class Answers:
    """Answers of the broker in order; the last one is repeated. Mutable: records what was asked."""

    def __init__(self, *answers: Mapping[TP, int]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[TP, ...]] = []

    async def __call__(self, *partitions: TP) -> dict[TP, int]:
        self.asked.append(partitions)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return {tp: answer[tp] for tp in partitions}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "END_OFFSETS_INTERVAL_S", 0.0)


async def test_an_old_answer_is_asked_again() -> None:
    """Only the partition whose end was too low is asked again."""
    answers = Answers({A: 10, B: 7}, {A: 11, B: 8}, {A: 12, B: 9})
    assert await ends_behind({A: 10, B: 9}, answers) == {A: 10, B: 9}
    assert answers.asked == [(A, B), (B,), (B,)]


async def test_an_end_that_stays_too_low_is_a_topic_created_again() -> None:
    with pytest.raises(MissingRecords, match=r"topic log partition 1 ends at offset 3, but 9 was committed: the topic"):
        await ends_behind({A: 10, B: 9}, Answers({A: 10, B: 3}))


async def test_without_partitions_nothing_is_asked() -> None:
    answers = Answers({})
    assert await ends_behind({}, answers) == {}
    assert answers.asked == []
