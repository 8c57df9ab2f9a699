"""Keys, times and values as readable text."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

from tools.parity.live.content import Key

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: suffix of a session's key: end and start, int64 each, big-endian
_WINDOW = struct.Struct(">qq")


def format_time(ms: int) -> str:
    """Return ISO 8601 in UTC; a time outside the calendar's range as a number [ms]."""
    try:
        return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    except OverflowError:
        return f"{ms} ms"


def format_session_key(key: Key) -> str:
    """Return a session key's student, start, end and duration."""
    if key is None or len(key) < _WINDOW.size:
        return format_student_key(key)
    end, start = _WINDOW.unpack(key[-_WINDOW.size :])
    student = format_student_key(key[: -_WINDOW.size])
    return f"{student}, {format_time(start)} to {format_time(end)} ({(end - start) // 1000:,} s)"


def format_student_key(key: Key) -> str:
    """Return a key that is a user id as text."""
    return "no key" if key is None else f"student {format_bytes(key)}"


def format_bytes(value: bytes) -> str:
    """Return UTF-8 text with unprintable characters escaped, so that a row stays on one line."""
    text = value.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
