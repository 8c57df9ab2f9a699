"""The record that holds one student: totals and open sessions, packed as little-endian int64 words.

    word 0        version of this layout
    words 1…4     activities, seconds, sessions, at        (models/totals.py)
    then, three words a session: start, end, count          (models/sessions.py, ascending)

The same bytes are kept in memory, written to RocksDB and to the changelog, and they are packed and
unpacked for a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.sessions import Sessions
from models.totals import Totals

#: layout written by this code; an older one is still read, a newer one is refused
VERSION = 1
_HEAD = 5
_SESSION = 3
_WORD = 8


class StateError(ValueError):
    """A state record that this code cannot read: damaged, or written by a newer version."""


def unpack(records: Sequence[bytes | None]) -> tuple[Totals, Sessions]:
    """Totals [u] and sessions of u students; None is a student never seen.

    Raises StateError for a record of another version or of an impossible length.
    """
    fresh = pack_one_empty()
    packed = [fresh if r is None else r for r in records]
    length = np.fromiter(map(len, packed), np.int64, len(packed))
    if (bad := (length < _HEAD * _WORD) | (length % _WORD != 0) | ((length // _WORD - _HEAD) % _SESSION != 0)).any():
        raise StateError(f"a state record of {length[bad][0]} bytes is damaged")
    words = np.frombuffer(b"".join(packed), "<i8").astype(np.int64, copy=False)
    size = length // _WORD
    head = np.cumsum(size) - size
    version = words[head]
    if (version != VERSION).any():
        other = int(version[version != VERSION][0])
        raise StateError(
            f"a state record has layout version {other}, this program reads up to {VERSION}: "
            "run the version that wrote it, or wipe state and changelog to begin anew"
        )
    n = (size - _HEAD) // _SESSION
    first = np.repeat(head + _HEAD - _SESSION * (np.cumsum(n) - n), n) + _SESSION * np.arange(n.sum())
    owner = np.repeat(np.arange(len(packed)), n)
    sessions = Sessions(owner, words[first], words[first + 1], words[first + 2])
    return Totals(words[head + 1], words[head + 2], words[head + 3], words[head + 4]), sessions


def pack(totals: Totals, sessions: Sessions) -> list[bytes]:
    """One record for each of the u students of `totals`; `sessions` are sorted by (owner, start)."""
    u = len(totals)
    n = np.bincount(sessions.owner, minlength=u).astype(np.int64)
    size = _HEAD + _SESSION * n
    stop = np.cumsum(size)
    head = stop - size
    words = np.empty(int(stop[-1]) if u else 0, "<i8")
    words[head] = VERSION
    for place, column in enumerate((totals.activities, totals.seconds, totals.sessions, totals.at), 1):
        words[head + place] = column
    first = np.repeat(head + _HEAD - _SESSION * (np.cumsum(n) - n), n) + _SESSION * np.arange(len(sessions))
    words[first], words[first + 1], words[first + 2] = sessions.start, sessions.end, sessions.count
    raw = words.tobytes()
    cuts = (stop * _WORD).tolist()
    return [raw[a:b] for a, b in zip([0, *cuts[:-1]], cuts, strict=True)] if u else []


def pack_one_empty() -> bytes:
    """The record of a student never seen."""
    return np.array([VERSION, 0, 0, 0, -1], "<i8").tobytes()
