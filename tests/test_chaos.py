"""`make chaos` itself for some minutes, and its parts: the workload, the schedule, the verdict."""

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
from typing import Any

import numpy as np
import pytest

from app.ops.failpoints import POINTS
from models import log_ids
from stack.supervisor import die_with_parent
from tools.e2e.chaos.actions import ACTIONS
from tools.e2e.chaos.course_log import COURSES, NAMES, generate_course_log
from tools.e2e.chaos.run import Result, schedule
from tools.e2e.chaos.verdict import log_id_differences, lost_and_duplicated, output_differences, state_differences
from tools.e2e.chaos.workload import count_late, generate_workload
from tools.e2e.oracle import expected_tables
from tools.e2e.read_topic import Record
from tools.e2e.risk_oracle.log import Counting
from tools.e2e.risk_oracle.rows import log_rows

ROOT = Path(__file__).parents[1]
#: a seed whose first eleven actions are of all kinds, with five kills among the first six
SEED = 1915
#: session timeout, shorter than the default so that actions which wait for it leave time for others; the takeover
#: with the default is measured in test_takeover.py [s]
SESSION_S = 3
#: time allowed for a takeover after the session timeout while other tests run [s]
TAKEOVER_S = 30
#: upper bound of the run: minutes of faults, plus start and comparison on a busy machine [s]
TIMEOUT_S = 600.0


