"""What `make chaos` is made of: its log, its schedule, its verdict. The trial itself is a command of its own."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np

from app.faults import POINTS
from app.trial.chaos.course import course, late
from app.trial.chaos.deeds import DEEDS
from app.trial.chaos.run import schedule
from app.trial.chaos.verdict import balance, wrong_rows, wrong_state
from app.trial.reading import Record
from app.trial.recount import recount

ROOT = Path(__file__).parents[1]


def test_a_course_is_the_same_for_a_seed_and_has_late_rows_but_none_by_a_day() -> None:
    one, again, other = course(1, 5_000, 60), course(1, 5_000, 60), course(2, 5_000, 60)
    assert one.at.tolist() == again.at.tolist() != other.at.tolist()
    assert late(one) > 100
    assert int((one.written - one.at).max()) < 24 * 3_600_000
    times = sorted(zip(one.userid.tolist(), one.at.tolist(), strict=True))
    joins = Counter(min(b[1] - a[1], 10**9) for a, b in itertools.pairwise(times) if a[0] == b[0])
    assert joins[900_000] > 0
    assert joins[900_001] > 0


def test_a_schedule_has_every_deed_before_any_comes_again() -> None:
    plan = schedule(random.Random(3))
    rounds = [[next(plan) for _ in DEEDS] for _ in range(2)]
    assert set(rounds[0]) == set(rounds[1]) == set(DEEDS)
    assert rounds[0] != rounds[1]
    assert {f"kill-{point}" for point in POINTS} <= set(DEEDS)


def topics_of(visits: list[tuple[int, int]]) -> dict[str, list[Record]]:
    """What a worker without predictions would leave of visits."""
    truth = recount(visits)
    return {
        "MOODLE_LOGS_SESSIONS_PER_15MINS": [Record(k, v, 0, ()) for k, v in truth.sessions.items()],
        "MOODLE_LOGS_PREDICTION_AGG": [Record(k, v, at, ()) for k, (v, at) in truth.totals.items()],
        "MOODLE_LOGS_PREDICTION": [
            Record(k, b'{"USERID":1,"PREDICTION":0.5}', at, ()) for k, (_, at) in truth.totals.items()
        ],
        "MOODLE_LOGS_PREDICTION_IN_RISK": [],
    }


VISITS = [(student, 1_000_000 * at) for student in (1, 2, 3) for at in range(5)]


def test_the_verdict_sees_what_is_lost_and_what_came_twice() -> None:
    truth = recount(VISITS)
    assert (balance(truth, topics_of(VISITS)), wrong_rows(truth, topics_of(VISITS))) == ((0, 0), [])
    fewer, more = topics_of(VISITS[1:]), topics_of([*VISITS, VISITS[0], (9, 5)])
    assert balance(truth, fewer) == (1, 0)
    assert balance(truth, more) == (0, 2)
    assert wrong_rows(truth, fewer)
    assert wrong_rows(truth, more)
    twice = topics_of(VISITS)
    twice["MOODLE_LOGS_PREDICTION_AGG"] *= 2
    assert balance(truth, twice) == (0, 0)
    assert wrong_rows(truth, twice)  # row by row


def test_the_verdict_compares_the_state() -> None:
    from models import state
    from models.sessions import Sessions
    from models.totals import Totals

    truth = recount(VISITS)
    none = np.empty(0, np.int64)
    sessions = Sessions(none, none, none, none)
    fives, ends = np.full(3, 5), np.full(3, 4_000_000)

    def tables(sizes: np.ndarray) -> list[dict[bytes, bytes]]:
        records = state.pack(Totals(fives, 0 * fives, sizes, ends), sessions)
        return [{b"1": records[0], b"2": records[1]}, {b"3": records[2]}]

    assert wrong_state(truth, tables(fives)) == []
    assert "differ" in wrong_state(truth, tables(np.array([5, 4, 5])))[0]
    assert "two partitions" in wrong_state(truth, [*tables(fives), {b"1": tables(fives)[0][b"1"]}])[0]
