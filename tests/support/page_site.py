"""The site of the advisers' page over a database whose rows a test writes, without Kafka."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx
from jinja2 import Environment
from starlette.applications import Starlette
from starlette.types import Message

from app.settings import Settings
from models.assessment import Band
from page.access.gate import Gate, Refused
from page.access.throttle import Throttle
from page.access.tokens import Tokens
from page.access.visitor import Visitor
from page.cases.actions import State as CaseState
from page.cases.audit import Look, NotWritten
from page.reader.state import Phase, State
from page.store.database import Database
from page.store.ranking import rank
from page.web.hub import Hub
from page.web.render import new_templates
from page.web.services import Services
from page.web.site import create_site
from page.web.static import Static

#: the newest day of the rows: 2013-11-20
TODAY = 16_029
DAY_MS = 86_400_000
CSRF = "token-of-the-form"


@dataclass
class AuditBook:
    """An audit in memory."""

    records: list[tuple[str, Look, list[tuple[int, int]], dict[str, Any]]] = field(default_factory=list)
    is_broken: bool = False

    @contextmanager
    def recording(self, *args: Any, **detail: Any) -> Iterator[None]:
        """Keep a record at the end."""
        yield
        self.record(*args, **detail)

    def record(
        self,
        visitor: Visitor | str,
        what: Look,
        entries: Sequence[tuple[int, int]] = (),
        *,
        address: str = "",
        **detail: Any,
    ) -> None:
        """Keep a record."""
        if self.is_broken:
            raise NotWritten("audit")
        name = visitor if isinstance(visitor, str) else visitor.name
        self.records.append((name, what, list(entries), {"address": address, **detail}))


@dataclass
class Reader:
    """A reader that has nothing to do."""

    state: State = field(default_factory=lambda: State(Phase.LIVE, 1.0, is_complete=True))


@dataclass
class Names:
    """A gate that believes the header x-user."""

    visitors: dict[str, Visitor]
    logins: None = None

    def visitor(self, origin: object, headers: Sequence[tuple[bytes, bytes]], cookie: str) -> Visitor | Refused:
        """Return who asks; `all` where nobody is named."""
        name = next((value.decode() for key, value in headers if key == b"x-user"), "all")
        return self.visitors.get(name) or Refused(403, "Who?", "Nobody of this name.")


class Events:
    """What has arrived on a stream: name, data and id of each event; the name of a comment is empty."""

    def __init__(self) -> None:
        self.asked = False
        self.status = 0
        self._arrived: asyncio.Queue[tuple[str, Any, str]] = asyncio.Queue()

    async def send(self, message: Message) -> None:
        """Take what the site sends."""
        self.status = message.get("status", self.status)
        for part in message.get("body", b"").decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in part.splitlines() if line and line[0] != ":")
            if "event" in fields:
                await self._arrived.put((fields["event"], json.loads(fields["data"]), fields.get("id", "")))

    async def next(self, name: str = "changes", timeout_s: float = 5.0) -> Any:
        """Return the data of the next event of a name."""
        async with asyncio.timeout(timeout_s):
            while True:
                event, data, _ = await self._arrived.get()
                if event == name:
                    return data


@dataclass
class Site:
    """A site and what a test needs of it."""

    services: Services
    app: Starlette
    audit: AuditBook
    reader: Reader

    def get(self, url: str, user: str = "all") -> httpx.Response:
        """GET a URL as a user."""
        return asyncio.run(self._send("GET", url, user))

    def post(self, url: str, form: dict[str, str], user: str = "all") -> httpx.Response:
        """POST a form with its token as a user."""
        return asyncio.run(self._send("POST", url, user, data={"csrf": CSRF, **form}))

    async def _send(self, method: str, url: str, user: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, url, headers={"x-user": user}, **options)

    @asynccontextmanager
    async def events(self, url: str, user: str = "all", last_event_id: str = "") -> AsyncIterator[Events]:
        """Open a stream of server-sent events, as a browser does; it is gone at the end."""
        path, _, query = url.partition("?")
        headers = [(b"host", b"127.0.0.1"), (b"x-user", user.encode()), (b"last-event-id", last_event_id.encode())]
        scope = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "query_string": query.encode(),
            "headers": headers,
            "client": ("127.0.0.1", 50_000),
        }
        gone = asyncio.Event()
        events = Events()

        async def receive() -> Message:
            if not events.asked:
                events.asked = True
                return {"type": "http.request", "body": b""}
            await gone.wait()
            return {"type": "http.disconnect"}

        stream = asyncio.ensure_future(_run(self.app(scope, receive, events.send)))
        try:
            yield events
            gone.set()
            await asyncio.wait_for(stream, 5)
        finally:
            stream.cancel()

    def token(self, student: int, course: int = 1) -> str:
        """What stands for an entry in URLs."""
        return self.services.tokens.encode(student, course)

    def add(self, student: int, course: int = 1, **fields: Any) -> None:
        """Write an entry as of TODAY; fields: columns of the table `entry`."""
        add_entry(self.services.database, student, course, **fields)


@cache
def _templates(settings: Settings) -> tuple[Static, Environment]:
    """Assets and templates, which take longer to compile than most tests."""
    static = Static()
    return static, new_templates(settings, static)


@contextmanager
def site(directory: Path, *visitors: Visitor, **settings: str) -> Iterator[Site]:
    """Make a site; visitors: beside `all`, who sees all courses; settings: RISK_ variables."""
    values = Settings.from_env({"RISK_PAGE_STALE_HOURS": "0", **settings})
    database = Database.open(directory / "page.sqlite3")
    static, templates = _templates(values)
    audit, reader = AuditBook(), Reader()
    known = {each.name: replace(each, csrf=CSRF) for each in (Visitor("all"), *visitors)}
    services = Services(
        settings=values,
        database=database,
        follower=cast(Any, reader),
        hub=Hub(),
        desk=cast(Any, None),
        audit=cast(Any, audit),
        tokens=Tokens(b"k" * 32, plain=values.ids_in_url),
        templates=templates,
        throttle=Throttle(),
        gate=cast(Gate, Names(known)),
        static=static,
    )
    app = create_site(services)
    try:
        yield Site(services, app, audit, reader)
    finally:
        database.close()


async def _run(work: Awaitable[None]) -> None:
    await work


def add_entry(database: Database, student: int, course: int = 1, **fields: Any) -> None:
    """Write or replace an entry as of TODAY, and raise the revision."""
    with database.write() as connection:
        row = connection.execute("SELECT value FROM meta WHERE name = 'revision'").fetchone()
        revision = 1 if row is None else row[0] + 1
        values: dict[str, Any] = {
            "risk": 2000,
            "band": Band.LOW,
            "alert": 0,
            "since": None,
            "reasons": [],
            "cohort_n": 35,
            "as_of": TODAY,
            "at": TODAY * DAY_MS,
            "model": "v2s-0123456789ab",
            "visit_days": 1,
            "submission_days": 0,
            "last_visit": TODAY,
            "week_ago": None,
            "state": CaseState.OPEN,
            "assignee": None,
            "revision": revision,
            **fields,
        }
        values["reasons"] = json.dumps(values["reasons"])
        values["rank"] = rank(
            band=values["band"],
            risk=values["risk"],
            alert=bool(values["alert"]),
            since=values["since"],
            state=values["state"],
            handled=values["since"],
        )
        names = ", ".join(("student", "course", *values))
        marks = ", ".join("?" * (len(values) + 2))
        numbers = [int(v) if isinstance(v, (Band, CaseState)) else v for v in values.values()]
        connection.execute("DELETE FROM entry WHERE student = ? AND course = ?", (student, course))
        connection.execute(f"INSERT INTO entry ({names}) VALUES ({marks})", (student, course, *numbers))
        for name, value in (("revision", revision), ("today", TODAY), ("newest_event", TODAY * DAY_MS)):
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def text_of(answer: httpx.Response) -> str:
    """What an answer says, without markup and with ordinary spaces."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", answer.text))).replace("\N{NO-BREAK SPACE}", " ")
