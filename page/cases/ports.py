"""What the cases need of the thread that reads the topics (page/reader/follow.py), and of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Reader(Protocol):
    """A thread with an event loop that applies the topics to the database."""

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin to run a coroutine on the thread's event loop. Raises RuntimeError if the thread has ended."""

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the thread's event loop and return its result.

        Raises TimeoutError, and RuntimeError if the thread has ended.
        """

    def wait_for(self, topic: str, offset: int, timeout_s: float) -> bool:
        """Wait until the record at `offset` of partition 0 is in the database; return whether it is."""


class Tables(Protocol):
    """The page's database."""

    def read(self) -> sqlite3.Connection:
        """Return this thread's connection for queries."""
