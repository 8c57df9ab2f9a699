"""The audit: who has looked at which students, when, and what else was done on the page. Records of `<app>-page-audit`.

A record is written before the answer is sent: what cannot be recorded is not shown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

from page.access.visitor import Visitor
from page.cases.records import USER_CHARACTERS
from page.cases.writer import NotWritten, Writer
from page.store.layout import SITE

__all__ = ["Audit", "Look", "NotWritten"]

#: most entries in one record, so that it fits into a record batch; a longer list is divided
_ENTRIES = 10_000
#: most characters of a text in a record
_CHARACTERS = 500

Detail = str | int | bool | None


class Look(StrEnum):
    """What was done."""

    LIST = "list"
    STUDENT = "student"
    COURSE = "course"
    #: students.csv
    EXPORT = "export"
    #: cases.csv
    CASES = "cases"
    SEARCH = "search"
    #: an attempt; the topic of the cases says whether it was accepted
    ACTION = "action"
    #: entries that were sent to an open page
    CHANGES = "changes"
    LOGIN = "login"
    LOGIN_REFUSED = "login-refused"
    LOGOUT = "logout"


class Audit:
    """Writes the audit. Used by the threads that serve requests; blocks them until the record is on all replicas."""

    def __init__(self, writer: Writer, topic: str, clock: Callable[[], float] = time.time) -> None:
        self._writer, self._topic, self._clock = writer, topic, clock

    def record(
        self,
        visitor: Visitor | str,
        what: Look,
        entries: Sequence[tuple[int, int]] = (),
        *,
        address: str = "",
        **detail: Detail,
    ) -> None:
        """Record what a visitor does; a name stands for one who has not logged in.

        entries: the students and courses that the answer shows; address: from which the request came; detail: what
        else belongs to it, such as the filter of a list. Raises NotWritten: the answer must not be sent.
        """
        with self.recording(visitor, what, entries, address=address, **detail):
            pass

    @contextmanager
    def recording(
        self,
        visitor: Visitor | str,
        what: Look,
        entries: Sequence[tuple[int, int]] = (),
        *,
        address: str = "",
        **detail: Detail,
    ) -> Iterator[None]:
        """Begin to `record`, and wait at the end of the with block: for an answer that is made meanwhile."""
        at = round(1000 * self._clock())
        name = visitor if isinstance(visitor, str) else visitor.name
        head = {"AT": at, "USER": _shown(name, USER_CHARACTERS), "WHAT": what.value, "ADDRESS": _shown(address)}
        more = {"DETAIL": {name: _shown(each) if isinstance(each, str) else each for name, each in detail.items()}}
        rows: list[tuple[bytes | None, bytes]] = [
            (None, json.dumps(head | more | part, ensure_ascii=False, separators=(",", ":")).encode())
            for part in _parts(entries)
        ]
        with self._writer.writing(self._topic, rows, at):
            yield


def _parts(entries: Sequence[tuple[int, int]]) -> Iterator[dict[str, object]]:
    """Divide the entries among records."""
    for low in range(0, max(len(entries), 1), _ENTRIES):
        part = entries[low : low + _ENTRIES]
        yield {"ENTRIES": [[student, None if course == SITE else course] for student, course in part]}


def _shown(text: str, characters: int = _CHARACTERS) -> str:
    """Return a text that anybody may have sent, short enough and expressible in UTF-8."""
    return text[:characters].encode("utf-8", "replace").decode()
