"""Log values as fastavro reads them, to check the app's decoder against."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fastavro

from codec.avro_schema import UnusableSchema, check, plan
from models.decoded import DecodedChunk
from models.rules import MAX_AT
from tests.support.log_samples import LogSample


@dataclass(frozen=True)
class Verdict:
    """The reference's reading of a value."""

    #: "read", or the reason for a reject; "damaged" where fastavro raises
    reason: str
    #: userid and timecreated, if it was read
    row: tuple[int | None, int | None] | None = None
    #: whether the value is byte for byte what fastavro would write for the row
    canonical: bool = True


class Reference:
    """Reads values of a sample with fastavro."""

    def __init__(self, sample: LogSample) -> None:
        self._schemas, self._unreadable = {}, set()
        #: names of int columns, by schema id: fastavro reads them as longs
        self._ints: dict[int, set[str]] = {}
        for number, schema in sample.schemas.items():
            try:
                plan(schema, check(sample.latest, "t"))
            except UnusableSchema:
                self._unreadable.add(number)  # test_avro_schema.py checks these against KSQL
            else:
                plain = json.loads(json.dumps(_plain(schema)))
                self._schemas[number] = fastavro.parse_schema(plain)
                self._ints[number] = {f["name"].upper() for f in plain["fields"] if "int" in (f["type"], *f["type"])}

    def read(self, value: bytes) -> Verdict:
        """Read one value in the registry's wire format."""
        if value[:1] not in (b"", b"\0"):
            return Verdict("bad-magic")
        if len(value) < 5:
            return Verdict("truncated")
        number = int.from_bytes(value[1:5], "big")
        if number not in self._schemas:
            return Verdict("type-mismatch" if number in self._unreadable else "unknown-schema")
        schema, body = self._schemas[number], io.BytesIO(value[5:])
        try:
            row = fastavro.schemaless_reader(body, schema)
        except Exception:  # fastavro documents none
            return Verdict("damaged")
        columns = {name.upper(): column for name, column in row.items()}
        for name in self._ints[number]:
            if columns[name] is not None:
                zigzag = ((columns[name] << 1) ^ (columns[name] >> 63)) & 0xFFFF_FFFF  # Java drops the upper bits
                columns[name] = (zigzag >> 1) ^ -(zigzag & 1)
        canonical = bool(fastavro.validate(row, schema, raise_errors=False))
        if canonical:
            written = io.BytesIO()
            fastavro.schemaless_writer(written, schema, row)
            canonical = written.getvalue() == value[5 : 5 + body.tell()]
        return Verdict("read", (columns.get("USERID"), columns.get("TIMECREATED")), canonical)


def check_decoded(reference: Reference, values: Sequence[bytes], decoded: DecodedChunk) -> Counter[str]:
    """Check what the app made of each value against the reference. Returns how often each reason occurred.

    "laxer" counts values that only fastavro can read.
    """
    reasons: Counter[str] = Counter()
    visits = dict(visits_of(decoded))
    rejects = {reject.index: reject for reject in decoded.rejects}
    assert len(visits) + len(rejects) == len(values)
    for i, value in enumerate(values):
        expected = reference.read(value)
        reason = rejects[i].reason if i in rejects else "read"
        reasons[reason] += 1
        if reason == "read":
            assert expected.reason == "read", (value, expected)
            assert expected.row is not None
            assert visits[i] == (expected.row[0], expected.row[1] or 0), value
        elif reason in ("truncated", "malformed") and expected.reason == "read":
            assert not expected.canonical, (value, rejects[i])  # fastavro is laxer, but not about its own output
            reasons["laxer"] += 1
        elif reason in ("negative-time", "time-too-large"):
            assert expected.row is not None
            at = expected.row[1] or 0
            assert at < 0 if reason == "negative-time" else at > MAX_AT
        else:
            unreadable = expected.reason == "damaged" and reason in ("truncated", "malformed")
            assert unreadable or expected.reason == reason, (value, rejects[i])
    return reasons


def visits_of(decoded: DecodedChunk, first: int = 0) -> list[tuple[int, tuple[int | None, int]]]:
    """Index of each value that was read, counted from `first`, with its userid and time [ms]."""
    columns = zip(
        decoded.row.tolist(), decoded.student.tolist(), decoded.null.tolist(), decoded.at.tolist(), strict=True
    )
    return [(first + row, (None if null else student, at)) for row, student, null, at in columns]


def _plain(schema: Any) -> Any:
    """A schema without logical types, and with bytes for strings, which need not be UTF-8."""
    if isinstance(schema, list):
        return [_plain(branch) for branch in schema]
    if isinstance(schema, str):
        return "bytes" if schema == "string" else schema
    if schema["type"] == "record":
        return {**schema, "fields": [{"name": f["name"], "type": _plain(f["type"])} for f in schema["fields"]]}
    if schema["type"] in ("array", "map"):
        inner = "items" if schema["type"] == "array" else "values"
        return {"type": schema["type"], inner: _plain(schema[inner])}
    return schema if schema["type"] in ("enum", "fixed") else _plain(schema["type"])
