"""Random situations of real sites end well, and the command would notice one that does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.settings import Settings
from tests.support.forked_worker import ForkedWorker
from tools.e2e.situations import rows
from tools.e2e.situations.grammar import MISTAKES, SETTINGS, Situation, draw
from tools.e2e.situations.rows import BAD, GOOD, RowSpec
from tools.e2e.situations.run import Outcome, SilentFailure, run
from tools.e2e.situations.schemas import BEHAVIOURS
from tools.e2e.workers import Worker

PLAIN = Situation(0, {}, 1, {}, "well", None, False, False, [])
NOW = 1_790_000_000_000


def specs(*kinds: str, partition: int = 0) -> list[RowSpec]:
    return [
        RowSpec(i, kind, partition, None if kind == "null-student" else 3, i * 1_000 - 3_600_000)
        for i, kind in enumerate(kinds)
    ]


def worker(variables: Mapping[str, str], log: Path) -> Worker:
    """A forked worker, which starts sooner; one started as users start it if its settings are wrong."""
    try:
        Settings.from_env(variables)
    except ConfigError:
        return Worker(variables, log)
    return ForkedWorker(variables, log)


def test_a_situation_depends_on_its_seed_only_and_everything_is_drawn() -> None:
    """300 runs meet every kind of row, every behaviour of a registry and every setting."""
    drawn = [draw(seed) for seed in range(300)]
    assert drawn[7] == draw(7) != draw(8)
    kinds = Counter(row.kind for situation in drawn for row in situation.rows)
    assert set(kinds) == {"plain", *GOOD, *BAD}
    assert {s.registry for s in drawn} == set(BEHAVIOURS)
    assert {name for s in drawn for name in s.settings} >= set(SETTINGS)
    assert sum(any(s.settings.get(k) == v for k, v in MISTAKES) for s in drawn) > 10
    assert sum(bool(s.topics) for s in drawn) > 30
    assert sum(any(row.partition >= s.partitions for row in s.rows) for s in drawn) > 20


def test_every_kind_of_row_has_bytes() -> None:
    for kind in ("plain", *GOOD, *BAD):
        value = RowSpec(1, kind, 0, 3, 0).value(NOW, 1)
        assert (value is None) == (kind == "tombstone")
    assert RowSpec(1, "plain", 0, 3, 0).counts
    assert not RowSpec(1, rows.BAD[0], 0, 3, 0).counts


@pytest.mark.broker
def test_all_kinds_of_rows_in_one_log(cluster, tmp_path) -> None:
    """Each good one counts, each bad one is kept."""
    situation = replace(PLAIN, rows=specs("plain", *(k for k in GOOD if k != "future"), *BAD, "plain"))
    outcome = run(situation, cluster, tmp_path, worker)
    assert outcome == Outcome("", counted=2 + len(GOOD) - 2, late=0, rejected=len(BAD))


@pytest.mark.broker
def test_partitions_that_are_added_under_a_running_worker_count(cluster, tmp_path) -> None:
    """Or their rows would be missed: the recount expects them."""
    rows = [*specs("plain", "plain"), *specs("plain", "plain", "bad-magic", partition=2)]
    outcome = run(replace(PLAIN, seed=3, rows=rows, added=2), cluster, tmp_path, worker)
    assert outcome == Outcome("", counted=4, late=0, rejected=1)


@pytest.mark.broker
@pytest.mark.parametrize("seed", [104, *(pytest.param(seed, marks=pytest.mark.long) for seed in (102, 103, 105))])
def test_situations_end_well(cluster, tmp_path, seed: int) -> None:
    """A sample of `make situations`."""
    run(draw(seed), cluster, tmp_path, worker)


@pytest.mark.broker
def test_a_visit_that_is_lost_in_silence_is_noticed(cluster, tmp_path) -> None:
    """The expectation has one row more than the topic, one less, or one that should have been refused."""

    class Worse(RowSpec):
        def value(self, now_ms: int, unit_ms: int) -> bytes | None:
            return RowSpec(self.number, "tombstone", 0, 3, 0).value(now_ms, unit_ms)

    lost = [*specs("plain", "plain"), Worse(2, "plain", 0, 3, -1_000)]
    with pytest.raises(SilentFailure, match="1 visits do not count, 0 of them late"):
        run(replace(PLAIN, seed=1, rows=lost), cluster, tmp_path, worker)
    with pytest.raises(SilentFailure, match="0 dead letters instead of 1"):
        run(replace(PLAIN, seed=2, rows=[Worse(0, "bad-magic", 0, 3, 0)]), cluster, tmp_path, worker)
