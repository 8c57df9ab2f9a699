"""Recorded cases: what went into KSQL, and every row that came out. tests/golden/README.md has the format."""

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
class Input:
    """One record put into a topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Expected:
    """One row KSQL wrote."""

    key: bytes | None
    value: bytes | None
    at: int
    headers: int
    #: index of the input that caused it
    source: int


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded run."""

    name: str
    topic: str
    #: the registry: schema by id
    schemas: dict[int, Json]
    #: the schema that was the subject's latest when the statements ran
    latest: Json
    source: list[Input]
    predictions: list[Input]
    #: by topic, in order
    expected: dict[str, list[Expected]]
    #: what KSQL threw, if it did
    error: str | None
    #: whether rows were put straight into the sessions topic, which the app does not read
    foreign_sessions: bool

    def declared(self) -> DeclaredColumns:
        """What KSQL declared. Raises ConfigError where the app refuses the schema."""
        return check(self.latest, self.topic)


def load(path: Path) -> Case:
    """Read a case (.json or .json.gz). Raises ConfigError, with one line, if it is none."""
    try:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return _case(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no recorded case: {type(error).__name__}: {error}") from error


def _case(raw: dict[str, Any]) -> Case:
    schemas = {s["id"]: s["schema"] for s in raw["schemas"]}
    parsed = {i: fastavro.parse_schema(json.loads(json.dumps(s))) for i, s in schemas.items()}
    known = [s["schema"] for s in raw["schemas"] if not s.get("after")]
    return Case(
        name=raw["name"],
        topic=raw["source_topic"],
        schemas=schemas,
        latest=known[-1],
        source=[Input(_key(r), _avro(r, parsed), _headers(r)) for r in raw["source"]],
        predictions=[Input(_key(r), _text(r), _headers(r)) for r in raw["prediction"]],
        expected={topic: [_expected(r) for r in rows] for topic, rows in raw["expected"].items()},
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


def _expected(row: dict[str, Any]) -> Expected:
    value = row["value"]
    return Expected(_key(row), None if value is None else value.encode(), row["ts"], row.get("headers", 0), row["src"])
