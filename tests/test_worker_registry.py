"""An outage of the schema registry: known schemas keep flowing, a new one waits, nothing is lost or skipped."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import fastavro
import pytest

import stack
from codec.record import Row
from tests.support.cluster import SCHEMA, START, TIMEOUT_S, Deployment, row, until, visit

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
    deployment = Deployment.new(own_cluster, tmp_path)
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
        # the waiting record holds back what was fetched with it and after it: the order is kept
        deployment.send(source, [visit(known, 8, START + 3 * MINUTE)], 1)
        deployment.send(source, [wide_visit(new, 9, START + 3 * MINUTE), row(b"\1bad")])
        stats = worker.wait(lambda s: sum(s["lag"].values()) >= 5, timeout=TIMEOUT_S)
        assert totals(deployment) == {7: 2, 8: 2}
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
