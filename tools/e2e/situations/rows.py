"""Rows of a source topic, good ones and every kind of bad one."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.padded_bytes import split, varints
from tools.e2e.situations.schemas import EVOLVED, KEY, LOG, NULLABLE, OTHER_TOPIC, STRING_USER, UNKNOWN
from tools.replay import debezium
from tools.replay.log_rows import LogRows

#: kinds of rows that count, besides plain ones; a tombstone has no effect
GOOD = (
    "evolved",
    "null-student",
    "context-headers",
    "trace-header",
    "large-header",
    "large-name",
    "tombstone",
    "future",
)
#: kinds of rows that become dead letters
BAD = (
    "bad-magic", "empty", "truncated", "negative-time", "time-too-large", "key-schema", "other-topic", "unknown-id",
    "eight-byte-id", "string-user", "large-and-bad",
)  # fmt: skip
#: kinds of rows that count as a visit, the others have no effect or are bad
COUNTED = frozenset({"plain", *GOOD} - {"tombstone"})

MINUTE, DAY = 60_000, 86_400_000
#: number of students
STUDENTS = 5
#: the earliest time of a row, before the run [ms]
SPAN_MS = 6 * 60 * MINUTE


@dataclass(frozen=True, slots=True)
class RowSpec:
    """A row: what it is, and its bytes."""

    #: its number in the situation
    number: int
    kind: str
    partition: int
    #: userid, None for null
    student: int | None
    #: event time relative to the start of the run [ms]
    offset_ms: int
    headers: Sequence[tuple[str, bytes]] = field(default=())

    @property
    def counts(self) -> bool:
        """Whether it is a visit, unless a setting refuses its time."""
        return self.kind in COUNTED

    def value(self, now_ms: int, unit_ms: int) -> bytes | None:
        """Return its bytes; now_ms: the start of the run, unit_ms: unit of timecreated."""
        at = now_ms + self.offset_ms
        good = _encode(LOG, self.number, self.student or 0, at, unit_ms)
        match self.kind:
            case "tombstone":
                return None
            case "evolved":
                return good.replace(_head(LOG), _head(EVOLVED), 1) + b"\x02\x06web"  # one more nullable column
            case "null-student":
                return _null_student(self.number, at // unit_ms)
            case "bad-magic":
                return b"\x01" + good[1:]
            case "empty":
                return b""
            case "truncated":
                return good[:-2]
            case "negative-time":
                return _encode(LOG, self.number, self.student or 0, -5 * unit_ms, unit_ms)
            case "time-too-large":
                return _encode(LOG, self.number, self.student or 0, 2**63 - 1, 1)
            case "key-schema":
                return _head(KEY) + _long(self.number)
            case "other-topic":
                return _head(OTHER_TOPIC) + _long(self.number) + _text("name")
            case "string-user":
                return _head(STRING_USER) + _long(self.number) + _text("e") + _text("7") + _long(at // unit_ms)
            case "unknown-id":
                return good.replace(_head(LOG), _head(UNKNOWN), 1)
            case "eight-byte-id":
                return b"\0" + struct.pack(">q", LOG) + good[5:]
            case "large-and-bad":
                return b"\x01" + bytes(950_000)
            case "large-name":
                return _encode(LOG, self.number, self.student or 0, at, unit_ms, "e" * 300_000)
        return good


def draw_row(rng: random.Random, number: int, kind: str, partition: int) -> RowSpec:
    """Draw a row of this kind: times rise, with some disorder that is far from late."""
    offset_ms = -SPAN_MS + number * MINUTE + rng.choice((0, 0, 0, -30 * MINUTE))
    if kind == "future":
        offset_ms += rng.choice((2 * 60 * MINUTE, 2 * DAY, 400 * DAY))
    headers: list[tuple[str, bytes]] = []
    if kind == "context-headers":
        headers = [(f"__debezium.context.{name}", b"moodle") for name in ("connectorName", "taskId")]
    elif kind == "trace-header":
        headers = [("traceparent", b"00-%032x" % number)]
    elif kind == "large-header":
        headers = [("blob", bytes(rng.choice((1_000, 150_000, 600_000))))]
    student = None if kind == "null-student" else rng.randrange(1, STUDENTS + 1)
    return RowSpec(number, kind, partition, student, offset_ms, headers)


def _encode(schema_id: int, number: int, student: int, at: int, unit_ms: int, name: str = "e") -> bytes:
    unit = np.array([1])
    rows = LogRows(unit * number, unit - 1, (name,), unit * student, np.array([at]))
    return debezium.values(rows, schema_id, unit_ms=unit_ms)[0]


def _null_student(number: int, at: int) -> bytes:
    """A row of NULLABLE: {id, eventname, userid: null, timecreated}."""
    return _head(NULLABLE) + _long(number) + _text("e") + b"\0" + b"\x02" + _long(at)


def _head(schema_id: int) -> bytes:
    return b"\0" + struct.pack(">i", schema_id)


def _long(number: int) -> bytes:
    """An Avro long."""
    return split([varints(np.array([number]))])[0]


def _text(text: str) -> bytes:
    return _long(len(text)) + text.encode()
