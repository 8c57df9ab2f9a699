"""The risk of workers that are killed around a tick, and of two workers that share a backlog: all rows are exact.

All scenarios read the same log of five months, each with its own deployment.
"""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

import pytest

from app.ops.failpoints import VARIABLE
from tests.support.cluster import (
    TIMEOUT_S,
    Deployment,
    replay_rows,
    run_async,
    run_to_end,
    until,
)
from tools.e2e.chaos.course_log import ZONE, generate_course_log
from tools.e2e.chaos.verdict import output_differences
from tools.e2e.oracle import expected_tables
from tools.e2e.read_topic import read_risk
from tools.e2e.risk_oracle.topics import judge_risk

pytestmark = pytest.mark.broker

LONG_S = 3 * TIMEOUT_S


@pytest.fixture(scope="module")
def course_log(cluster, tmp_path_factory):
    """A log in a topic of two partitions."""
    rows = generate_course_log(7, 6_000, 60.0, history_rows=12_000).rows
    return replay_rows(Deployment.new(cluster, tmp_path_factory.mktemp("log")), rows, 2)


@pytest.fixture
def reading(cluster, tmp_path, course_log):
    """A deployment that reads it in small batches."""
    settings = {"RISK_SOURCE_TOPIC": course_log.topic, "RISK_BATCH_ROWS": "200"}
    return Deployment.new(cluster, tmp_path, **settings, RISK_MODEL="v2s", RISK_TIMEZONE=ZONE)


def differences(deployment, rows):
    """The differences of all output topics from the oracles."""
    topics = deployment.outputs() | run_async(read_risk(deployment.settings))
    expected = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    risk = judge_risk(deployment.settings, rows, topics)
    assert risk.ticks > 100
    assert risk.alerts > 0
    return output_differences(expected, topics, scored=False) + risk.differences


def kill_at(deployment, point, counts):
    """Kill a worker at a failpoint, again and again, with its state kept and wiped in turn."""
    for i, count in enumerate(counts):
        with deployment.worker(**{VARIABLE: f"kill@{point}:{count}"}) as worker:
            assert worker.process.wait(LONG_S) == -signal.SIGKILL, worker.tail()
        if i % 2:
            shutil.rmtree(deployment.state())
    run_to_end(deployment, timeout=LONG_S)


@pytest.mark.long
def test_a_worker_killed_between_the_sums_of_a_tick_and_its_scores(reading, course_log):
    """The next one finds the sums written, and scores the days once."""
    kill_at(reading, "summed", (9, 12))
    assert differences(reading, course_log.rows) == []


@pytest.mark.long
@pytest.mark.parametrize("point", ["summed", "scored", "begun", "sent", "committed", "written", "processed"])
def test_a_worker_killed_around_ticks(reading, course_log, point):
    """Four kills at each failpoint, at random ticks and flushes, of which there are some ninety.

    Chunks that are marked as processed are fewer, since one chunk may need several flushes.
    """
    rng = random.Random(point)
    most = 4 if point == "processed" else 14
    kill_at(reading, point, [rng.randint(1, most) for _ in range(4)])
    assert differences(reading, course_log.rows) == []


@pytest.mark.long
@pytest.mark.parametrize("doomed", [1, 2])
def test_one_of_two_workers_is_killed_at_a_tick(reading, course_log, doomed):
    """The partitions of the dead one hold stream time, and so the ticks of all, until the other has taken them over."""
    faults = {doomed: {VARIABLE: "kill@summed:10"}}
    with reading.worker(1, **faults.get(1, {})) as first, reading.worker(2, **faults.get(2, {})) as second:
        killed, survivor = (first, second) if doomed == 1 else (second, first)
        assert killed.process.wait(LONG_S) == -signal.SIGKILL, killed.tail()
        survivor.wait_idle(timeout=LONG_S)
        assert survivor.stop() == 0
    assert differences(reading, course_log.rows) == []


@pytest.mark.long
def test_a_worker_suspended_at_a_tick_is_fenced(reading, course_log):
    """Its scores are not committed after another one has taken over."""
    with reading.worker(1, **{VARIABLE: "stop@summed:10"}) as first:
        status = Path(f"/proc/{first.process.pid}/status")
        until(status.read_text, lambda text: "State:\tT" in text, timeout=LONG_S)
        with reading.worker(2) as second:
            second.wait_idle(timeout=LONG_S)
        first.process.send_signal(signal.SIGCONT)
        first.wait_idle(timeout=LONG_S)
    assert differences(reading, course_log.rows) == []
