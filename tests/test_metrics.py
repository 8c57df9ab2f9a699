"""/metrics without a server: every counter has a help text, and the number of series is bounded."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from app.ops.metrics import Metrics
from app.ops.prometheus import COUNTERS, PROBLEMS, REASONS, WorkerCollector, disk_bytes
from app.settings import Settings
from app.topology import declare

ROOT = Path(__file__).parents[1]
#: every label that a metric may have; none has a value for each student
LABELS = {"table", "topic", "partition", "reason", "problem", "version", "app", "model", "le"}


def collected(problem: str | None = None, **counts: tuple[int, str | None]) -> dict[str, Metric]:
    """Return what a worker that has not started yet shows, with these counters."""
    app = declare(Settings(store="memory://"))
    for name, (number, reason) in counts.items():
        app.metrics.add(name, number, reason)
    registry = CollectorRegistry()
    registry.register(WorkerCollector(app, lambda: problem, 0.0))
    return {metric.name: metric for metric in registry.collect()}


def values(metric: Metric) -> dict[str, float]:
    return {",".join(sample.labels.values()): sample.value for sample in metric.samples}


def test_every_counter_of_the_program_has_a_help_text() -> None:
    counted = {
        name
        for folder in ("agents", "app")
        for source in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'\.add\(\s*"(\w+)"', source.read_text())
    }
    assert counted == set(COUNTERS)
    assert all(text.text.endswith(".") for text in COUNTERS.values())


def test_counters_begin_at_zero_for_each_reason_that_is_known() -> None:
    """Otherwise Prometheus would see no increase when the first record is rejected."""
    metrics = collected(late=(3, None), rejected=(2, "truncated"))
    assert values(metrics["moodle_risk_late"]) == {"": 3}
    assert values(metrics["moodle_risk_events"]) == {"": 0}
    assert values(metrics["moodle_risk_rejected"]) == {**dict.fromkeys(REASONS, 0), "truncated": 2}
    assert set(values(metrics["moodle_risk_rows"]).values()) == {0}
    assert len(values(metrics["moodle_risk_rows"])) == 6


def test_the_reasons_are_those_of_the_documents() -> None:
    """docs/topics.md has a row for each, with … for the name of a column."""
    section = (ROOT / "docs/topics.md").read_text().split("## Dead letters")[1]
    rows = re.findall(r"^\| (`.*?`) \| [^|]* \| [^|]* \|$", section, re.MULTILINE)
    documented = {reason for row in rows for reason in re.findall(r"`([^`]+)`", row)}
    assert {re.sub(r"^\w+ is no ", "… is no ", reason) for reason in REASONS} == documented


def test_a_counter_that_the_table_does_not_know_is_shown() -> None:
    metrics = collected(new=(3, None), other=(2, "why"))
    assert values(metrics["moodle_risk_new"]) == {"": 3}
    assert values(metrics["moodle_risk_other"]) == {"why": 2}


def test_the_problem_is_one_state_of_a_set() -> None:
    for problem in (None, *PROBLEMS, "another"):
        metrics = collected(problem)
        states = values(metrics["moodle_risk_problem"])
        assert {name for name, value in states.items() if value} == ({problem} if problem else set())
        assert set(PROBLEMS) <= set(states)
        assert values(metrics["moodle_risk_healthy"]) == {"": float(problem is None)}


def test_the_problems_are_those_of_the_documents() -> None:
    (row,) = re.findall(r"^\| `problem` \| null, or (.*?) \|$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == set(PROBLEMS)


def test_labels_are_few() -> None:
    metrics = collected("starting", rejected=(2, "truncated"))
    assert {label for metric in metrics.values() for sample in metric.samples for label in sample.labels} <= LABELS


def test_a_flush_is_one_observation_of_its_table() -> None:
    metrics = Metrics()
    flushes = metrics.flushes("students")
    flushes.rows.observe(3)
    (rows,) = [metric for metric in metrics.registry.collect() if metric.name == "moodle_risk_flush_rows"]
    assert {sample.labels["table"] for sample in rows.samples} == {"students"}
    buckets = {sample.labels["le"]: sample.value for sample in rows.samples if sample.name.endswith("_bucket")}
    assert (buckets["1.0"], buckets["10.0"], buckets["+Inf"]) == (0, 1, 1)


def test_the_size_of_a_database_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(5))
    (tmp_path / "b").write_bytes(bytes(7))
    assert disk_bytes(tmp_path) == 12
    assert disk_bytes(tmp_path / "missing") == 0
