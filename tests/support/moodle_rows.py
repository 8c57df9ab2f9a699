"""Rows of Moodle's own table with all of its columns, as Debezium writes them."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import numpy as np

from tests.support.golden_cases import load

#: what starts each value: a zero and the schema id 1
HEAD = b"\0\0\0\0\1"
SUBMITS = r"\mod_assign\event\assessable_submitted"


def moodle_rows(n: int, first: int = 0) -> tuple[Any, list[bytes]]:
    """Rows of Moodle's own table, as Debezium writes them: the schema and `n` values."""
    rng = np.random.default_rng([n, first])
    schema = load("err_moodle_full")["schemas"][0]["schema"]
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    values = []
    for i in range(first, first + n):
        row = moodle_row(rng, i)
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parsed, row)
        values.append(HEAD + body.getvalue())
    return schema, values


def moodle_row(rng: np.random.Generator, i: int) -> dict[str, Any]:
    """A row of the log; a third hands something in, half of them for somebody else."""

    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    return {
        "id": i, "eventname": one(SUBMITS, r"\core\event\course_viewed", r"\mod_quiz\event\attempt_viewed"),
        "component": "core", "action": "viewed", "target": "course", "objecttable": one(None, "course"),
        "objectid": one(None, 2**40), "crud": "r", "edulevel": True, "contextid": 7, "contextlevel": 70,
        "contextinstanceid": 9, "userid": one(0, 1, 2, 3, 4, 5, 6, 7, 8, 300), "courseid": one(None, 0, 5, 700),
        "relateduserid": one(None, 0, 1, 3, 4, 5), "anonymous": one(False, False, False, True),
        "other": one(None, "N;" * 99), "timecreated": 1_561_975_200_000 + i * 40_000 + int(rng.integers(-90_000, 1)),
        "origin": one("web", "web", "ws", "cli", None), "ip": "10.0.0.1", "realuserid": one(None, None, None, 2),
    }  # fmt: skip
