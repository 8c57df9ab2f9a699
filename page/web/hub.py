"""Hands the changes of entries from the thread that reads the topics to the browsers that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from page.access.visitor import Visitor
from page.store.changed import Changed, ChangedEntry, Key

#: a browser that is behind by more entries than this is told "many" instead
MOST = 2000


class Changes(Protocol):
    """What a batch has changed, after its commit."""

    @property
    def revision(self) -> int:
        """The database's revision after the batch."""

    @property
    def entries(self) -> Changed:
        """The entries that have changed, or are gone."""

    @property
    def today(self) -> int | None:
        """The day of the newest event."""

    @property
    def new_day(self) -> bool:
        """Whether that is another day than before, which changes what is said of every entry."""


@dataclass(slots=True)
class News:
    """What a listener has not been told yet."""

    revision: int = 0
    entries: dict[Key, ChangedEntry | None] = field(default_factory=dict)
    today: int | None = None
    #: there are more than MOST, or all of them
    many: bool = False

    def __bool__(self) -> bool:
        return self.many or bool(self.entries)


class Listener:
    """One event stream, on the event loop that serves it."""

    def __init__(self, visitor: Visitor, course: int | None, lock: Lock) -> None:
        """Listen to the entries that `visitor` sees; course: only to those of this one, None: to all."""
        self._visitor, self._course, self._lock = visitor, course, lock
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._news = News()
        self._awake = False
        self.is_closed = False

    def offer(self, changes: Changes) -> None:
        """Add changes, on any thread, with the lock held."""
        wanted = {key: entry for key, entry in changes.entries.items() if self._wants(key[1])}
        if not wanted and not changes.new_day:
            return
        news = self._news
        news.revision, news.today = changes.revision, changes.today
        news.many |= changes.new_day or len(wanted) + len(news.entries) > MOST
        if news.many:
            news.entries.clear()
        else:
            news.entries.update(wanted)
        self._wake()

    def close(self) -> None:
        """Tell the stream to end, on any thread, with the lock held."""
        self.is_closed = True
        self._wake()

    async def wait(self, timeout_s: float) -> News:
        """Wait for changes and take them; empty ones after `timeout_s` without any."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return News()
        with self._lock:
            news, self._news = self._news, News()
            self._awake = False
            self._woken.clear()
        return news

    def _wants(self, course: int) -> bool:
        return self._visitor.sees(course) if self._course is None else course == self._course

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._woken.set)


class Hub:
    """All event streams of a page. Any thread may publish; streams listen on their event loop."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners: set[Listener] = set()
        self._is_closed = False

    def publish(self, changes: Changes) -> None:
        """Tell the listeners what a batch has changed. Returns at once."""
        with self._lock:
            for listener in self._listeners:
                listener.offer(changes)

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        with self._lock:
            self._is_closed = True
            for listener in self._listeners:
                listener.close()

    @contextmanager
    def listen(self, visitor: Visitor, course: int | None = None) -> Iterator[Listener]:
        """Listen to the changes that a visitor may see, of one course or of all."""
        listener = Listener(visitor, course, self._lock)
        with self._lock:
            self._listeners.add(listener)
            if self._is_closed:
                listener.close()
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def __len__(self) -> int:
        with self._lock:
            return len(self._listeners)
