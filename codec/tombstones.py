"""Tombstones for students who are forgotten: rows without a value, for every key that belongs to one of them."""

from __future__ import annotations

from collections.abc import Sequence

from codec.output_rows import session_key
from codec.record import Row
from models.chunk import Headers
from models.forgotten import HEADER
from models.sessions import Sessions


def forgotten_headers(at: int) -> Headers:
    """The header by which such a tombstone is told from others; at: stream time [ms]."""
    return [(HEADER, b"%d" % at)]


def forgotten_at(headers: Headers) -> int | None:
    """The stream time [ms] in the header of a forgotten student's tombstone, None if there is none."""
    for name, value in headers:
        if name == HEADER and value is not None and value.isdigit() and len(value) < 20:
            return min(int(value), (1 << 63) - 1)
    return None


def of_keys(keys: Sequence[bytes], at: int) -> list[Row]:
    """A tombstone for each of `keys` [k], with the timestamp `at` [ms]."""
    headers = forgotten_headers(at)
    return [(at, key, None, headers) for key in keys]


def of_sessions(keys: Sequence[bytes], sessions: Sessions, at: int) -> list[Row]:
    """A tombstone for each of `sessions`, with its end as timestamp; keys [u]: of their owners."""
    headers = forgotten_headers(at)
    columns = zip(sessions.owner.tolist(), sessions.start.tolist(), sessions.end.tolist(), strict=True)
    return [(end, session_key(keys[owner], start, end), None, headers) for owner, start, end in columns]
