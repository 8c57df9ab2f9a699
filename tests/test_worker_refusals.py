"""A worker that finds data it cannot interpret exits with one line that says how to repair it; the repairs work."""

from __future__ import annotations

import json
import shutil
import zlib

import numpy as np
import pytest
import rocksdict

from models import position as positions
from models import state
from models.visit_batch import VERSION, VisitBatch, encode
from tests.support.cluster import START, TIMEOUT_S, Deployment, row, until, visit
from tools.e2e.workers import Worker

pytestmark = pytest.mark.broker

MINUTE = 60_000


def last_activities(deployment: Deployment) -> int:
    """Return the number of events in the last row of the totals."""
    rows = deployment.read(deployment.names.agg)
    return int(json.loads(rows[-1].value or b"{}")["ACTIVITIES"]) if rows else 0


def make_source(deployment: Deployment) -> int:
    """Create the source topic with one event. Return the schema's id."""
    schema = deployment.make_source()
    deployment.send(deployment.names.source, [visit(schema, 7, START)])
    return schema


def run_until(deployment: Deployment, activities: int) -> None:
    """Run a worker until the totals count that many events, and stop it."""
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S)
        until(lambda: last_activities(deployment), lambda n: n == activities)
        assert worker.stop() == 0


def assert_gives_up(worker: Worker, *texts: str) -> None:
    """The worker exits by itself, not with 0, and logs one line with all `texts`."""
    begin = len(worker.log.read_text())
    with worker:
        until(lambda: worker.running, lambda running: not running)
        assert worker.process.returncode not in (0, None)
    lines = worker.log.read_text()[begin:].splitlines()
    (line,) = [line for line in lines if line.startswith("moodle-risk: gave up:")]
    for text in texts:
        assert text in line


def overwrite_record(deployment: Deployment, key: bytes, value: bytes) -> None:
    """Overwrite one record in the worker's local copy of the state."""
    (database,) = (p for p in deployment.state().rglob("students-0.db") if p.is_dir())
    store = rocksdict.Rdict(str(database), options=rocksdict.Options(raw_mode=True))
    store[key] = value
    store.close()


def test_a_visit_batch_of_a_newer_version_ends_the_worker(deployment):
    """During an upgrade an old worker must not skip what a new one wrote."""
    make_source(deployment)
    visits = deployment.names.visits
    run_until(deployment, 1)
    raw = encode(VisitBatch(1, ()))[:-4]
    raw = raw[:3] + bytes([raw[3] + 1]) + raw[4:]
    deployment.send(visits, [row(raw + zlib.crc32(raw).to_bytes(4, "little"), None)])
    for _ in range(2):
        texts = (
            "NewerVisitBatch",
            f"topic {visits} partition 0 offset",
            f"version {VERSION + 1}",
            "upgrade every worker",
        )
        assert_gives_up(deployment.worker(), *texts)
    assert deployment.read(deployment.names.dead_letters) == []


@pytest.mark.parametrize("damaged", [pytest.param(True, marks=pytest.mark.long), False])
def test_an_unreadable_state_record_ends_the_worker_and_is_restored_from_the_changelog(deployment, damaged):
    """A damaged record, or one of a newer version, is never guessed at; deleting RISK_DATADIR repairs it."""
    schema = make_source(deployment)
    run_until(deployment, 1)
    valid = state.pack_words(state.VERSION, np.array([0, 999, 0, 1, START], np.int64))
    newer = state.pack_words(state.VERSION + 1, np.zeros(9, np.int64))
    overwrite_record(deployment, b"7", valid[:-1] + b"\1" if damaged else newer)
    deployment.send(deployment.names.source, [visit(schema, 7, START + MINUTE)])
    texts = ("checksum", "delete RISK_DATADIR") if damaged else ("NewerState", "run the version that wrote it")
    assert_gives_up(deployment.worker(), "table students (topic", "partition 0: a state record", *texts)
    assert last_activities(deployment) == 1
    shutil.rmtree(deployment.state())
    run_until(deployment, 2)


def test_a_damaged_changelog_ends_the_worker(deployment):
    """If deleting RISK_DATADIR does not help, the message says what does."""
    schema = make_source(deployment)
    run_until(deployment, 1)
    deployment.send(deployment.names.students_changelog, [row(b"\2" + bytes(39), positions.KEY)])
    shutil.rmtree(deployment.state())
    deployment.send(deployment.names.source, [visit(schema, 7, START + MINUTE)])
    assert_gives_up(deployment.worker(), "partition 0: a position record", "damaged", "another RISK_APP_ID")


def test_a_running_worker_reports_a_damaged_visit_batch(deployment):
    """A record of the visits topic that is no batch becomes a dead letter, is logged and skipped."""
    schema, names = deployment.make_source(), deployment.names
    with deployment.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        for i in range(4):
            deployment.send(names.source, [visit(schema, 7, START + i * MINUTE)])
            until(lambda: last_activities(deployment), lambda n, i=i: n == i + 1)
            if i == 1:
                deployment.send(names.visits, [row(b"MRV no visit batch", None)])
        assert worker.stop() == 0
    (dead_letter,) = deployment.read(names.dead_letters)
    assert (dead_letter.value, dict(dead_letter.headers)["dead-letter.reason"]) == (b"MRV no visit batch", b"bad-frame")
    assert "bad-frame" in worker.log.read_text()
