"""A worker that cannot start says in one line what to set, and ends at once with an exit code of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app import topics
from app.trial.workers import ROOT, free_port
from tests import live

#: the longest a refusal may take [s]
REFUSED_S = 15.0
INT_TIME = {
    "type": "record",
    "name": "Value",
    "namespace": "x",
    "fields": [{"name": n, "type": t} for n, t in (("id", "long"), ("userid", "long"), ("timecreated", "int"))],
}
ENVELOPE = {
    "type": "record",
    "name": "Envelope",
    "fields": [{"name": n, "type": "string"} for n in ("before", "after", "op")],
}


def start(variables: dict[str, str], *arguments: str) -> tuple[int, list[str]]:
    """Start a worker that should refuse; its exit code and what it says on stderr."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "warn", *arguments],
        env={**os.environ, "RISK_WEB_PORT": str(free_port()), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * REFUSED_S,
        check=False,
    )
    assert time.monotonic() - began < REFUSED_S
    return done.returncode, [line for line in done.stderr.splitlines() if line.strip()]


def refused(variables: dict[str, str], *says: str) -> None:
    """One line, with all of `says` in it, and exit code 1."""
    code, lines = start(variables)
    assert code == 1
    assert len(lines) == 1, lines
    for word in says:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("variable", "value"), [("RISK_BROKER", "nowhere"), ("RISK_EMIT", "all"), ("RISK_TIME_UNIT", "us")]
)
def test_a_setting_that_cannot_be_meant_is_named(variable, value):
    """Bad configuration stops the start."""
    refused({variable: value}, variable)


def test_a_broker_that_does_not_answer_is_named():
    """No Kafka: one line, no stack of connection errors."""
    refused({"RISK_BROKER": f"127.0.0.1:{free_port()}"}, "RISK_BROKER", "127.0.0.1")


def test_a_model_that_is_none_is_named(tmp_path):
    """An unreadable or altered model is refused before anything is written."""
    path = tmp_path / "model.json"
    refused({"RISK_MODEL": str(path)}, "RISK_MODEL", str(path))
    path.write_text("{}")
    refused({"RISK_MODEL": str(path)}, "RISK_MODEL", "not a risk model")


@pytest.mark.broker
def test_a_source_topic_that_is_missing_is_named(place):
    """A worker that subscribes to nothing would idle for ever."""
    refused(dict(place.variables), place.names.source, "RISK_SOURCE_TOPIC")


@pytest.mark.broker
def test_a_registry_that_does_not_answer_is_named(place):
    """The wrong URL, or a registry that is down at the start."""
    place.make_source()
    refused({**place.variables, "RISK_SCHEMA_REGISTRY": f"http://127.0.0.1:{free_port()}"}, "RISK_SCHEMA_REGISTRY")


@pytest.mark.broker
def test_a_subject_that_is_missing_is_named(place):
    """The topic is there, and nothing was ever written to it with a schema."""
    place.declare(topics.Topic(place.names.source, 1, live.KEPT))
    refused(dict(place.variables), f"{place.names.source}-value")


@pytest.mark.broker
@pytest.mark.parametrize(("schema", "says"), [(INT_TIME, "timecreated"), (ENVELOPE, "ExtractNewRecordState")])
def test_a_schema_that_ksql_refuses_is_refused(place, schema, says):
    """Judged by the subject's latest schema, as CREATE STREAM does."""
    place.declare(topics.Topic(place.names.source, 1, live.KEPT))
    place.register(schema)
    refused(dict(place.variables), place.names.source, says)


@pytest.mark.broker
def test_an_output_topic_of_two_partitions_is_refused(place):
    """One partition each: KSQL's PARTITIONS=1."""
    place.make_source()
    place.declare(topics.Topic(place.names.agg, 2, {"cleanup.policy": "compact"}))
    refused(dict(place.variables), place.names.agg, "2 partitions")


@pytest.mark.broker
def test_a_changelog_that_deletes_is_refused(place):
    """State would be lost."""
    place.make_source()
    place.declare(topics.Topic(place.names.students_changelog, 1, {"cleanup.policy": "delete"}))
    refused(dict(place.variables), place.names.students_changelog, "compact")


@pytest.mark.broker
def test_a_port_in_use_is_named(place):
    """Two workers on one machine need two ports."""
    place.make_source()
    with place.worker() as first:
        first.wait(lambda stats: stats["problem"] is None, timeout=live.PATIENCE_S)
        refused({**place.variables, "RISK_WEB_PORT": str(first.port)}, "RISK_WEB_PORT", str(first.port))


@pytest.mark.broker
def test_topics_are_declared_and_one_that_deletes_too_early_is_warned_about(place):
    """Partitions and configuration are the app's own; an existing topic's retention is reported plainly."""
    place.make_source(3)
    place.declare(topics.Topic(place.names.sessions, 1, {"cleanup.policy": "delete", "retention.ms": "604800000"}))
    with place.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=live.PATIENCE_S)
        worker.stop()
    text = worker.log.read_text()
    assert f"topic {place.names.sessions} has retention.ms=604800000" in text
    wanted = [t for t in topics.wanted(place.names, 3) if t.name != place.names.sessions]
    partitions, configs = live.run(_describe(place, [t.name for t in wanted]))
    for topic in wanted:
        assert partitions[topic.name] == topic.partitions
        for name, value in topic.configs.items():
            assert configs[topic.name][name] == value, (topic.name, name)


async def _describe(place: live.Place, names: list[str]) -> tuple[dict[str, int], dict[str, dict[str, str]]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=place.servers.broker)
    await admin.start()
    try:
        partitions = await topics.partitions_of(admin, names)
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, n) for n in names])
        return partitions, {r[3]: {e[0]: e[1] for e in r[4]} for a in answers for r in a.resources}
    finally:
        await admin.close()
