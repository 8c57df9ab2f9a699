"""Pages are killed while advisers act: whatever was said to be done is done once, and all pages show the same."""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import stack
from app.kafka.topics import wanted
from page.access import visitor as access
from page.cases.audit import Look
from page.cases.desk import Done, NotWritten
from page.cases.topics import prepare
from page.store.rows import CaseRecord
from tests.support import case_pages, page_rows
from tests.support.case_log import folded
from tests.support.cluster import TIMEOUT_S, Deployment, run_async
from tools.e2e.page import Page

pytestmark = [pytest.mark.broker, pytest.mark.long, pytest.mark.timeout(1800)]

ENTRIES = ((1, 10), (1, 11), (2, 10))
KILLS, VISITORS = 20, 4
KINDS = ("contact", "acknowledge", "wrong", "not-applicable", "reopen", "note", "take", "release")
#: after so long an action must have a definite answer, however often it is sent [s]
PATIENCE_S = 300.0
#: for so long a page may start, on a busy machine [s]
START_S = 180.0
#: for so long a broker is away, besides the time that a page waits for it: longer than aiokafka keeps a request [s]
AWAY_S = 20.0


class Visitor:
    """Acts on either of two pages, and sends an action again until there is an answer. Mutable."""

    def __init__(self, number: int, pages: list[Page], stop: threading.Event) -> None:
        self.rng, self.pages, self.stop = random.Random(number), pages, stop
        #: id of an action → whether it was said to be done
        self.told: dict[str, bool] = {}
        #: how often an action had to be sent again
        self.repeated = 0

    def run(self) -> None:
        """Act until told to stop; the last action gets its answer."""
        while not self.stop.wait(self.rng.uniform(0.0, 0.3)):
            entry, kind, action = self.rng.choice(ENTRIES), self.rng.choice(KINDS), secrets.token_urlsafe(16)
            form: dict[str, str] = {}
            give_up = time.monotonic() + PATIENCE_S
            while action not in self.told:
                assert time.monotonic() < give_up, f"no answer to an action for {PATIENCE_S:g} s"
                try:
                    self.send(entry, kind, action, form)
                except httpx.TransportError:
                    time.sleep(0.05)

    def send(self, entry: tuple[int, int], kind: str, action: str, form: dict[str, str]) -> None:
        """Send an action once; form: as it was sent before, filled the first time."""
        page = self.rng.choice(self.pages)
        with httpx.Client(base_url=page.url, trust_env=False, timeout=30.0) as client:
            path = f"student/{entry[0]}.{entry[1]}"
            shown = client.get(path)
            if shown.status_code != 200:  # the page is loading
                time.sleep(0.05)
                return
            fields = dict(re.findall(r'name="(csrf|version)" value="([^"]*)"', shown.text))
            self.repeated += bool(form)
            form.setdefault("version", fields["version"])
            data = {**form, "note": "a note", "csrf": fields["csrf"], "kind": kind, "action_id": action}
            answer = client.post(f"{path}/case", data=data)
        assert answer.status_code in (303, 409, 503), answer.text[:2000]
        if answer.status_code != 503:
            self.told[action] = answer.status_code == 303


@contextmanager
def visiting(pages: list[Page]) -> Iterator[list[Visitor]]:
    """Let VISITORS act meanwhile, and fail if one of them met anything but an answer."""
    stop = threading.Event()
    visitors = [Visitor(number, pages, stop) for number in range(VISITORS)]
    with ThreadPoolExecutor(VISITORS) as pool:
        running = [pool.submit(visitor.run) for visitor in visitors]
        try:
            yield visitors
        finally:
            stop.set()
        for each in running:
            each.result()


