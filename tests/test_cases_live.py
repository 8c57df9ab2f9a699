"""Cases on a real broker: two pages at once, cases that are erased, what Kafka does not confirm, topics and rights."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.kafka.topics import wanted
from page.access.visitor import Visitor
from page.cases.actions import Kind
from page.cases.audit import Look
from page.cases.desk import Done, Refused
from page.cases.records import Proposal, encode
from page.cases.topics import prepare
from page.cases.writer import NotWritten
from tests.support import page_rows
from tests.support.case_pages import CasePage, running
from tests.support.cluster import Deployment, row, run_async, until

pytestmark = pytest.mark.broker

ENTRIES = ((1, 10), (1, 11), (2, 10))


@pytest.fixture
def deployment(deployment: Deployment) -> Deployment:
    """A deployment with the topics of a worker and of the page, and a risk of each of ENTRIES."""
    deployment.declare(*wanted(deployment.names, 1))
    assert run_async(prepare(deployment.settings)) == []
    risks = [page_rows.risk_row(student, course, 0.8, "HIGH") for student, course in ENTRIES]
    deployment.send(deployment.names.risk, risks)
    return deployment


def test_two_pages_at_once_come_to_the_same(deployment: Deployment, tmp_path: Path) -> None:
    """Of actions made for one version one is done; a page built anew knows the same. The audit has all looks."""
    settings, told = deployment.settings, Counter[str]()
    ids = map("action-{:05}".format, itertools.count())
    with running(settings, tmp_path / "1") as one, running(settings, tmp_path / "2") as two:

        def visit(user: int) -> None:
            """Look and act, six times, on either page."""
            rng = random.Random(user)
            for _ in range(6):
                page, entry = rng.choice((one, two)), rng.choice(ENTRIES)
                version, action = page.version(entry), next(ids)
                page.audit.record(f"user {user}", Look.STUDENT, [entry])
                answer = page.desk.act(Visitor(f"user {user}"), *entry, version, "note", action, note="x")
                told[action] = isinstance(answer, Done)
                if isinstance(answer, Refused):
                    assert answer.happened[0].version == version + 1

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(visit, range(8)))
        catch_up(deployment, one, two)
        accepted = [r[3] for r in one.rows() if len(r) == 9]
        assert sorted(accepted) == sorted(action for action, done in told.items() if done)
        assert 0 < len(accepted) < 48
        assert one.rows() == two.rows()
        with running(settings, tmp_path / "3") as anew:
            assert anew.rows() == one.rows()
    looks = [json.loads(record.value or b"") for record in deployment.read(deployment.names.page_audit)]
    assert Counter(look["USER"] for look in looks) == {f"user {n}": 6 for n in range(8)}


def catch_up(deployment: Deployment, *pages: CasePage) -> None:
    """Wait until pages have read all cases."""
    end = deployment.ends(deployment.names.cases)[deployment.names.cases]
    for page in pages:
        assert page.follower.wait_for(deployment.names.cases, end - 1, 60)


def test_a_case_is_erased_while_the_page_runs(deployment: Deployment, tmp_path: Path) -> None:
    """By tombstones as `forget` writes them; a case that nobody has a risk for any more is kept for its return."""
    with running(deployment.settings, tmp_path) as page:
        for entry in ENTRIES:
            page.desk.act(Visitor("ann"), *entry, 0, "contact", "action-1")
        keys = [r.key for r in deployment.read(deployment.names.cases) if r.key and r.key.startswith(b"1|")]
        deployment.send(deployment.names.cases, [row(None, key) for key in keys])
        until(lambda: page.version(ENTRIES[0]), lambda version: version == 0)
        until(lambda: page.version(ENTRIES[1]), lambda version: version == 0)
        assert page.version(ENTRIES[2]) == 1
        _, key, _, headers = page_rows.risk_row(*ENTRIES[2], 0.8, "HIGH")
        deployment.send(deployment.names.risk, [(None, key, None, headers)])
        gone = "SELECT count(*) FROM entry WHERE student = 2"
        until(lambda: page.database.read().execute(gone).fetchone()[0], lambda count: count == 0)
        deployment.send(deployment.names.risk, [page_rows.risk_row(*ENTRIES[2], 0.4, "RAISED")])
        until(lambda: page.database.read().execute(gone).fetchone()[0], lambda count: count == 1)
        assert page.version(ENTRIES[2]) == 1


def test_rows_that_are_none_stop_nothing(deployment: Deployment, tmp_path: Path) -> None:
    """They are counted, and the next action is done."""
    key, value = encode(Proposal("action-1", *ENTRIES[0], 0, Kind.NOTE, "ann", 5, "x"), "1")
    rows = [row(b"\xff", b"k"), row(value[:-5], key), row(None, b"x|y"), row(b"", b"7|3"), row(value, key)]
    deployment.send(deployment.names.cases, rows)
    with running(deployment.settings, tmp_path) as page:
        assert page.version(ENTRIES[0]) == 1
        counted = dict(page.database.read().execute("SELECT reason, number FROM unreadable").fetchall())
        assert sum(counted.values()) == 4
        assert isinstance(page.desk.act(Visitor("ann"), *ENTRIES[0], 1, "contact", "action-2"), Done)


def test_what_kafka_does_not_confirm_is_not_said_to_be_done(deployment: Deployment, tmp_path: Path) -> None:
    """A topic that is gone: NotWritten, for actions and for the audit; other topics go on with another producer."""
    with running(deployment.settings, tmp_path, timeout_s=2.0) as page:
        with pytest.raises(NotWritten):
            page.writer.write(f"{deployment.names.cases}-none", [(None, b"x")])
        page.audit.record("ann", Look.LOGIN)
        page.writer.close()
        page.follower.stop()
        with pytest.raises(NotWritten):
            page.audit.record("ann", Look.LOGIN)
        with pytest.raises(NotWritten):
            page.desk.act(Visitor("ann"), *ENTRIES[0], 0, "contact", "action-1")


def test_the_audit_is_kept_as_the_setting_says(deployment: Deployment) -> None:
    """A topic that is there already is not changed: a line says what to set. Nor may it have other partitions."""
    (line,) = run_async(prepare(kept_for(deployment, "30").settings))
    assert line.endswith(
        "keeps the audit for 365 days, and RISK_PAGE_AUDIT_DAYS is 30: set retention.ms=2592000000 "
        "(kafka-configs --alter --add-config)"
    )
    (line,) = run_async(prepare(kept_for(deployment, "400").settings))
    assert "has retention.ms=31536000000: records are lost early; set 34560000000" in line


def kept_for(deployment: Deployment, days: str) -> Deployment:
    return replace(deployment, variables={**deployment.variables, "RISK_PAGE_AUDIT_DAYS": days})


def test_a_page_before_its_worker_says_so(cluster, tmp_path: Path) -> None:
    lines = run_async(prepare(Deployment.new(cluster, tmp_path).settings))
    assert len(lines) == 3
    assert all("does not exist yet" in line for line in lines)


def test_no_broker_is_one_line(tmp_path: Path, cluster) -> None:
    settings = Deployment.new(cluster, tmp_path, RISK_BROKER="127.0.0.1:1").settings
    with pytest.raises(ConfigError, match="no Kafka broker answers"):
        run_async(prepare(settings))
