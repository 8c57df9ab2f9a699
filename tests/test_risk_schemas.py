"""The JSON Schemas of MOODLE_RISK and MOODLE_RISK_ALERTS in docs/schemas, against rows that the codec makes."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from models.alerts import Why
from models.assessment import Band, Code, Figure
from tests.support.risk_course import Written, written
from tests.support.risk_logs import random_case, run_pipeline
from tests.support.risk_logs import written as pipeline_rows

SCHEMAS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in (Path(__file__).parents[1] / "docs" / "schemas").glob("*.json")
}
#: schema -> its records
RECORDS: dict[str, Callable[[Written], Sequence[tuple[bytes | None, bytes | None]]]] = {
    "moodle_risk": lambda rows: rows.risk,
    "moodle_risk_alerts": lambda rows: rows.alerts,
}


def values(name: str, *, site: bool = False) -> list[dict[str, Any]]:
    return [json.loads(value) for _, value in RECORDS[name](written(site=site)) if value is not None]


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[name], format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_the_schemas_are_valid_themselves() -> None:
    assert SCHEMAS.keys() == RECORDS.keys()
    for name, schema in SCHEMAS.items():
        assert schema["title"] == name.upper()
        assert validator_for(schema) is Draft202012Validator
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("site", [False, True], ids=["per course", "site"])
@pytest.mark.parametrize("name", RECORDS)
def test_rows_follow_the_schema_and_have_its_order(name: str, site: bool) -> None:
    """Per course there are rows of every band and reason."""
    rows, check = values(name, site=site), validator(name)
    assert [error.message for row in rows for error in check.iter_errors(row)][:3] == []
    assert {tuple(row) for row in rows} == {tuple(SCHEMAS[name]["properties"])}
    reasons = [reason for row in rows for reason in row["REASONS"]]
    assert {tuple(reason) for reason in reasons} == {tuple(SCHEMAS[name]["$defs"]["reason"]["properties"])}
    if name == "moodle_risk" and not site:
        assert {row["BAND"] for row in rows} == {band.name for band in Band}
        assert {reason["CODE"] for reason in reasons} == {code.name for code in Code}


def test_what_the_pipeline_writes_follows_the_schemas() -> None:
    """The rows of random logs, with the test driver."""
    rng, rows = random.Random(4), 0
    for _ in range(4):
        driver = asyncio.run(run_pipeline(random_case(rng), rng))
        for name, topic in (("moodle_risk", driver.names.risk), ("moodle_risk_alerts", driver.names.risk_alerts)):
            found = [json.loads(row.value) for row in pipeline_rows(driver, topic) if row.value is not None]
            assert [error.message for row in found for error in validator(name).iter_errors(row)][:3] == []
            rows += len(found)
    assert rows > 100


@pytest.mark.parametrize("name", RECORDS)
def test_the_words_are_those_of_the_code(name: str) -> None:
    def names(kind: type[IntEnum]) -> list[str]:
        return [member.name for member in kind]

    properties, reason = SCHEMAS[name]["properties"], SCHEMAS[name]["$defs"]["reason"]["properties"]
    assert properties["BAND"]["enum"] == names(Band)
    assert reason["CODE"]["enum"] == names(Code)
    assert reason["FIGURE"]["enum"] == [figure.lower() for figure in names(Figure)]
    if "WHY" in properties:
        assert properties["WHY"]["enum"] == [why.lower() for why in names(Why)]


WRONG = {
    "moodle_risk": [
        {"RISK": None},  # in a band that has one
        {"RISK": 1.2},
        {"BAND": "GONE"},
        {"ALERT": "true"},
        {"ALERT": True, "SINCE": None},
        {"AS_OF": "2013-11-31"},
        {"USERID": "7"},
        {"TRIGGER": "timer"},
        {"MODEL": "v1"},
    ],
    "moodle_risk_alerts": [
        {"ALERT": "open"},
        {"ALERT": "opened", "RISK": None},
        {"ALERT": "opened", "WHY": "gone"},
        {"OPENED": None},
        {"REASONS": [{}]},
    ],
}


@pytest.mark.parametrize(("name", "change"), [(name, change) for name, some in WRONG.items() for change in some])
def test_a_wrong_row_is_refused(name: str, change: dict[str, Any]) -> None:
    (row, *_) = (row for row in values(name) if row["RISK"] is not None and row["ALERT"] in (False, "opened"))
    assert validator(name).is_valid(row)
    assert not validator(name).is_valid(row | change)
    for missing in change.keys() & row.keys():
        assert not validator(name).is_valid({field: value for field, value in row.items() if field != missing})
