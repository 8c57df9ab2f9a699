"""A real worker's /metrics, and a real Prometheus that scrapes it with the configuration in deploy/prometheus."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parsed

import stack
from stack.supervisor import die_with_parent
from tests.support.cluster import TIMEOUT_S, Deployment, row, until, visit
from tests.support.programs import require, run
from tests.test_alerts import FOLDER, RULES
from tests.test_metrics import LABELS
from tools.e2e.workers import Worker, free_port

pytestmark = pytest.mark.broker

#: a student that must not appear on the page
STUDENT = 8_124_735_069


@pytest.fixture(scope="module")
def worker(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker that has read three rows about now, one of them unusable."""
    deployment = Deployment.new(cluster, tmp_path_factory.mktemp("metrics"))
    schema, now = deployment.make_source(2), int(time.time() * 1000)
    rows = [visit(schema, STUDENT, now - 5_000), row(b"\1bad"), visit(schema, STUDENT + 1, now)]
    with deployment.worker() as running:
        running.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        deployment.send(deployment.names.source, rows)
        running.wait_idle(timeout=TIMEOUT_S, events=len(rows))
        yield running


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="module")
def page(worker: Worker, http: httpx.Client) -> str:
    response = http.get(f"http://127.0.0.1:{worker.port}/metrics")
    assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, "text/plain")
    return response.text


def samples(page: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values of each sample's name, by its labels' values."""
    result: dict[str, dict[tuple[str, ...], float]] = {}
    for family in parsed(page):
        for sample in family.samples:
            result.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return result


def test_the_page_follows_prometheus_conventions(page: str) -> None:
    assert run(require("promtool", "prometheus"), "check", "metrics", stdin=page) == ""


def test_the_page_has_what_the_worker_did(page: str) -> None:
    seen = samples(page)
    assert seen["moodle_risk_events_total"] == {(): 3}
    assert seen["moodle_risk_visits_total"] == {(): 2}
    assert seen["moodle_risk_rejected_total"]["bad-magic",] == 1
    assert sum(seen["moodle_risk_rows_total"].values()) >= 6
    assert seen["moodle_risk_healthy"] == {(): 1}
    assert not any(seen["moodle_risk_problem"].values())
    assert len(seen["moodle_risk_lag_records"]) == 5
    assert not any(seen["moodle_risk_lag_records"].values())
    assert sum(seen["moodle_risk_students"].values()) == 2
    assert seen["moodle_risk_owned_partitions"] == seen["moodle_risk_partitions"] == {(): 2}
    assert all(size > 0 for size in seen["moodle_risk_state_disk_bytes"].values())
    assert seen["moodle_risk_flush_duration_seconds_count"]["students",] == seen["moodle_risk_flushes_total"][()]
    assert seen["moodle_risk_commit_duration_seconds_sum"]["students",] > 0
    assert all(0 <= delay < 2 * TIMEOUT_S for delay in seen["moodle_risk_stream_time_delay_seconds"].values())
    assert seen["moodle_risk_group_generation"][()] >= 1
    assert {"process_resident_memory_bytes", "process_start_time_seconds", "moodle_risk_build_info"} <= set(seen)


def test_there_is_no_series_for_a_student(page: str) -> None:
    assert str(STUDENT) not in page
    ours = [sample for family in parsed(page) for sample in family.samples if sample.name.startswith("moodle_risk")]
    assert {label for sample in ours for label in sample.labels} <= LABELS
    assert len(ours) < 250


def test_every_metric_of_the_rules_is_on_the_page(page: str) -> None:
    named = {name for rule in RULES for name in re.findall(r"\b(?:moodle_risk|process)_\w+", rule["expr"])}
    assert len(named) > 10
    assert named <= set(samples(page))


def configured(directory: Path, data: Path) -> Path:
    """Return deploy/prometheus/prometheus.yml for the workers in a data directory, scraped each second."""
    config: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    del job["static_configs"]
    job["file_sd_configs"] = [{"files": [str(data / "web-*.json")]}]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def prometheus(worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prometheus that scrapes the worker."""
    program, directory, port = require("prometheus", "prometheus"), tmp_path_factory.mktemp("prometheus"), free_port()
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={configured(directory, Path(worker.settings['RISK_DATADIR']))}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            preexec_fn=die_with_parent(os.getpid()),
        )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(TIMEOUT_S)


def test_prometheus_scrapes_a_worker_and_evaluates_the_rules(prometheus: str, http: httpx.Client) -> None:
    def ask(path: str, **parameters: str) -> Any:
        try:
            answer = http.get(f"{prometheus}/api/v1/{path}", params=parameters).json()
        except (httpx.HTTPError, ValueError):
            return None
        return answer["data"] if answer["status"] == "success" else None

    def query(expression: str) -> list[float]:
        answer = ask("query", query=expression)
        return [float(series["value"][1]) for series in answer["result"]] if answer else []

    until(lambda: query('up{job="moodle-risk"}'), lambda seen: seen == [1.0])
    assert query("moodle_risk_events_total") == [3.0]
    assert query('moodle_risk_rejected_total{reason="bad-magic"}') == [1.0]
    assert query("histogram_quantile(0.5, sum by (le) (moodle_risk_flush_duration_seconds_bucket))")[0] > 0
    (target,) = ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["labels"]["instance"].endswith("/0")  # the directory of the place

    def evaluated() -> dict[str, str]:
        return {rule["name"]: rule["health"] for group in ask("rules")["groups"] for rule in group["rules"]}

    healthy = dict.fromkeys((rule["alert"] for rule in RULES), "ok")
    until(evaluated, lambda seen: seen == healthy)
    assert query('ALERTS{alertname=~"MoodleRisk(Down|Unhealthy|Stalled|Unowned)"}') == []
