"""The advisers' page on a broker that tests share, and Debian's Chromium that opens it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import httpx
from argon2 import PasswordHasher
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Response, sync_playwright
from playwright.sync_api import Page as Tab

import stack
from app.kafka.topics import wanted
from codec.record import Row
from page.access.users import User, write
from tests.support import page_rows
from tests.support.cluster import TIMEOUT_S, Deployment
from tests.support.programs import require
from tools.e2e.page import Page

P = ParamSpec("P")
T = TypeVar("T")

#: a browser waits at most this long for anything [ms]
WAIT_MS = 20_000
#: rules of axe-core that stand for WCAG 2.2, levels A and AA, and its best practices
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def student_link(tab: Tab, student: int) -> Locator:
    """The link to a student's page in the list."""
    return tab.locator("table.students tbody th").get_by_role("link", name=re.compile(rf"\b{student}$"))


def aside(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call something that runs an event loop of its own: while Playwright runs, this thread has one already."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(call, *args, **kwargs).result()


@dataclass
class Site:
    """A page with its topics, which hold the rows of tests/support/page_rows.py."""

    deployment: Deployment
    page: Page

    @property
    def url(self) -> str:
        """The address of the page, without a slash at the end."""
        return self.page.url.rstrip("/")

    def send(self, topic: str, rows: Sequence[Row]) -> None:
        """Write rows to a topic."""
        aside(self.deployment.send, topic, rows)

    def send_risk(self, *rows: Row) -> None:
        """Write rows of MOODLE_RISK."""
        self.send(self.deployment.names.risk, rows)

    def client(self, **options: Any) -> httpx.Client:
        """Return an HTTP client of the page, which follows no redirects unless the options say so."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=TIMEOUT_S, **options)


@contextmanager
def running_site(
    servers: stack.Environment, directory: Path, *, rows: bool = True, number: int = 1, **variables: str
) -> Iterator[Site]:
    """Run a page over topics of its own; rows: whether they have any; variables: further settings.

    The rows are of 2013, so the page does not warn of their age unless the settings say so.
    """
    own = {"RISK_PAGE_STALE_HOURS": "0", "RISK_PAGE_DATADIR": str(directory / f"page-{number}"), "RISK_MODEL": ""}
    deployment = Deployment.new(servers, directory, **{**own, **variables})
    aside(deployment.declare, *wanted(deployment.names, 1))
    if rows:
        for topic, of_topic in page_rows.topics(deployment.names).items():
            aside(deployment.send, topic, of_topic)
    with running_page(deployment, number) as page:
        yield Site(deployment, page)


@contextmanager
def running_page(
    deployment: Deployment, number: int = 1, *, timeout: float = TIMEOUT_S, **variables: str
) -> Iterator[Page]:
    """Run one more page over the topics of a deployment, and wait until it has read them for at most `timeout` s.

    variables: override the deployment's settings.
    """
    own = {"RISK_PAGE_DATADIR": str(deployment.directory / f"page-{number}")}
    page = Page({**deployment.variables, **own, **variables}, deployment.directory / f"page-{number}.log")
    with page:
        page.wait(timeout=timeout)
        yield page


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium; skip the test without it, or fail it in CI. Meanwhile asyncio runs `aside` only."""
    path = require("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A visitor's browser: a context with cookies of its own, and one tab. Collects what went wrong in it."""

    context: BrowserContext
    tab: Tab
    problems: list[str] = field(default_factory=list)

    def goto(self, url: str, *, status: int = 200) -> Tab:
        """Open a page that answers with `status`, and return the tab."""
        answer = self.tab.goto(url)
        assert answer is not None
        assert answer.status == status, f"{url}: {answer.status} {self.tab.content()[:500]}"
        return self.tab

    def log_in(self, site: Site, name: str, password: str) -> None:
        """Log in with the form."""
        self.goto(f"{site.url}/login")
        self.tab.get_by_label("Name").fill(name)
        self.tab.get_by_label("Password").fill(password)
        self.tab.get_by_role("button", name="Log in").click()


@contextmanager
def visit(browser: Browser, **options: Any) -> Iterator[Visit]:
    """Open a context; options: of Browser.new_context. At its end, nothing may have gone wrong in it.

    Errors of scripts, refusals by the Content-Security-Policy and requests to other hosts are problems.
    """
    context = browser.new_context(**{"locale": "en-GB", "timezone_id": "Europe/London", **options})
    context.set_default_timeout(WAIT_MS)
    tab = context.new_page()
    seen = Visit(context, tab)
    expected = ("the server responded with a status of",)

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(text in message.text for text in expected):
            seen.problems.append(f"{message.type}: {message.text}")

    def look(response: Response) -> None:
        if not response.url.startswith(("http://127.0.0.1:", "http://localhost:", "data:")):
            seen.problems.append(f"asked another host: {response.url}")

    context.on("console", listen)
    context.on("weberror", lambda error: seen.problems.append(str(error.error)))
    context.on("response", look)
    try:
        yield seen
    finally:
        context.close()
    assert seen.problems == []


def violations(tab: Tab, *rules: str) -> list[str]:
    """What axe-core finds on a page, a line for each element; rules: only these, default all of RULES."""
    options = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else RULES
    found = Axe().run(tab, options=options).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]} - {node['failureSummary'][:300]}"
        for rule in found
        for node in rule["nodes"]
    ]


def overflow(tab: Tab) -> int:
    """By how many pixels a page is wider than its window."""
    return int(tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def users_file(path: Path, users: Mapping[str, tuple[str, frozenset[int] | None]]) -> Path:
    """Write users as `faust -A app page-user` does, with hashes that are fast. users: name → password, courses."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    write(path, [User(name, courses, hasher.hash(password)) for name, (password, courses) in users.items()])
    return path