def chaos(*options: str) -> dict[str, Any]:
    """Run the command, which must succeed. Return its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", "chaos", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        preexec_fn=die_with_parent(os.getpid()),
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.broker
@pytest.mark.long  # the next test kills too, and tests/test_worker_deaths.py at each failpoint
def test_minutes_of_faults_leave_every_row_exact(tmp_path: Path) -> None:
    """Killed, wiped, suspended and joining workers, killed servers, damaged disks: nothing is lost or duplicated."""
    options = ("--minutes", "1.7", "--seed", str(SEED), "--session-timeout", str(SESSION_S), "--keep", str(tmp_path))
    # other tests run at the same time: test_takeover.py measures how soon a dead worker is replaced, which on a busy
    # machine this run may not come to
    options += ("--takeover", str(TAKEOVER_S))
    result = chaos(*options)
    assert result["exact"] is True
    assert (result["lost"], result["duplicated"]) == (0, 0)
    assert result["kills"] >= 1  # three on an idle machine


@pytest.mark.broker
def test_days_of_event_time_that_pass_while_workers_fail_leave_every_row_exact(tmp_path: Path) -> None:
    """Three workers are killed, wiped, stopped and suspended; nothing is late because its owner was away."""
    options = ("--accelerated", "--days-per-minute", "30", "--rate", "1500", "--minutes", "0.3")
    result = chaos(*options, "--seed", "5", "--keep", str(tmp_path))
    assert (result["exact"], result["lost"], result["duplicated"]) == (True, 0, 0)
    assert result["kills"] >= 1
    assert result["days"] > 7


def test_a_slow_take_over_is_a_failure() -> None:
    rest = dict.fromkeys((f.name for f in dataclasses.fields(Result)), 0) | {"differences": []}
    assert Result(**{**rest, "takeover_s": 11.0, "takeover_allowed_s": 11.0}).failures == []
    (line,) = Result(**{**rest, "takeover_s": 11.1, "takeover_allowed_s": 11.0}).failures
    assert line == "the takeover of a killed worker's partitions took 11.1 s, allowed: 11 s"


def test_a_workload_depends_on_the_seed_only_and_has_late_rows_but_none_by_a_day() -> None:
    first, repeated, other = (generate_workload(seed, 5_000, 60) for seed in (1, 1, 2))
    assert first.at.tolist() == repeated.at.tolist() != other.at.tolist()
    assert count_late(first) > 100
    assert int((first.written - first.at).max()) < 24 * 3_600_000
    times = sorted(zip(first.userid.tolist(), first.at.tolist(), strict=True))
    pauses = Counter(min(b[1] - a[1], 10**9) for a, b in itertools.pairwise(times) if a[0] == b[0])
    assert pauses[900_000] > 0
    assert pauses[900_001] > 0


def test_a_course_log_spans_months_and_no_row_is_late_by_a_day() -> None:
    """Silences of days, in which rows from before are not late: each stretch has arrived before the next is sent."""
    log, again = (generate_course_log(seed, 4_000, 30.0, history_rows=4_000) for seed in (1, 1))
    rows = log.rows
    assert rows.at.tolist() == again.rows.at.tolist()
    assert [stretch.stop for stretch in log.stretches][-1] == len(rows)
    assert (rows.at.max() - rows.at.min()) > 125 * 24 * 3_600_000
    assert int((rows.written - rows.at).max()) < 24 * 3_600_000
    steps = np.diff(rows.written)
    assert int((steps > 20 * 3_600_000).sum()) >= len(log.stretches) - 1
    counting = Counting(NAMES[1:])
    marks = [(row, key, submission) for row in log_rows(rows) for key, submission in counting.marks(row)]
    assert {course for _, (_, course), _ in marks} == {0, *COURSES}
    assert any(submission and key[0] != row.userid for row, key, submission in marks)
    assert len(marks) != len(rows)


def test_a_schedule_runs_every_action_before_any_is_repeated() -> None:
    names = schedule(random.Random(3), ACTIONS)
    rounds = [[next(names) for _ in ACTIONS] for _ in range(2)]
    assert set(rounds[0]) == set(rounds[1]) == set(ACTIONS)
    assert rounds[0] != rounds[1]
    assert {f"kill-{point}" for point in POINTS} <= set(ACTIONS)


def topics_of(visits: list[tuple[int, int]]) -> dict[str, list[Record]]:
    """Return the output topics of a worker for `visits`, with one row for each key."""
    expected = expected_tables(visits)
    return {
        "MOODLE_LOGS_SESSIONS_PER_15MINS": [Record(k, v, 0, ()) for k, v in expected.sessions.items()],
        "MOODLE_LOGS_PREDICTION_AGG": [Record(k, v, at, ()) for k, (v, at) in expected.totals.items()],
        "MOODLE_LOGS_PREDICTION": [
            Record(k, b'{"USERID":1,"PREDICTION":0.5}', at, ()) for k, (_, at) in expected.totals.items()
        ],
        "MOODLE_LOGS_PREDICTION_IN_RISK": [],
    }


def test_the_verdict_detects_log_ids_that_are_missing_or_in_two_partitions() -> None:
    """All ids of the log must have been applied, each in one partition."""

    def table(*ids: int) -> dict[bytes, bytes]:
        column = np.array(ids, np.int64)
        spans = log_ids.spans_of(column)
        added = log_ids.add(column, spans, log_ids.unpack([None] * len(spans)))
        return {b"7": b"", **dict(zip(log_ids.keys_of(spans), log_ids.pack(added.bitmaps), strict=True))}

    assert log_id_differences([1, 2, 5_000], [table(1, 5_000), table(2)]) == []
    (line,) = log_id_differences([1, 2, 5_000], [table(1, 5_000), table(1, 3)])
    assert line == "log ids: 1 missing, 1 extra, 1 in two partitions"


VISITS = [(student, 1_000_000 * at) for student in (1, 2, 3) for at in range(5)]


def test_the_verdict_detects_lost_and_duplicated_events() -> None:
    expected = expected_tables(VISITS)
    assert lost_and_duplicated(expected, topics_of(VISITS)) == (0, 0)
    assert output_differences(expected, topics_of(VISITS)) == []
    fewer, more = topics_of(VISITS[1:]), topics_of([*VISITS, VISITS[0], (9, 5)])
    assert lost_and_duplicated(expected, fewer) == (1, 0)
    assert lost_and_duplicated(expected, more) == (0, 2)
    assert output_differences(expected, fewer)
    assert output_differences(expected, more)
    twice = topics_of(VISITS)
    twice["MOODLE_LOGS_PREDICTION_AGG"] *= 2
    assert lost_and_duplicated(expected, twice) == (0, 0)
    assert output_differences(expected, twice)  # by the order of the rows


def test_the_verdict_compares_the_state() -> None:
    from models import state
    from models.sessions import Sessions
    from models.totals import Totals

    expected = expected_tables(VISITS)
    none = np.empty(0, np.int64)
    sessions = Sessions(none, none, none, none)
    fives, ends = np.full(3, 5), np.full(3, 4_000_000)

    def tables(sizes: np.ndarray) -> list[dict[bytes, bytes]]:
        records = state.pack(Totals(fives, 0 * fives, sizes, ends), sessions)
        return [{b"1": records[0], b"2": records[1]}, {b"3": records[2]}]

    assert state_differences(expected, tables(fives)) == []
    assert "differ" in state_differences(expected, tables(np.array([5, 4, 5])))[0]
    assert "two partitions" in state_differences(expected, [*tables(fives), {b"1": tables(fives)[0][b"1"]}])[0]
