"""State records: a student's totals and open sessions, packed as little-endian int64 words.

    word 0        version of this layout in the low half, checksum in the high half
    words 1…4     activities, seconds, sessions, at        (models/totals.py)
    then, three words per session: start, end, count        (models/sessions.py, ascending)

The same bytes are kept in memory and written to RocksDB and to the changelog; a whole batch is packed or unpacked at
once. RocksDB and Kafka have their own checksums, but damage that happens outside of them would silently change a
student's numbers: therefore `check` every record that comes from a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from models.rules import Bools, Int64s
from models.sessions import Sessions
from models.totals import Totals

#: layout that this code reads and writes
VERSION = 2
_HEAD = 5
_SESSION = 3
_WORD = 8
_LOW = 0xFFFF_FFFF
#: weights of the two sums in a checksum: one odd and one even, so that a change of a single word is always detected
_WEIGHT_1, _WEIGHT_2 = 0x1E3779B97F4A7C15, 0x2545F4914F6CDD1E


class StateError(ValueError):
    """A state record that this code cannot read: damaged, or NewerState; `index`: its index among several."""

    index = 0


class NewerState(StateError):
    """An intact state record that only a newer version of this program can read."""


def unpack(records: Sequence[bytes | None]) -> tuple[Totals, Sessions]:
    """Totals [u] and sessions of u students; None stands for a student without a record.

    Raises StateError for a record of another version or of an invalid length.
    """
    packed = [_EMPTY if r is None else r for r in records]
    length = np.fromiter(map(len, packed), np.int64, len(packed))
    if (bad := (length < _HEAD * _WORD) | (length % _WORD != 0) | ((length // _WORD - _HEAD) % _SESSION != 0)).any():
        raise StateError(f"a state record of {length[bad][0]} bytes is damaged")
    words = np.frombuffer(b"".join(packed), "<i8").astype(np.int64, copy=False)
    size = length // _WORD
    head = np.cumsum(size) - size
    version = words[head] & _LOW
    if (version < VERSION).any():
        raise StateError("a state record is damaged: its layout version is unknown")
    if (newer := version > VERSION).any():
        raise NewerState(_too_new("a state record", int(version[newer][0]), VERSION))
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
    for i, column in enumerate((totals.activities, totals.seconds, totals.sessions, totals.at), 1):
        words[head + i] = column
    first = np.repeat(head + _HEAD - _SESSION * (np.cumsum(n) - n), n) + _SESSION * np.arange(len(sessions))
    words[first], words[first + 1], words[first + 2] = sessions.start, sessions.end, sessions.count
    words[head] = VERSION | checksum(words, head, VERSION) << 32
    raw = words.tobytes()
    return [raw[a:b] for a, b in pairwise([0, *(stop * _WORD).tolist()])]


def pack_tables(version: int, owner: Int64s, heads: Int64s, table: Int64s) -> list[bytes | None]:
    """One record for each of u owners: its words of `heads` [u, h], then its rows of `table` [n, w]; None without rows.

    owner [n]: of each row, ascending; in front of each record is a word with `version` and checksum.
    """
    u, head_size = len(heads), 1 + heads.shape[1]
    n = np.bincount(owner, minlength=u).astype(np.int64)
    has = n > 0
    size = np.where(has, head_size + table.shape[1] * n, 0)
    stop = np.cumsum(size)
    head = (stop - size)[has]
    words = np.empty(int(stop[-1]) if u else 0, "<i8")
    body = np.ones(len(words), np.bool_)
    for i in range(head_size):
        body[head + i] = False
    words[body] = table.reshape(-1)
    for i, column in enumerate(heads.T, 1):
        words[head + i] = column[has]
    words[head] = version | checksum(words, head, version) << 32
    raw = words.tobytes()
    return [raw[a:b] if b > a else None for a, b in pairwise([0, *(stop * _WORD).tolist()])]


def empty_record() -> bytes:
    """The record of a student without visits."""
    return pack_words(VERSION, np.array([0, 0, 0, 0, -1], np.int64))


def pack_words(version: int, words: Int64s) -> bytes:
    """A record of `words` [w], the first of which is replaced by version and checksum."""
    record = words.astype("<i8")
    record[:1] = version | checksum(record, np.zeros(1, np.int64), version) << 32
    return record.tobytes()


def version_of(record: bytes) -> int:
    """The layout version that a record claims, 0 if it is too short to claim one; see `check`."""
    return int.from_bytes(record[:4], "little") if len(record) >= _WORD else 0


def check(records: Sequence[bytes], expected: int, what: str) -> None:
    """Verify the checksums and layout versions of records [u] that were made by `pack` or `pack_words`.

    expected: the version this program reads and writes; what: the name of such a record in messages.
    Raises StateError for the first damaged record, NewerState for the first of a newer version. Every later
    layout keeps the first word as it is, so that a newer record is distinguished from a damaged one.
    """
    length = np.fromiter(map(len, records), np.int64, len(records))
    if (bad := (length == 0) | (length % _WORD != 0)).any():
        raise located(StateError, bad, f"{what} is damaged: it has {length[bad][0]} bytes")
    words = np.frombuffer(b"".join(records), "<i8").astype(np.int64, copy=False)
    size = length // _WORD
    check_words(words, np.cumsum(size) - size, expected, what)


def check_words(words: Int64s, head: Int64s, expected: int, what: str, *, verify: bool = True) -> None:
    """Verify records [u] whose `words` begin at `head` [u], or only their versions; see `check`."""
    version: Int64s = words[head] & _LOW
    bad = version < expected
    if verify:
        bad |= (words[head] >> 32 & _LOW) != checksum(words, head, version)
    if bad.any():
        size = np.diff(np.append(head, len(words)))[bad][0]
        raise located(StateError, bad, f"{what} of {_WORD * size} bytes is damaged: wrong checksum or version")
    if (bad := version > expected).any():
        raise located(NewerState, bad, _too_new(what, int(version[bad][0]), expected))


def checksum(words: Int64s, head: Int64s, version: int | Int64s) -> Int64s:
    """A 32-bit checksum of each record [u] of `words`, which begins at `head` [u]; `version` replaces its first word.

    Fletcher's two sums, of the words and of the cumulative sums, modulo 2**64: five passes over all records, whereas
    a CRC would need a call per record. Each word is folded first, so that its high bits affect the result as its low
    bits do.
    """
    folded = words >> 32
    folded ^= words
    folded[head] = version
    cumulative = np.cumsum(folded)
    sum_1 = np.add.reduceat(folded, head) if len(head) else head
    size = np.diff(np.append(head, len(words)))
    sum_2 = (np.add.reduceat(cumulative, head) if len(head) else head) - size * (cumulative[head] - folded[head])
    result: Int64s = (sum_1 * _WEIGHT_1 + sum_2 * _WEIGHT_2) >> 32 & _LOW
    return result


def located(kind: type[StateError], bad: Bools, text: str) -> StateError:
    """An error about the first of several records that is `bad` [u]."""
    error = kind(text)
    error.index = int(np.argmax(bad))
    return error


def _too_new(what: str, version: int, expected: int) -> str:
    return f"{what} has layout version {version}, this program reads {expected}: run the version that wrote it"


#: the record of a student without visits
_EMPTY = empty_record()
