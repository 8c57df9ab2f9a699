"""A worker that finds something it must not guess at ends with one line; what can be repaired is, as that line says."""

from __future__ import annotations

import json
import shutil
import zlib

import numpy as np
import pytest
import rocksdict

from models import position as positions
from models import state
from models.visit_batch import VisitBatch, encode
from tests.support import cluster as live
from tests.support.cluster import PATIENCE_S, Place, row, visit
from tools.e2e.workers import Worker

pytestmark = pytest.mark.broker

NOW = live.START
MINUTE = 60_000


def told(place: Place) -> int:
    """How many events the last row of the totals counts."""
    rows = place.read(place.names.agg)
    return int(json.loads(rows[-1].value or b"{}")["ACTIVITIES"]) if rows else 0


def run_until(place: Place, activities: int) -> None:
    """A worker that counts what is there, and stops."""
    with place.worker() as worker:
        worker.wait_idle(timeout=PATIENCE_S)
        live.until(lambda: told(place), lambda n: n == activities)
        assert worker.stop() == 0


def gives_up(worker: Worker, *says: str) -> None:
    """It ends by itself, not with 0, and its last word is one line with all of `says`."""
    before = len(worker.log.read_text())
    with worker:
        live.until(lambda: worker.running, lambda running: not running)
        assert worker.process.returncode not in (0, None)
    text = worker.log.read_text()[before:]
    lines = [line for line in text.splitlines() if line.startswith("moodle-risk: gave up:")]
    assert len(lines) == 1, worker.tail()
    for word in says:
        assert word in lines[0]


def keys_of(place: Place, key: bytes, value: bytes) -> None:
    """Overwrite one record of the worker's own copy of the state."""
    (database,) = (p for p in place.state().rglob("students-0.db") if p.is_dir())
    store = rocksdict.Rdict(str(database), options=rocksdict.Options(raw_mode=True))
    store[key] = value
    store.close()


def test_a_frame_of_a_newer_version_ends_the_worker(place):
    """During an upgrade an old worker must not skip what a new one wrote."""
    schema = place.make_source()
    place.send(place.names.source, [visit(schema, 7, NOW)])
    run_until(place, 1)
    raw = encode(VisitBatch(1, ()))[:-4]
    raw = raw[:3] + bytes([raw[3] + 1]) + raw[4:]
    place.send(place.names.visits, [row(raw + zlib.crc32(raw).to_bytes(4, "little"), None)])
    for _ in range(2):
        says = ("NewerFrame", f"topic {place.names.visits} partition 0 offset", "version 3", "upgrade every worker")
        gives_up(place.worker(), *says)
    assert place.read(place.names.dead_letters) == []


@pytest.mark.parametrize("damaged", [True, False])
def test_a_state_record_that_cannot_be_read_ends_the_worker_and_is_read_anew_from_the_changelog(place, damaged):
    """RISK_DATADIR is damaged, or was written by a newer version: never guessed at, and gone with the directory."""
    schema = place.make_source()
    place.send(place.names.source, [visit(schema, 7, NOW)])
    run_until(place, 1)
    sound = state.pack_words(state.VERSION, np.array([0, 999, 0, 1, NOW], np.int64))
    newer = state.pack_words(state.VERSION + 1, np.zeros(9, np.int64))
    keys_of(place, b"7", sound[:-1] + b"\1" if damaged else newer)
    place.send(place.names.source, [visit(schema, 7, NOW + MINUTE)])
    says = ("checksum", "delete RISK_DATADIR") if damaged else ("NewerState", "run the version that wrote it")
    gives_up(place.worker(), "table students (topic", "partition 0 key 7", *says)
    assert told(place) == 1
    shutil.rmtree(place.state())
    run_until(place, 2)


def test_a_damaged_changelog_ends_the_worker(place):
    """What deleting RISK_DATADIR does not help is said too: the front, and the position of alert."""
    schema = place.make_source()
    place.send(place.names.source, [visit(schema, 7, NOW)])
    run_until(place, 1)
    place.send(place.names.students_changelog, [row(b"\2" + bytes(39), positions.KEY)])
    shutil.rmtree(place.state())
    place.send(place.names.source, [visit(schema, 7, NOW + MINUTE)])
    gives_up(place.worker(), "table students", "key front", "damaged", "another RISK_APP_ID")


def test_a_running_worker_says_what_it_lost(place):
    """Something that is no frame is kept, said and stepped over."""
    schema = place.make_source()
    with place.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=PATIENCE_S)
        for i in range(4):
            place.send(place.names.source, [visit(schema, 7, NOW + i * MINUTE)])
            live.until(lambda: told(place), lambda n, i=i: n == i + 1)
            if i == 1:
                place.send(place.names.visits, [row(b"MRV no frame", None)])
        assert worker.stop() == 0
    (letter,) = place.read(place.names.dead_letters)
    assert (letter.value, dict(letter.headers)["dead-letter.reason"]) == (b"MRV no frame", b"bad-frame")
    assert "bad-frame" in worker.log.read_text()
