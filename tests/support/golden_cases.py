"""The recorded KSQL cases of tests/golden, as chunks that the app reads and rows that KSQL wrote."""

from __future__ import annotations

import base64
import gzip
import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import fastavro

from models.chunk import Chunk

GOLDEN = Path(__file__).parents[1] / "golden"
#: names of the cases in each folder
PUBLIC = sorted(path.name.split(".")[0] for path in (GOLDEN / "public").iterdir())
ERRORS = sorted(path.name.split(".")[0] for path in (GOLDEN / "errors").iterdir())

Case = dict[str, Any]


@lru_cache(maxsize=4)
def load(name: str) -> Case:
    """Load a case, in the format of tests/golden/README.md."""
    for folder in ("public", "errors"):
        plain = GOLDEN / folder / f"{name}.json"
        packed = plain.with_suffix(".json.gz")
        if plain.exists():
            return dict(json.loads(plain.read_bytes()))
        if packed.exists():
            return dict(json.loads(gzip.decompress(packed.read_bytes())))
    raise FileNotFoundError(name)


def exempt(topic: str) -> set[tuple[str, int]]:
    """The (case, input) pairs for which the app need not follow KSQL in `topic`."""
    differences = json.loads((GOLDEN / "differences.json").read_bytes())
    return {(entry["case"], entry["input"]) for entry in differences if entry["topic"] == topic}


def source(case: Case) -> Chunk:
    """The source records as one chunk, encoded as the case's README says."""
    schemas = {entry["id"]: _parsed(entry["schema"]) for entry in case["schemas"]}
    values: list[bytes | None] = []
    for record in case["source"]:
        if "raw_b64" in record:
            values.append(base64.b64decode(record["raw_b64"]))
        elif record["value"] is None:
            values.append(None)
        else:
            number = record.get("schema", 1)
            values.append(encode(schemas[number], number, record["value"]))
    return _chunk(case["source_topic"], case["source"], [_bytes(r.get("key_b64")) for r in case["source"]], values)


def predictions(case: Case) -> Chunk:
    """The case's records of the predictions topic as one chunk."""
    records = case["prediction"]
    keys = [_bytes(r["key_b64"]) if "key_b64" in r else _text(r["key"]) for r in records]
    values = [_bytes(r["raw_b64"]) if "raw_b64" in r else _text(r["value"]) for r in records]
    return _chunk("MOODLE_LOGS_PREDICTION", records, keys, values)


def expected(case: Case, topic: str) -> list[tuple[int, bytes | None, bytes | None, int]]:
    """Return the rows that KSQL wrote to `topic`: (input, key, value, timestamp)."""
    rows = case["expected"][topic]
    return [(row["src"], _bytes(row["key_b64"]), _text(row["value"]), row["ts"]) for row in rows]


def encode(parsed: Any, schema_id: int, value: dict[str, Any]) -> bytes:
    """Encode a record in the registry's wire format."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, parsed, value)
    return b"\0" + schema_id.to_bytes(4, "big") + body.getvalue()


def chunk(values: list[bytes | None], topic: str = "t") -> Chunk:
    """A chunk of values without keys, at offsets from 0."""
    n = len(values)
    return Chunk(topic, 0, range(n), [None] * n, values, 0, n, n)


def _chunk(topic: str, records: list[Case], keys: list[bytes | None], values: list[bytes | None]) -> Chunk:
    offsets = [record.get("offset", i) for i, record in enumerate(records)]
    headers = [[(k, v.encode()) for k, v in record.get("headers", {}).items()] for record in records]
    end = max(offsets, default=-1) + 1
    return Chunk(topic, 0, offsets, keys, values, 0, end, end, headers if any(headers) else None)


def _parsed(schema: Any) -> Any:
    return fastavro.parse_schema(json.loads(json.dumps(schema)))  # a copy, since parse_schema changes its argument


def _bytes(b64: str | None) -> bytes | None:
    return None if b64 is None else base64.b64decode(b64)


def _text(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
