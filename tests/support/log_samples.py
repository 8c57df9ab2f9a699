"""Real and generated values of Moodle's log, each set with the schemas it was written with."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

from app.settings import Settings
from codec.avro_schema import check
from codec.moodle_log import LogDecoder
from tests.support.golden_cases import load, source
from tools.test_driver import TopologyTestDriver

DEBEZIUM = Path(__file__).parents[1] / "debezium"
SETTINGS = Settings(app_id="fuzz", model="none")


@dataclass(frozen=True)
class LogSample:
    """Values of one topic in the registry's wire format, and the registry that knows their schemas."""

    name: str
    #: schema id → schema
    schemas: dict[int, Any]
    #: the subject's latest schema
    latest: Any
    values: list[bytes]

    async def schema(self, schema_id: int) -> Any:
        """The schema of an id, None for an unknown id, as the registry answers."""
        return self.schemas.get(schema_id)

    def driver(self, settings: Settings = SETTINGS) -> TopologyTestDriver:
        """A pipeline that reads this topic."""
        return TopologyTestDriver(settings, self.decoder(settings))

    def decoder(self, settings: Settings = SETTINGS) -> LogDecoder:
        """A decoder of this topic's values."""
        return LogDecoder(
            self, check(self.latest, settings.source_topic), unit_ms=settings.unit_ms, with_log_id=settings.deduplicates
        )


def from_debezium(name: str) -> LogSample:
    """A recording of what Debezium wrote."""
    records = json.loads((DEBEZIUM / f"{name}.records.json").read_bytes())["records"]
    schemas = json.loads((DEBEZIUM / f"{name}.schemas.json").read_bytes())
    schema = schemas[f"{records[0]['topic']}-value"]
    values = [base64.b64decode(r["value_base64"]) for r in records if r["value_base64"] is not None]
    return LogSample(name, {schema["id"]: schema["schema_parsed"]}, schema["schema_parsed"], values)


def from_golden_case(name: str) -> LogSample:
    """The input of a recorded KSQL case."""
    case = load(name)
    latest = [entry["schema"] for entry in case["schemas"] if not entry.get("after")][-1]
    values = [value for value in source(case).values if value]
    return LogSample(name, {entry["id"]: entry["schema"] for entry in case["schemas"]}, latest, values)


def nullable() -> LogSample:
    """Generated values: every column optional, null as first or last branch, and types that the log does not use."""
    rng = np.random.default_rng(5)
    types: list[tuple[str, Any]] = [
        ("__op", ["null", "string"]), ("userid", ["null", "long"]), ("grade", ["null", "double"]),
        ("kind", ["null", {"type": "enum", "name": "K", "symbols": ["a", "b", "c"]}]), ("ok", ["boolean", "null"]),
        ("tags", ["null", {"type": "array", "items": ["null", "long"]}]), ("courseid", ["int", "null"]),
        ("id", "long"), ("timecreated", ["long", "null"]), ("ip", ["null", {"type": "fixed", "name": "F", "size": 4}]),
    ]  # fmt: skip
    schema = {"type": "record", "name": "V", "fields": [{"name": n, "type": t} for n, t in types]}
    without_array = {**schema, "fields": [f for f in schema["fields"] if f["name"] != "tags"]}
    sample = LogSample("nullable", {7: schema, 70_000: without_array}, schema, [])
    parsed = {number: fastavro.parse_schema(json.loads(json.dumps(s))) for number, s in sample.schemas.items()}
    for i in range(300):
        row = {
            "__op": "c", "userid": int(rng.integers(-3, 30)), "grade": 0.5, "kind": "b", "ok": True,
            "tags": [1, None, 3], "courseid": 9, "id": i, "ip": b"\1\2\3\4",
            "timecreated": 1_561_975_200_000 + i * 90_000 + int(rng.integers(0, 2**18)),
        }  # fmt: skip
        present = {k: v for k, v in row.items() if k == "id" or rng.random() > 0.15}
        number = (7, 70_000)[i % 2]
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parsed[number], {**dict.fromkeys(row), **present})
        sample.values.append(b"\0" + number.to_bytes(4, "big") + body.getvalue())
    return sample


#: name → what makes the sample
SAMPLES: dict[str, Callable[[], LogSample]] = {
    "default": partial(from_debezium, "default"),
    "rewrite": partial(from_debezium, "rewrite"),
    "nullable": nullable,
    **{
        name: partial(from_golden_case, name)
        for name in (
            "pfuzz_103",
            "pfuzz_202_small_ts",
            "p18_null_timecreated_later",
            "p26_schema_added_column",
            "p28_schema_type_changes",
            "p32_multi_user",
            "err_moodle_full",
            "err_userid_int",
            "err_timecreated_dbzts",
        )
    },
}
