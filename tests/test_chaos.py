"""`make chaos` itself, for three minutes, and what it is made of: its log, its schedule, its verdict."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from app.ops.failpoints import POINTS
from stack.supervisor import dying_with
from tools.e2e.chaos.actions import DEEDS
from tools.e2e.chaos.run import Result, schedule
from tools.e2e.chaos.verdict import balance, wrong_rows, wrong_state
from tools.e2e.chaos.workload import course, late
from tools.e2e.oracle import recount
from tools.e2e.read_topic import Record

ROOT = Path(__file__).parents[1]
#: one whose first eleven deeds have all kinds, and five kills among the first six
SEED = 1915
#: shorter than the default, so that deeds which must wait for it leave time for others; the default is measured in
#: test_takeover.py [s]
SESSION_S = 3
#: how long after that another worker may take over, where the machine does other things [s]
PATIENT_S = 30
#: the trial's faults last for three minutes, starting and recounting come on top, on a busy machine [s]
LONG_S = 600.0


@pytest.mark.broker
def test_three_minutes_of_faults_leave_every_row_exact(tmp_path: Path) -> None:
    """Workers killed at all points, wiped, suspended, joined; servers killed, disks spoilt: nothing lost or doubled."""
    options = ("--minutes", "3", "--seed", str(SEED), "--session-timeout", str(SESSION_S), "--keep", str(tmp_path))
    # other tests run beside this one: how soon a dead worker is replaced, test_takeover.py measures
    options += ("--takeover", str(PATIENT_S))
    done = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", "chaos", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
        preexec_fn=dying_with(os.getpid()),
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["exact"] is True
    assert (found["lost"], found["duplicated"]) == (0, 0)
    assert found["kills"] >= 3  # five where the machine does nothing else
    assert 0 < found["takeover_s"] <= SESSION_S + PATIENT_S


def test_a_take_over_that_takes_too_long_is_a_shortcoming() -> None:
    rest = dict.fromkeys((f.name for f in dataclasses.fields(Result)), 0) | {"differences": []}
    assert Result(**{**rest, "takeover_s": 11.0, "takeover_allowed_s": 11.0}).shortcomings == []
    (line,) = Result(**{**rest, "takeover_s": 11.1, "takeover_allowed_s": 11.0}).shortcomings
    assert line == "a killed worker's partitions were taken over after 11.1 s, allowed: 11 s"


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