def test_pages_that_are_killed_lose_no_action_and_do_none_twice(deployment: Deployment) -> None:
    """Two pages are killed twenty times in turn, at any moment; then one of them is built anew."""
    deployment.declare(*wanted(deployment.names, 1))
    risks = [page_rows.risk_row(student, course, 0.8, "HIGH") for student, course in ENTRIES]
    deployment.send(deployment.names.risk, risks)
    own = {"RISK_PAGE_IDS_IN_URL": "yes", "RISK_PAGE_STALE_HOURS": "0", "RISK_MODEL": ""}
    directories = [deployment.directory / f"page-{number}" for number in (1, 2)]
    pages = [
        Page({**deployment.variables, **own, "RISK_PAGE_DATADIR": str(directory)}, directory.with_suffix(".log"))
        for directory in directories
    ]
    rng = random.Random(15)
    with pages[0], pages[1]:
        for page in pages:
            page.wait(timeout=START_S)
        with visiting(pages) as visitors:
            for kill in range(KILLS):
                time.sleep(rng.uniform(0.0, 2.0))
                page = pages[kill % 2]
                page.kill()
                page.start()
                if rng.random() < 0.5:  # else it is killed again before it has read anything, perhaps
                    page.wait(timeout=START_S)
        for page in pages:
            page.wait(timeout=START_S)
        told = {action: done for visitor in visitors for action, done in visitor.told.items()}
        records = deployment.read(deployment.names.cases)
        rows = folded([CaseRecord(i, r.at, r.key, r.value) for i, r in enumerate(records)])
        accepted = [row[3] for row in rows if len(row) == 9]
        assert sorted(accepted) == sorted(action for action, done in told.items() if done)
        assert sum(visitor.repeated for visitor in visitors) > 0, "no action was ever sent twice"
        assert len(accepted) > KILLS
        shown = [exported(page) for page in pages]
        assert shown[0] == shown[1]
        assert shown[0].count("\r\n") == len(accepted) + 1
        pages[0].stop()
        shutil.rmtree(directories[0])
        pages[0].start().wait(timeout=START_S)
        assert exported(pages[0]) == shown[0]


def exported(page: Page) -> str:
    """The page's cases.csv."""
    answer = httpx.get(f"{page.url}cases.csv", trust_env=False, timeout=TIMEOUT_S)
    assert answer.status_code == 200, answer.text
    return answer.content.decode()


def test_a_broker_that_is_silent_or_killed_loses_nothing(servers: None, tmp_path: Path) -> None:
    """Meanwhile nothing is said to be done; when it is back, the same form is done once, by the same page."""
    environment = stack.up(tmp_path / "stack", owner_pid=os.getpid())
    try:
        deployment = Deployment.new(environment, tmp_path)
        deployment.declare(*wanted(deployment.names, 1))
        assert run_async(prepare(deployment.settings)) == []
        deployment.send(deployment.names.risk, [page_rows.risk_row(1, 10, 0.8, "HIGH")])
        with case_pages.running(deployment.settings, tmp_path, timeout_s=5.0) as page:
            ann, ways = access.Visitor("ann"), ((stack.suspend, stack.resume), (stack.kill, stack.restart))
            for version, (leave, come_back) in enumerate(ways):
                action = f"action-{version}"
                leave("kafka", environment.directory)
                for _ in range(2):
                    with pytest.raises(NotWritten):
                        page.desk.act(ann, 1, 10, version, "note", action, note="x")
                with pytest.raises(NotWritten):
                    page.audit.record(ann, Look.STUDENT, [(1, 10)])
                time.sleep(AWAY_S)
                come_back("kafka", environment.directory)
                deadline = time.monotonic() + TIMEOUT_S
                while True:
                    try:
                        assert isinstance(page.desk.act(ann, 1, 10, version, "note", action, note="x"), Done)
                        break
                    except NotWritten:
                        assert time.monotonic() < deadline
                        time.sleep(0.5)
                page.audit.record(ann, Look.STUDENT, [(1, 10)])
                assert page.version((1, 10)) == version + 1
            records = [
                CaseRecord(i, r.at, r.key, r.value) for i, r in enumerate(deployment.read(deployment.names.cases))
            ]
            assert [row[3] for row in folded(records) if len(row) == 9] == ["action-0", "action-1"]
    finally:
        stack.down(environment.directory)
