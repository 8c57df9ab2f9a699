"""A worker that has caught up: single events, bad ones among them, restarts, and state only in the changelog."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.support import cluster as live
from tests.support.cluster import PATIENCE_S, Place, row, visit

pytestmark = pytest.mark.broker

NOW = live.START
MINUTE = 60_000
#: how late a single event may come out on a busy machine [s]
SOON_S = 2.0


def ready(stats: dict) -> bool:
    return stats["problem"] is None


def last_total(place: Place) -> dict[str, int]:
    rows = place.read(place.names.agg)
    return json.loads(rows[-1].value or b"{}") if rows else {}


def test_a_single_event_comes_out_at_once_and_a_restart_writes_nothing_again(place):
    """One event alone is a batch of one; a worker that comes back to a log it has read adds no row."""
    schema = place.make_source(2)
    with place.worker(forked=False) as worker:
        worker.wait(ready, timeout=PATIENCE_S)
        for i in range(3):
            place.send(place.names.source, [visit(schema, 7, NOW + i * MINUTE)], i % 2)
            sent = time.monotonic()
            live.until(lambda i=i: last_total(place).get("ACTIVITIES", 0), lambda n, i=i: n == i + 1)
            assert time.monotonic() - sent < SOON_S
        assert json.loads(place.read(place.names.prediction)[-1].value or b"{}")["USERID"] == 7
        worker.wait_idle(timeout=PATIENCE_S)
        assert worker.stop() == 0
    before = place.outputs()
    with place.worker() as again:
        again.wait_idle(timeout=PATIENCE_S)
        assert again.stats()["counts"].get("visits", 0) == 0
    assert place.outputs() == before


def test_bad_records_are_kept_and_counted_and_the_good_ones_around_them_count(place):
    """Wrong magic, unknown id, cut off, negative time; predictions that are no strict JSON: all in dead letters."""
    schema = place.make_source()
    whole = visit(schema, 7, NOW)[2] or b""
    bad = {
        "bad-magic": b"\1" + whole[1:],
        "unknown-schema": b"\0" + (99_999).to_bytes(4, "big") + whole[5:],
        "truncated": whole[:-3],
        "negative-time": visit(schema, 7, -5)[2],
    }
    with place.worker() as worker:
        worker.wait(ready, timeout=PATIENCE_S)
        rows = [visit(schema, 7, NOW)]
        for value in bad.values():
            rows += [row(value), visit(schema, 7, NOW + MINUTE)]
        place.send(place.names.source, rows)
        place.send(place.names.prediction, [row(b"{'USERID': 1}"), row(b'{"PREDICTION":0.9}')])
        stats = worker.wait_idle(timeout=PATIENCE_S, events=len(rows))
        rejected = stats["counts"]["rejected"]
        assert {reason: rejected[reason] for reason in bad} == dict.fromkeys(bad, 1)
        assert sum(rejected.values()) == len(bad) + 1
    assert last_total(place)["ACTIVITIES"] == len(bad) + 1
    dead_letters = place.read(place.names.dead_letters)
    source = [r for r in dead_letters if dict(r.headers)["dead-letter.topic"] == place.names.source.encode()]
    assert [dict(r.headers)["dead-letter.reason"].decode() for r in source] == list(bad)
    assert [dict(r.headers)["dead-letter.offset"] for r in source] == [b"1", b"3", b"5", b"7"]
    assert [r.value for r in source] == list(bad.values())
    (prediction,) = [r for r in dead_letters if r not in source]
    assert prediction.value == b"{'USERID': 1}"
    in_risk = [r.value for r in place.read(place.names.in_risk)]
    assert b'{"USERID":null,"PREDICTION":0.9,"CREATED_DATE":null}' in in_risk


def test_state_that_was_only_in_memory_comes_back_from_the_changelog(cluster, tmp_path):
    """RISK_STORE=memory://: everything a worker knows is in the changelog, and a killed one loses nothing."""
    place = Place.new(cluster, tmp_path, RISK_STORE="memory://")
    schema = place.make_source(2)
    for end in ("kill", "stop"):
        with place.worker() as worker:
            worker.wait(ready, timeout=PATIENCE_S)
            seen = last_total(place).get("ACTIVITIES", 0)
            place.send(place.names.source, [visit(schema, 7, NOW + seen * MINUTE)], seen % 2)
            live.until(lambda seen=seen: last_total(place).get("ACTIVITIES", 0), lambda n, seen=seen: n == seen + 1)
            getattr(worker, end)()
    with place.worker() as worker:
        worker.wait_idle(timeout=PATIENCE_S)
        assert worker.stats()["students"] in (0, 1)  # read at the first batch
    assert last_total(place)["ACTIVITIES"] == 2
    sessions = [r for r in place.read(place.names.sessions) if r.value is not None]
    assert json.loads(sessions[-1].value or b"{}")["ACTIVITIES"] == 2


def test_health_says_when_a_worker_is_fine(place):
    """/health answers 200 and healthy once the worker is ready; /stats has what a person asks for."""
    place.make_source()
    with place.worker() as worker:
        stats = worker.wait(ready, timeout=PATIENCE_S)
        answer = httpx.get(f"http://127.0.0.1:{worker.port}/health")
        assert (answer.status_code, answer.json()) == (200, {"healthy": True, "problem": None})
        assert {"lag", "rates_per_s", "counts", "students", "model"} <= set(stats)
        assert set(stats["lag"]) == {
            f"{place.names.source}-0",
            f"{place.names.visits}-0",
            f"{place.names.prediction}-0",
        }
        # none of Faust's own pages
        for page in ("/table/", "/router/", "/graph/", "/performance/"):
            assert httpx.get(f"http://127.0.0.1:{worker.port}{page}").status_code == 404
