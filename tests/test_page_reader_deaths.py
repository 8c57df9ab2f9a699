"""The reader of the advisers' page is killed while it loads: the tables are what the topics say, row by row."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import stack
from codec.record import NO_HEADERS, Row
from tests.support import page_rows
from tests.support.cluster import Deployment
from tests.support.page_deployment import HISTORY_DAYS, declare, expected
from tests.support.page_reader_process import reader_process
from tests.support.page_tables import contents, open_database

pytestmark = pytest.mark.broker

#: enough that loading takes some seconds, and longer than all readers that are killed live
STUDENTS, DAYS = 1_500, 10


def rows(choose: random.Random) -> tuple[list[Row], list[Row]]:
    """Rows of the risk and of sessions: many revisions, tombstones, extended sessions, and some that are none."""
    risks: list[Row] = []
    sessions: list[Row] = []
    for day in range(page_rows.TODAY - DAYS + 1, page_rows.TODAY + 1):
        text, noon = page_rows.day_text(day), day * page_rows.DAY_MS + 43_200_000
        for student in range(1, STUDENTS + 1):
            row = page_rows.risk_row(student, 1, round(choose.random(), 4), "LOW", AS_OF=text)
            risks.append((noon, *row[1:]))
            if choose.random() < 0.02:
                risks.append((noon, row[1], None, NO_HEADERS))
            if choose.random() < 0.01:
                risks.append((noon, row[1], b"no row", NO_HEADERS))
            if choose.random() < 0.3:
                _, key, *_ = first = page_rows.session_row(student, noon, noon + 60_000, 2)
                sessions += [first, (noon, key, None, NO_HEADERS)]
                sessions.append(page_rows.session_row(student, noon, noon + 90_000, 3))
    return risks, sessions


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.long)])
def test_nothing_is_lost_and_nothing_counts_twice(cluster: stack.Environment, tmp_path: Path, kills: int) -> None:
    deployment = Deployment.new(cluster, tmp_path, RISK_MODEL="")
    declare(deployment)
    choose = random.Random(kills)
    risks, sessions = rows(choose)
    deployment.send(deployment.names.risk, risks)
    deployment.send(deployment.names.sessions, sessions)
    letters = [page_rows.dead_letter(choose.choice(("truncated", "malformed")), i) for i in range(3_000)]
    deployment.send(deployment.names.dead_letters, letters)
    with reader_process(deployment.variables, tmp_path / "page" / "page.sqlite3", HISTORY_DAYS) as readers:
        seen = []
        for _ in range(kills):
            readers.run_for(choose.uniform(0.05, 0.6))
            database = open_database(tmp_path / "page")
            seen.append(sum(row[2] for row in contents(database.read())["position"]))
            database.close()
        assert seen == sorted(seen)  # it goes on where it was
        assert len(set(seen)) > kills // 4, seen
        readers.start()
        assert readers.wait() == "live"
    database = open_database(tmp_path / "page")
    assert contents(database.read()) == expected(deployment, tmp_path / "expected")
    database.close()
