"""Keys, times and rows as a person reads them."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

from tools.parity.live.content import Key

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: a session's key ends in its end and its start, int64 each, big-endian
_WINDOW = struct.Struct(">qq")


def time(ms: int) -> str:
    """ISO 8601 in UTC; a time outside the calendar as the number it is [ms]."""
    try:
        return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    except OverflowError:
        return f"{ms} ms"


def session(key: Key) -> str:
    """The key of a session: whose, from when to when, how long."""
    if key is None or len(key) < _WINDOW.size:
        return plain(key)
    end, start = _WINDOW.unpack(key[-_WINDOW.size :])
    return f"{plain(key[: -_WINDOW.size])}, {time(start)} to {time(end)} ({(end - start) // 1000:,} s)"


def plain(key: Key) -> str:
    """A key that is a user id."""
    return "no key" if key is None else f"student {text(key)}"


def text(value: bytes) -> str:
    """Bytes as text; what does not print is escaped, so that a row stays one line."""
    found = value.decode("utf-8", "backslashreplace")
    return found if found.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in found)
