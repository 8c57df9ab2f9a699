"""A worker that has caught up: single events, bad records among them, restarts, and state only in the changelog."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.support.cluster import START, TIMEOUT_S, Deployment, row, until, visit

pytestmark = pytest.mark.broker

MINUTE = 60_000
#: upper bound for the latency of a single event on a busy machine [s]
LATENCY_S = 2.0


def ready(stats: dict) -> bool:
    return stats["problem"] is None


def last_total(deployment: Deployment) -> dict[str, int]:
    rows = deployment.read(deployment.names.agg)
    return json.loads(rows[-1].value or b"{}") if rows else {}


def wait_for_activities(deployment: Deployment, n: int) -> None:
    until(lambda: last_total(deployment).get("ACTIVITIES", 0), lambda activities: activities == n)


def test_a_single_event_comes_out_at_once_and_a_restart_writes_nothing_again(deployment):
    """A single event is a batch of its own; a worker restarted on a log it has read adds no row."""
    schema, names = deployment.make_source(2), deployment.names
    with deployment.worker() as worker:
        worker.wait(ready, timeout=TIMEOUT_S)
        for i in range(3):
            deployment.send(names.source, [visit(schema, 7, START + i * MINUTE)], i % 2)
            sent = time.monotonic()
            wait_for_activities(deployment, i + 1)
            assert time.monotonic() - sent < LATENCY_S
        assert json.loads(deployment.read(names.prediction)[-1].value or b"{}")["USERID"] == 7
        worker.wait_idle(timeout=TIMEOUT_S)
        assert worker.stop() == 0
    before = deployment.outputs()
    with deployment.worker() as again:
        again.wait_idle(timeout=TIMEOUT_S)
        assert again.stats()["counts"].get("visits", 0) == 0
    assert deployment.outputs() == before


def test_bad_records_become_dead_letters_and_the_good_ones_around_them_count(deployment):
    """Bad magic byte, unknown schema id, truncated, negative time, and predictions that are not strict JSON."""
    schema, names = deployment.make_source(), deployment.names
    good = visit(schema, 7, START)[2] or b""
    bad = {
        "bad-magic": b"\1" + good[1:],
        "unknown-schema": b"\0" + (99_999).to_bytes(4, "big") + good[5:],
        "truncated": good[:-3],
        "negative-time": visit(schema, 7, -5)[2],
    }
    with deployment.worker() as worker:
        worker.wait(ready, timeout=TIMEOUT_S)
        rows = [visit(schema, 7, START)]
        for value in bad.values():
            rows += [row(value), visit(schema, 7, START + MINUTE)]
        deployment.send(names.source, rows)
        deployment.send(names.prediction, [row(b"{'USERID': 1}"), row(b'{"PREDICTION":0.9}')])
        stats = worker.wait_idle(timeout=TIMEOUT_S, events=len(rows))
        rejected = stats["counts"]["rejected"]
        assert {reason: rejected[reason] for reason in bad} == dict.fromkeys(bad, 1)
        assert sum(rejected.values()) == len(bad) + 1
    assert last_total(deployment)["ACTIVITIES"] == len(bad) + 1
    dead_letters = deployment.read(names.dead_letters)
    source = [r for r in dead_letters if dict(r.headers)["dead-letter.topic"] == names.source.encode()]
    assert [dict(r.headers)["dead-letter.reason"].decode() for r in source] == list(bad)
    assert [dict(r.headers)["dead-letter.offset"] for r in source] == [b"1", b"3", b"5", b"7"]
    assert [r.value for r in source] == list(bad.values())
    (prediction,) = [r for r in dead_letters if r not in source]
    assert prediction.value == b"{'USERID': 1}"
    in_risk = [r.value for r in deployment.read(names.in_risk)]
    assert b'{"USERID":null,"PREDICTION":0.9,"CREATED_DATE":null}' in in_risk


def test_state_that_was_only_in_memory_comes_back_from_the_changelog(cluster, tmp_path):
    """RISK_STORE=memory://: the whole state is in the changelog, and a killed worker loses nothing."""
    deployment = Deployment.new(cluster, tmp_path, RISK_STORE="memory://")
    schema = deployment.make_source(2)
    for end in ("kill", "stop"):
        with deployment.worker() as worker:
            worker.wait(ready, timeout=TIMEOUT_S)
            n = last_total(deployment).get("ACTIVITIES", 0)
            deployment.send(deployment.names.source, [visit(schema, 7, START + n * MINUTE)], n % 2)
            wait_for_activities(deployment, n + 1)
            getattr(worker, end)()
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S)
        assert worker.stats()["students"] in (0, 1)  # loaded with the first batch
    assert last_total(deployment)["ACTIVITIES"] == 2
    sessions = [r for r in deployment.read(deployment.names.sessions) if r.value is not None]
    assert json.loads(sessions[-1].value or b"{}")["ACTIVITIES"] == 2


#: /health before the first event
EMPTY_HEALTH = {"healthy": True, "problem": None, "stream_time_ahead_s": None, "cautions": []}


def test_the_health_page_reports_a_healthy_worker(deployment):
    """/health answers 200 and healthy once the worker is ready; /stats has the figures an operator needs."""
    deployment.make_source()
    names = deployment.names
    with deployment.worker() as worker:
        stats = worker.wait(ready, timeout=TIMEOUT_S)
        with httpx.Client(base_url=f"http://127.0.0.1:{worker.port}", trust_env=False) as client:
            response = client.get("/health")
            assert (response.status_code, response.json()) == (200, EMPTY_HEALTH)
            assert {"lag", "rates_per_s", "counts", "students", "model"} <= set(stats)
            assert set(stats["lag"]) == {f"{names.source}-0", f"{names.visits}-0", f"{names.prediction}-0"}
            # none of Faust's own pages
            for page in ("/table/", "/router/", "/graph/", "/performance/"):
                assert client.get(page).status_code == 404


def test_events_within_the_linger_share_a_transaction(deployment):
    """RISK_LINGER_MS: they wait for each other once, from the fetch of the first on, and not at every hop."""
    schema, names = deployment.make_source(), deployment.names
    with deployment.worker(RISK_LINGER_MS="3000") as worker:
        worker.wait(ready, timeout=TIMEOUT_S)
        for student in (1, 2, 3):
            deployment.send(names.source, [visit(schema, student, student * MINUTE)])
        assert deployment.ends(names.prediction)[names.prediction] == 0
        worker.wait(lambda stats: stats["counts"].get("visits", 0) == 3, timeout=TIMEOUT_S)
        assert len(deployment.read(names.prediction)) == 3
        # each transaction has a marker behind its rows
        assert deployment.ends(names.prediction)[names.prediction] == 3 + 1
