"""Damaged predictions: each is forwarded as KSQL does, or becomes a dead letter."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

import pytest

from codec.moodle_log import LogDecoder
from models.predictions import THRESHOLD, text_key
from tests.support.damage import MUTANTS, Damage
from tests.support.golden_cases import PUBLIC, load, predictions
from tests.support.log_samples import SETTINGS, from_debezium
from tools.test_driver import TopologyTestDriver

#: records in one fetch
FETCH = 700


@pytest.fixture(autouse=True)
def _no_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Silence the log line of each dead letter; test_pipeline.py checks those."""
    caplog.set_level(logging.CRITICAL, "agents")


def new_driver() -> TopologyTestDriver:
    """A pipeline, of which these tests use only the alert agent."""
    return TopologyTestDriver(SETTINGS, LogDecoder(from_debezium("default")))


async def test_damaged_predictions_are_read_strictly_or_rejected() -> None:
    """JSON with columns of the right types gives KSQL's row, and what is not JSON is a dead letter.

    tests/test_predictions.py covers the cases between (text for a number, names in any case). Here their fast path is
    checked against their slow path: a blank before the value forces the slow one, and changes nothing else.
    """
    damage, total = Damage(7), MUTANTS["predictions"]
    intact = [value for name in PUBLIC if load(name)["prediction"] for value in predictions(load(name)).values if value]
    intact += [b'{"USERID":%d,"PREDICTION":0.%d,"CREATED_DATE":%d}' % (i, 1 + i % 9, 10**12 + i) for i in range(900)]
    # intact and damaged values alternate
    keys, values = [], []
    for _ in range(total):
        a, b = (intact[damage.below(len(intact))] for _ in range(2))
        values += [b'{"USERID":7,"PREDICTION":0.9,"CREATED_DATE":%d}' % len(values), damage.mutate(a, b)]
        keys += [b"intact", b"%d" % len(values)]
    assert damage.made == total
    async with new_driver() as driver:
        for i in range(0, len(values), FETCH):
            await driver.feed(driver.names.prediction, keys[i : i + FETCH], values[i : i + FETCH])
    rows = driver.topics[driver.names.in_risk]
    dead_letters = driver.topics[driver.names.dead_letters]
    async with new_driver() as slow:
        await slow.feed(slow.names.prediction, keys[1::2], [b" " + value for value in values[1::2]])
    assert [r[:4] for r in slow.topics[slow.names.in_risk]] == [r[:4] for r in rows if r.key != b"intact"]
    assert [(r.key, r.value) for r in dead_letters] == [
        (r.key, (r.value or b"")[1:]) for r in slow.topics[slow.names.dead_letters]
    ]
    assert sum(row.key == b"intact" for row in rows) == total
    forwarded = {row.key: row for row in rows if row.key != b"intact"}
    rejected = {dead_letter.key: dead_letter for dead_letter in dead_letters}
    assert driver.metrics["rejected"] == len(rejected) == len(dead_letters)
    kinds: Counter[str] = Counter()
    for i in range(1, len(values), 2):
        key, value = keys[i], values[i]
        expected = expected_row(value)
        kinds[expected if isinstance(expected, str) else "row"] += 1
        assert (key in forwarded) + (key in rejected) <= 1
        if key in rejected:
            headers = dict(rejected[key].headers)
            assert rejected[key].value == value
            assert headers["dead-letter.topic"] == driver.names.prediction.encode()
            assert (headers["dead-letter.partition"], headers["dead-letter.offset"]) == (b"0", b"%d" % i)
            assert headers["dead-letter.reason"]
        if expected == "rejected":
            assert key in rejected, value
        elif expected == "below":
            assert key not in forwarded, value
            assert key not in rejected, value
        elif isinstance(expected, tuple):
            assert json.loads(forwarded[key].value or b"") == expected[0]
            assert forwarded[key].at == expected[1]
    assert min(kinds["rejected"], kinds["row"], kinds["below"]) > total // 40
    assert kinds["other"] < total // 4


def expected_row(value: bytes) -> str | tuple[dict[str, Any], int]:
    """The expected row and timestamp of a prediction; else "below" the threshold, "rejected", or "other".

    "other": a column has not its own type, so that KSQL converts it; not judged here.
    """
    if not value.strip(b" \t\r\n"):
        return "below"
    try:
        fields = json.loads(value.decode(), parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        return "rejected"
    if not isinstance(fields, dict):
        return "below" if fields is None else "rejected"
    columns = {name.upper(): field for name, field in fields.items()}
    if len(columns) < len(fields):
        return "other"
    user, risk, date = (columns.get(name) for name in ("USERID", "PREDICTION", "CREATED_DATE"))
    if not all(v is None or (type(v) is int and abs(v) < 2**63) for v in (user, date)) or not (
        risk is None or (type(risk) is float and abs(risk) < 1e300)
    ):
        return "other"
    if (date or 0) < 0:
        return "rejected"
    if risk is None or risk <= THRESHOLD:
        return "below"
    return {"USERID": user, "PREDICTION": risk, "CREATED_DATE": date}, date or 0


async def test_damaged_keys_are_forwarded_as_text() -> None:
    """Invalid UTF-8 in a key is replaced, and its record is never rejected."""
    damage = Damage(8)
    intact = ["1234", "Zoë", "naïve Straße", "日本語", "🎓 x", "\u07ff\u0800\uffff"]
    keys = [
        damage.mutate(intact[damage.below(6)].encode(), intact[damage.below(6)].encode())
        for _ in range(MUTANTS["keys"])
    ]
    value = b'{"USERID":7,"PREDICTION":0.9,"CREATED_DATE":5}'
    async with new_driver() as driver:
        await driver.feed(driver.names.prediction, keys, [value] * len(keys))
    rows = driver.topics[driver.names.in_risk]
    assert [row.value for row in rows] == [value] * len(keys)
    for key, row in zip(keys, rows, strict=True):
        assert row.key is not None
        text = row.key.decode()
        assert row.key == text_key(row.key)  # forwarding it again changes nothing
        if b"\xed" not in key:  # Java and Python replace encoded surrogates differently
            assert text == key.decode("utf-8", "replace")
