"""The registry away for a while: what is known goes on, what is new waits, and nothing is lost or skipped."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest

import stack
from codec.record import Row
from tests.support import cluster as live
from tests.support.cluster import PATIENCE_S, Place, row, visit

pytestmark = pytest.mark.broker

NOW = live.START
MINUTE = 60_000


@pytest.fixture
def own(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """A broker and a registry that may be killed."""
    directory = tmp_path_factory.mktemp("outage")
    yield stack.up(directory, owner_pid=os.getpid())
    stack.down(directory)


def wider(column: str = "origin") -> dict[str, Any]:
    """The schema with a column more, as after an upgrade of Moodle."""
    return {**live.SCHEMA, "fields": [*live.SCHEMA["fields"], {"name": column, "type": "string", "default": ""}]}


def wide(schema_id: int, student: int, at: int, column: str = "origin") -> Row:
    """A row with the new column."""
    body = io.BytesIO()
    record = {"id": 1, "eventname": "e", "userid": student, "timecreated": at, column: "web"}
    fastavro.schemaless_writer(body, fastavro.parse_schema(json.loads(json.dumps(wider(column)))), record)
    return row(b"\0" + schema_id.to_bytes(4, "big") + body.getvalue())


def totals(place: Place) -> dict[int, int]:
    """Events counted so far, by student."""
    rows = [json.loads(r.value) for r in place.read(place.names.agg) if r.value is not None]
    return {r["USERID"]: r["ACTIVITIES"] for r in rows}


def test_records_of_a_new_schema_wait_for_the_registry(own, tmp_path):
    """Known schemas need no registry; a new one is asked for until it is there, and what stands behind waits too."""
    place = Place.new(own, tmp_path)
    known = place.make_source(2)
    with place.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=PATIENCE_S)
        new = place.register(wider())
        assert new != known
        # not even the known one has been met in a record yet: the look before the start is enough
        stack.kill("registry", own.directory)
        for i in range(2):
            place.send(place.names.source, [visit(known, 7, NOW + MINUTE + i), visit(known, 8, NOW + MINUTE + i)], i)
        live.until(lambda: totals(place), lambda n: n == {7: 2, 8: 2})

        place.send(place.names.source, [visit(known, 7, NOW + 2 * MINUTE), wide(new, 9, NOW + 2 * MINUTE)])
        waits = f"no answer for schemas/ids/{new} (ConnectError"
        live.until(lambda: worker.log.read_text().count(waits), lambda n: n >= 3)
        # the record that waits holds back what was fetched with it and after it: order is kept
        place.send(place.names.source, [visit(known, 8, NOW + 3 * MINUTE)], 1)
        place.send(place.names.source, [wide(new, 9, NOW + 3 * MINUTE), row(b"\1bad")])
        stats = worker.wait(lambda s: sum(s["lag"].values()) >= 5, timeout=PATIENCE_S)
        assert totals(place) == {7: 2, 8: 2}
        assert stats["problem"] is None
        assert "rejected" not in stats["counts"]
        assert place.read(place.names.dead_letters) == []

        stack.restart("registry", own.directory)
        live.until(lambda: totals(place), lambda n: n == {7: 3, 8: 3, 9: 2})
        stats = worker.wait_idle(timeout=PATIENCE_S)
        assert stats["counts"]["rejected"] == {"bad-magic": 1}
        assert stats["counts"]["visits"] == 8
        assert worker.stop() == 0
    (letter,) = place.read(place.names.dead_letters)
    assert letter.value == b"\1bad"
    assert "waiting, next attempt in" in worker.log.read_text()


def test_a_worker_that_ends_while_it_waits_loses_nothing(own, tmp_path):
    """Stopped or killed in the middle of an outage: the next one reads the record again."""
    place = Place.new(own, tmp_path)
    known = place.make_source()
    for end in ("stop", "kill"):
        with place.worker() as worker:
            worker.wait_idle(timeout=PATIENCE_S)
            before = sum(totals(place).values())
            new = place.register(wider(end))
            stack.kill("registry", own.directory)
            place.send(place.names.source, [visit(known, 7, NOW + MINUTE), wide(new, 9, NOW + MINUTE, end)])
            live.until(lambda w=worker, new=new: f"no answer for schemas/ids/{new}" in w.log.read_text())
            getattr(worker, end)()
            assert sum(totals(place).values()) == before
        stack.restart("registry", own.directory)
    with place.worker() as worker:
        worker.wait_idle(timeout=PATIENCE_S)
        live.until(lambda: totals(place), lambda n: n == {7: 2, 9: 2})
    assert place.read(place.names.dead_letters) == []
