"""Recorded cases: KSQL's input and every row it wrote. tests/golden/README.md describes the format."""

from __future__ import annotations

import base64
import gzip
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro

from app.errors import ConfigError
from codec.avro_schema import DeclaredColumns, Json, check
from models.chunk import Headers


@dataclass(frozen=True, slots=True)
class InputRecord:
    """One record written to an input topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One row written by KSQL, or by the app."""

    key: bytes | None
    value: bytes | None
    #: record timestamp [ms]
    timestamp: int
    header_count: int
    #: index of the input that caused the row; -1 if unknown
    source: int


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded run of KSQL."""

    name: str
    #: name of the source topic
    topic: str
    #: the registry's schemas by id
    schemas: dict[int, Json]
    #: the latest schema of the subject when the KSQL statements ran
    latest: Json
    source: list[InputRecord]
    predictions: list[InputRecord]
    #: the rows KSQL wrote, by topic, in order
    expected: dict[str, list[OutputRow]]
    #: the exception KSQL threw, if any
    error: str | None
    #: whether rows were written directly to the sessions topic, which the app does not read
    foreign_sessions: bool

    def declared(self) -> DeclaredColumns:
        """Return the columns KSQL declared. Raises ConfigError if the app refuses the schema."""
        return check(self.latest, self.topic)


def load(path: Path) -> Case:
    """Read a case (.json or .json.gz). Raises ConfigError if the file is not one."""
    try:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return _case(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a recorded case: {type(error).__name__}: {error}") from error


def _case(raw: dict[str, Any]) -> Case:
    schemas = {s["id"]: s["schema"] for s in raw["schemas"]}
    parsed = {i: fastavro.parse_schema(s) for i, s in schemas.items()}
    at_declaration = [s["schema"] for s in raw["schemas"] if not s.get("after")]
    return Case(
        name=raw["name"],
        topic=raw["source_topic"],
        schemas=schemas,
        latest=at_declaration[-1],
        source=[InputRecord(_key(r), _avro(r, parsed), _headers(r)) for r in raw["source"]],
        predictions=[InputRecord(_key(r), _text(r), _headers(r)) for r in raw["prediction"]],
        expected={topic: [_output_row(r) for r in rows] for topic, rows in raw["expected"].items()},
        error=raw.get("error"),
        foreign_sessions="sessions_raw" in raw,
    )


def _key(record: dict[str, Any]) -> bytes | None:
    if "key_b64" in record:
        return None if record["key_b64"] is None else base64.b64decode(record["key_b64"])
    key = record.get("key")
    return None if key is None else str(key).encode()


def _text(record: dict[str, Any]) -> bytes | None:
    if "raw_b64" in record:
        return base64.b64decode(record["raw_b64"])
    value = record.get("value")
    return None if value is None else str(value).encode()


def _avro(record: dict[str, Any], schemas: dict[int, Any]) -> bytes | None:
    if "raw_b64" in record:
        return base64.b64decode(record["raw_b64"])
    if record.get("value") is None:
        return None
    schema_id = record.get("schema", 1)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schemas[schema_id], record["value"])
    return b"\0" + int(schema_id).to_bytes(4, "big") + body.getvalue()


def _headers(record: dict[str, Any]) -> Headers:
    return [(name, str(value).encode()) for name, value in (record.get("headers") or {}).items()]


def _output_row(row: dict[str, Any]) -> OutputRow:
    value = None if row["value"] is None else row["value"].encode()
    return OutputRow(_key(row), value, row["ts"], row.get("headers", 0), row["src"])
