"""Output topics checked against the session rules of tests/support/oracle.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.support.oracle import Ksql
from tools.test_driver import TopologyTestDriver


def check_outputs(driver: TopologyTestDriver, visits: Sequence[tuple[int | None, int]]) -> Ksql:
    """Check sessions, totals and the number of late visits against the rules, applied to `visits` in order.

    Returns the rules' own state.
    """
    rules = Ksql()
    for student, at in visits:
        rules.visit(student, at)  # type: ignore[arg-type]  # None is a student like any other
    sessions = {
        (row["USERID"], row["START_DATE"], row["END_DATE"]): row["ACTIVITIES"]
        for row in latest_rows(driver, driver.names.sessions).values()
    }
    assert sessions == {
        (student, start, end): count for student, mine in rules.sessions.items() for start, end, count in mine
    }
    totals = {
        row["USERID"]: (row["ACTIVITIES"], row["DURATION"], row["SESSIONS"])
        for row in latest_rows(driver, driver.names.agg).values()
    }
    expected = {student: (n, s // max(k, 1), k) for student, (n, s, k, _) in rules.totals.items()}
    assert totals == expected
    assert driver.metrics["late"] == rules.late
    return rules


def latest_rows(driver: TopologyTestDriver, topic: str) -> dict[bytes | None, Any]:
    """The latest value of each key of a topic, without keys whose latest record is a tombstone."""
    values = {row.key: row.value for row in driver.topics.get(topic, [])}
    return {key: json.loads(value) for key, value in values.items() if value is not None}
