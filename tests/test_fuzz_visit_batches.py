"""Damaged visit batches, the records of the internal topic: each is refused, and costs no visits but its own."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from models import position as positions
from models.chunk import Headers
from models.position import Gap, Position
from models.visit_batch import CorruptVisitBatch, SourceRange, VisitBatch, decode, encode
from models.visits import Visits
from tests.support.damage import MUTANTS, Damage
from tests.support.kafka_batches import varint
from tests.support.log_samples import SETTINGS, from_debezium
from tests.support.recount import check_outputs
from tools.test_driver import TopologyTestDriver

MINUTE = 60_000
NOW = 1_561_975_200_000


@pytest.fixture(autouse=True)
def _no_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Silence the log line of each dead letter; test_pipeline.py checks those."""
    caplog.set_level(logging.CRITICAL, "agents")


def random_visits(rng: np.random.Generator, n: int, first: int, *, headers: bool = False) -> Visits:
    """`n` visits within a minute in order of time, at source offsets from `first` on."""
    at = NOW + first * 1_000 + np.sort(rng.integers(0, MINUTE, n))
    null = rng.random(n) < 0.02
    student = np.where(null, 0, rng.integers(-2, 20, n))
    rows: list[Headers] | None = [[("h", b"%d" % i), ("n", None)][: i % 3] for i in range(n)] if headers else None
    return Visits(student, null, at, first + np.arange(n), rows)


def contiguous_batches(rng: np.random.Generator, n: int) -> list[VisitBatch]:
    """`n` visit batches of one sender, each beginning where the one before it ends."""
    visit_batches, begin = [], 0
    for i in range(n):
        visits = random_visits(rng, int(rng.integers(0, 12)), begin, headers=i % 5 == 0)
        end = begin + len(visits) + int(rng.integers(0, 3))
        watermark = int(visits.at[-1]) if len(visits) else -1
        visit_batches.append(
            VisitBatch(1, [SourceRange(0, begin if i else -1, end, watermark, bool(rng.integers(0, 2)), visits)])
        )
        begin = end
    return visit_batches


def test_every_damaged_visit_batch_is_refused() -> None:
    """No damage turns a visit batch into another valid one."""
    damage = Damage(1)
    intact = [encode(visit_batch) for visit_batch in contiguous_batches(np.random.default_rng(1), 60)]
    while damage.made < MUTANTS["visit batches"]:
        a, b = (intact[damage.below(len(intact))] for _ in range(2))
        changed = damage.mutate(a, b)
        if changed not in intact:  # a splice may yield all of the other one
            with pytest.raises(CorruptVisitBatch):
                decode(changed)


def test_a_visit_batch_ends_with_its_crc32() -> None:
    """Any Kafka client can check whether a visit batch is intact."""
    raw = encode(contiguous_batches(np.random.default_rng(9), 3)[2])
    assert int.from_bytes(raw[-4:], "little") == zlib.crc32(raw[:-4])


class DamagingDriver(TopologyTestDriver):
    """A pipeline that damages visit batches on their way through the internal topic."""

    damage = Damage(3)
    #: whether the visit batches themselves are damaged, or only damaged ones inserted before them
    lose = False

    async def send_visits(self, visit_batches: Sequence[Sequence[bytes]]) -> None:
        """Insert three damaged visit batches before each, and damage each if `lose`."""
        for raw in visit_batches[0]:
            self._visit_batches += [self.damage.mutate(raw, raw[::-1]) for _ in range(3)]
            self._visit_batches.append(self.damage.mutate(raw) if self.lose else raw)


async def test_intact_visit_batches_among_damaged_ones_count() -> None:
    """A damaged visit batch becomes a dead letter and costs only its own visits, and the gap is counted."""
    sample = from_debezium("default")
    (number,) = sample.schemas
    head = b"\0" + number.to_bytes(4, "big") + varint(1) + varint(1) + b"e"
    rng = np.random.default_rng(4)
    visits: list[tuple[int | None, int]] = []
    lost = 0
    rounds = MUTANTS["visit batches among intact ones"] // 3
    async with DamagingDriver(SETTINGS, sample.decoder()) as driver:
        for i in range(rounds):
            n = int(rng.integers(1, 12))
            new = [(int(rng.integers(0, 20)), NOW + i * MINUTE + k * 1_000) for k in range(n)]
            # a gap is noticed only when a later visit batch arrives
            driver.lose = i % 9 == 4 and i < rounds - 1
            lost += driver.lose
            await driver.feed(driver.names.source, [None] * n, [head + varint(s) + varint(at) for s, at in new])
            if not driver.lose:
                visits += new
    assert driver.damage.made == 3 * rounds + lost
    assert lost >= rounds // 10
    assert len(driver.dead_letters) == driver.damage.made
    assert {(dead_letter.topic, dead_letter.partition, dead_letter.reason) for dead_letter in driver.dead_letters} == {
        (driver.names.visits, 0, "bad-frame")
    }
    rules = check_outputs(driver, visits)
    assert rules.late == 0
    assert sum(n for n, *_ in rules.totals.values()) == len(visits)
    counts = driver.metrics
    assert counts["gaps"] == lost
    assert counts["detached_slices"] == 0


def test_after_a_corrupt_visit_batch_each_source_may_skip_one_gap() -> None:
    """A range behind a gap comes from a fenced sender, unless a visit batch was corrupt. A restart keeps that flag."""

    def batch(source: int, begin: int, end: int) -> VisitBatch:
        visits = Visits(np.array([5]), np.array([False]), np.array([end * MINUTE]), np.array([end - 1]))
        return VisitBatch(2, [SourceRange(source, begin, end, end * MINUTE, True, visits)])

    corrupt = VisitBatch(0, (), corrupt=True)
    start = positions.drop_applied(Position.start(2), [batch(0, -1, 10), batch(1, -1, 20)]).position
    assert positions.drop_applied(start, [batch(0, 15, 18)]).detached == 1
    after = positions.unpack(positions.pack(positions.drop_applied(start, [corrupt]).position), 2)
    new = positions.drop_applied(after, [batch(0, 15, 18), batch(0, 19, 21), batch(1, 20, 22), batch(1, 25, 26)])
    assert new.gaps == [Gap(0, 10, 15)]
    assert new.detached == 2
    assert new.position.offsets.tolist() == [18, 22]
    assert not new.position.after_corrupt.any()
