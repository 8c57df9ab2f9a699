"""An outage of the schema registry: known schemas keep flowing, a new one waits, nothing is lost or skipped."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import fastavro
import httpx
import pytest

import stack
from codec.record import Row
from tests.support.cluster import SCHEMA, START, TIMEOUT_S, Deployment, row, until, visit
from tests.support.stub_server import StubServer, running

pytestmark = pytest.mark.broker

MINUTE = 60_000


@pytest.fixture(scope="module")
def own_cluster(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """A broker, and a registry that each test kills and restarts."""
    directory = tmp_path_factory.mktemp("outage")
    yield stack.up(directory, owner_pid=os.getpid())
    stack.down(directory)


def wider_schema(column: str = "origin") -> dict[str, Any]:
    """Return the schema with one more column, as after an upgrade of Moodle."""
    return {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": column, "type": "string", "default": ""}]}


def wide_visit(schema_id: int, student: int, at: int, column: str = "origin") -> Row:
    """Return a row with the new column."""
    body = io.BytesIO()
    record = {"id": 1, "eventname": "e", "userid": student, "timecreated": at, column: "web"}
    fastavro.schemaless_writer(body, fastavro.parse_schema(json.loads(json.dumps(wider_schema(column)))), record)
    return row(b"\0" + schema_id.to_bytes(4, "big") + body.getvalue())


def totals(deployment: Deployment) -> dict[int, int]:
    """Return the number of events counted so far, by student."""
    rows = [json.loads(r.value) for r in deployment.read(deployment.names.agg) if r.value is not None]
    return {r["USERID"]: r["ACTIVITIES"] for r in rows}


def test_records_of_a_new_schema_wait_for_the_registry(own_cluster, tmp_path):
    """Known schemas need no registry; a new one is requested until it arrives, and the records behind it wait."""
    # a slow machine may need a minute to restart the registry
    deployment = Deployment.new(own_cluster, tmp_path, RISK_STALL_TIMEOUT="600")
    known, source = deployment.make_source(2), deployment.names.source
    with deployment.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        new = deployment.register(wider_schema())
        assert new != known
        # no record has used even the known schema yet: preflight has fetched it
        stack.kill("registry", own_cluster.directory)
        for i in range(2):
            rows = [visit(known, 7, START + MINUTE + i), visit(known, 8, START + MINUTE + i)]
            deployment.send(source, rows, i)
        until(lambda: totals(deployment), lambda n: n == {7: 2, 8: 2})

        rows = [visit(known, 7, START + 2 * MINUTE), wide_visit(new, 9, START + 2 * MINUTE)]
        deployment.send(source, rows)
        retry = f"no answer for schemas/ids/{new} (ConnectError"
        until(lambda: worker.log.read_text().count(retry), lambda n: n >= 3)
        # the waiting record holds back what follows it in its partition; the other partition goes on
        deployment.send(source, [wide_visit(new, 9, START + 3 * MINUTE), row(b"\1bad")])
        deployment.send(source, [visit(known, 8, START + 3 * MINUTE)], 1)
        until(lambda: totals(deployment), lambda n: n == {7: 2, 8: 3})
        stats = worker.wait(lambda s: sum(s["lag"].values()) >= 4, timeout=TIMEOUT_S)
        assert stats["problem"] is None
        assert "rejected" not in stats["counts"]
        assert deployment.read(deployment.names.dead_letters) == []

        stack.restart("registry", own_cluster.directory)
        until(lambda: totals(deployment), lambda n: n == {7: 3, 8: 3, 9: 2})
        stats = worker.wait_idle(timeout=TIMEOUT_S)
        assert stats["counts"]["rejected"] == {"bad-magic": 1}
        assert stats["counts"]["visits"] == 8
        assert worker.stop() == 0
    (dead_letter,) = deployment.read(deployment.names.dead_letters)
    assert dead_letter.value == b"\1bad"
    assert "waiting, next attempt in" in worker.log.read_text()


@pytest.mark.long  # the next but one test has the outage, tests/test_worker_deaths.py the ends
def test_a_worker_that_ends_while_it_waits_loses_nothing(own_cluster, tmp_path):
    """A worker is stopped or killed during an outage: the next one reads the waiting record again."""
    deployments, workers, ids = {}, {}, {}
    with ExitStack() as running:
        for end in ("stop", "kill"):  # one outage for both
            (tmp_path / end).mkdir()
            deployments[end] = deployment = Deployment.new(own_cluster, tmp_path / end)
            known = deployment.make_source()
            workers[end] = worker = running.enter_context(deployment.worker())
            worker.wait_idle(timeout=TIMEOUT_S)
            ids[end] = known, deployment.register(wider_schema(end))
            deployment.send(deployment.names.source, [visit(known, 7, START)])
            until(lambda deployment=deployment: totals(deployment), lambda n: n == {7: 1})
        stack.kill("registry", own_cluster.directory)
        for end, deployment in deployments.items():
            known, new = ids[end]
            rows = [visit(known, 7, START + MINUTE), wide_visit(new, 9, START + MINUTE, end)]
            deployment.send(deployment.names.source, rows)
            until(lambda worker=workers[end], new=new: f"no answer for schemas/ids/{new}" in worker.log.read_text())
            getattr(workers[end], end)()
            assert totals(deployment) == {7: 1}
    stack.restart("registry", own_cluster.directory)
    for deployment in deployments.values():
        with deployment.worker() as worker:
            worker.wait_idle(timeout=TIMEOUT_S)
            until(lambda deployment=deployment: totals(deployment), lambda n: n == {7: 2, 9: 1})
        assert deployment.read(deployment.names.dead_letters) == []


class Replica(StubServer):
    """A registry behind a proxy and a cache: for a while it does not know some ids, or does not answer at all."""

    def __init__(self, registry: str) -> None:
        super().__init__()
        self._registry = registry
        #: answers before the right one, by the end of the path
        self.late: dict[str, list[tuple[int, Any]]] = {}

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        """Forward a GET unless there are other answers left."""
        late = self.late.get(path.rpartition("/")[2])
        if late:
            return late.pop(0)
        response = httpx.get(f"{self._registry}{path}", timeout=TIMEOUT_S, trust_env=False)
        return response.status_code, response.content


UNKNOWN = 404, {"error_code": 40403, "message": "Schema not found"}


def test_an_id_that_the_registry_knows_a_second_later_costs_no_row(own_cluster, tmp_path):
    """404, an error page and an answer that is none are waited out; what the registry never knows is given up."""
    deployment = Deployment.new(own_cluster, tmp_path, RISK_REGISTRY_PATIENCE="4", RISK_STALL_TIMEOUT="5")
    known, new = deployment.make_source(2), deployment.register(wider_schema())
    unknown = 1_999_999
    source = deployment.names.source
    with (
        running(Replica(own_cluster.registry)) as replica,
        deployment.worker(RISK_SCHEMA_REGISTRY=replica.url) as worker,
    ):
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        replica.late[str(new)] = [UNKNOWN, UNKNOWN, (502, b"<html>"), (404, b"<html>"), (200, b"<html>"), UNKNOWN]
        deployment.send(source, [wide_visit(new, 9, START + i) for i in range(30)])
        deployment.send(source, [visit(known, 8, START)], 1)
        until(lambda: totals(deployment), lambda n: n == {8: 1, 9: 30})
        assert "rejected" not in worker.stats()["counts"]

        # four seconds in vain are no stall, although the worker has nothing else to do
        deployment.send(source, [visit(unknown, 7, START), visit(known, 7, START)])
        until(lambda: totals(deployment), lambda n: n == {7: 1, 8: 1, 9: 30})
        assert worker.stats()["counts"]["rejected"] == {"unknown-schema": 1}
        assert worker.stop() == 0
    assert f"no schema with id {unknown} yet; requesting it for 4 s" in worker.log.read_text()


def test_a_worker_that_can_use_no_record_is_unhealthy(own_cluster, tmp_path):
    """Ids that mean the key's schema: nothing counts as somebody's or nobody's, and /health says why."""
    deployment = Deployment.new(own_cluster, tmp_path)
    known = deployment.make_source()
    fields = [{"name": "id", "type": "long"}]
    key = deployment.register({"type": "record", "name": "Key", "fields": fields}, f"{deployment.names.source}-key")
    with deployment.worker() as worker, httpx.Client(trust_env=False, timeout=TIMEOUT_S) as client:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        deployment.send(deployment.names.source, [visit(key, 7, START + i) for i in range(20)])
        worker.wait(lambda stats: stats["problem"] == "rejecting", timeout=TIMEOUT_S)
        response = client.get(f"http://127.0.0.1:{worker.port}/health")
        assert response.status_code == 503
        assert response.json()["healthy"] is False
        assert "wrong-schema: schema id" in response.json()["reason"]
        deployment.send(deployment.names.source, [visit(known, 7, START)])
        worker.wait_idle(timeout=TIMEOUT_S)
        assert totals(deployment) == {7: 1}
        assert worker.stats()["counts"]["rejected"] == {"wrong-schema": 20}
        assert worker.stop() == 0
    log = worker.log.read_text()
    assert len(deployment.read(deployment.names.dead_letters)) == 20
    assert log.count("it is no row of the log; its records become dead letters") == 1
