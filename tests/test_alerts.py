"""The alert rules of deploy/prometheus: valid, tested firing and silent, each with a section of the runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import require, run

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "prometheus"
OPERATIONS = (ROOT / "docs/operations.md").read_text()
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"] for rule in RULES}
TESTS = sorted(FOLDER.glob("alerts*_test.yml"))


@pytest.fixture(scope="module")
def promtool() -> str:
    return require("promtool", "prometheus")


def test_the_configuration_is_valid(promtool: str) -> None:
    assert f"{len(RULES)} rules found" in run(promtool, "check", "config", str(FOLDER / "prometheus.yml"))


def test_the_alerts_fire_and_are_silent_when_they_should(promtool: str) -> None:
    run(promtool, "test", "rules", *map(str, TESTS))


def test_each_alert_is_tested_firing_and_silent() -> None:
    checks = [
        (check["alertname"], bool(check.get("exp_alerts")))
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for check in test["alert_rule_test"]
    ]
    assert {name for name, firing in checks if firing} == ALERTS
    tested_silent = {name for name, firing in checks if not firing}
    # MoodleRiskStateGrowth: two of the three sites of its test are silent, and promtool compares all
    assert tested_silent | {"MoodleRiskStateGrowth"} == ALERTS


def test_each_alert_has_a_section_of_the_runbook_and_no_section_is_left_over() -> None:
    (runbook,) = re.findall(r"^## Runbook\n(.*?)(?=^## |\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^### (\w+)$", runbook, re.MULTILINE) == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")
