"""GET /changes: tells an open list which of its students have changed, by server-sent events.

Events: `changes` with {revision, entries, left, many}: entries maps the codes of changed entries that are in the list
to their revision, left those that are not (any more); many: more than can be told. `banner` with {html}: the banner is
another one. They say who has changed, not what: the rows are asked for, and recorded, separately.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from page.access.visitor import Visitor
from page.store.changed import changed_since
from page.store.meta import read_meta
from page.web.banner import Banner, banner_of
from page.web.hub import MOST, Listener, News
from page.web.list_query import ListQuery
from page.web.services import Services, services_of, visitor_of
from page.web.students import query_of
from page.web.words import parse_id

#: least time between two events [s], and between two looks at the banner, which also find a browser that is gone
_PAUSE_S, _IDLE_S = 0.5, 5.0
#: a stream ends after this, and the browser opens another, so that no forgotten one stays for ever [s]
_LONGEST_S = 600.0
#: time after which a browser opens a stream again [ms]
_RETRY_MS = 2000


async def changes(request: Request) -> Response:
    """Open a stream of the changes since the revision `since`, or since the last event that the browser has had."""
    query = query_of(request)
    # a browser that opens the stream again sends the id of the last event, and the URL that it had at first
    since = parse_id(request.headers.get("last-event-id", "") or request.query_params.get("since", ""))
    stream = _Stream(services_of(request), visitor_of(request), query)
    return StreamingResponse(stream.events(since), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


class _Stream:
    """The events of one open list."""

    def __init__(self, services: Services, visitor: Visitor, query: ListQuery) -> None:
        self._services, self._visitor, self._course = services, visitor, query.course
        self._chosen = query.chosen(visitor.name)
        self._banner: Banner | None = None
        self._has_banner = False

    async def events(self, since: int | None) -> AsyncIterator[str]:
        """Yield the events, until the page stops or the stream is old."""
        with self._services.hub.listen(self._visitor, self._course) as listener:
            yield f"retry: {_RETRY_MS}\n\n"
            if since is not None:
                yield await run_in_threadpool(self._missed, since)
            async for event in self._live(listener):
                yield event

    async def _live(self, listener: Listener) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        end = loop.time() + _LONGEST_S
        looked = float("-inf")
        while not listener.is_closed and loop.time() < end:
            if loop.time() - looked >= _IDLE_S:
                looked, before = loop.time(), self._banner
                yield await run_in_threadpool(self._banner_event)
                if before is not None and before.kind == "loading" and self._banner != before:
                    yield await run_in_threadpool(self._loaded)
            news = await listener.wait(_IDLE_S)
            if news:
                yield self._event(news)
                await asyncio.sleep(_PAUSE_S)

    def _missed(self, since: int) -> str:
        """The event of what has changed since a revision: between the page and its stream, or while it was closed."""
        connection = self._services.database.read()
        meta = read_meta(connection)
        if meta.revision == since:
            return ": nothing\n\n"
        found = None
        if meta.revision > since:
            found = changed_since(connection, self._visitor.courses, self._course, since, MOST)
        # a revision that is not reached yet is of a database that was built again since
        return self._event(News(meta.revision, dict(found or {}), meta.today, many=found is None))

    def _loaded(self) -> str:
        """The event of all that was read while the topics were loaded, of which the hub does not tell."""
        return self._event(News(read_meta(self._services.database.read()).revision, many=True))

    def _event(self, news: News) -> str:
        """The event of changes. Asks nobody, so that all streams together take little time of the event loop."""
        entries: dict[str, int] = {}
        left: dict[str, int] = {}
        for key, entry in news.entries.items():
            token = self._services.tokens.encode(*key)
            if entry is not None and entry.meets(self._chosen, news.today):
                entries[token] = entry.revision
            else:
                left[token] = news.revision if entry is None else entry.revision
        data = {"revision": news.revision, "entries": entries, "left": left, "many": news.many}
        return _text("changes", data, news.revision)

    def _banner_event(self) -> str:
        """The event of another banner, else a comment."""
        banner = banner_of(self._services)
        if self._has_banner and banner == self._banner:
            return ": still here\n\n"
        self._banner, self._has_banner = banner, True
        macros: Any = self._services.templates.get_template("macros.html").module
        return _text("banner", {"html": "" if banner is None else str(macros.banner(banner))})


def _text(name: str, data: dict[str, Any], number: int | None = None) -> str:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


ROUTES = [Route("/changes", changes)]
