"""The schema at the start: from the subject that the topic, a record or a setting names, or none, in one line."""

from __future__ import annotations

import re

import pytest

from app.errors import ConfigError
from app.kafka import topics
from app.ops.preflight import Checked, preflight
from app.settings import Settings
from tests.support.cluster import RETAINED, SCHEMA, START, Deployment, row, run_async, visit
from tests.support.golden_cases import chunk

pytestmark = pytest.mark.broker


def declared(deployment: Deployment, *values: bytes, **variables: str) -> Checked:
    """Run the checks of a start with these records in the source topic, which has no subject of its own."""
    deployment.declare(topics.Topic(deployment.names.source, 2, RETAINED))
    if values:
        deployment.send(deployment.names.source, [row(value) for value in values], 1)
    return run_async(preflight(Settings.from_env({**deployment.variables, **variables})))


def wide(schema_id: int) -> bytes:
    """Return a row with a schema id of 8 bytes."""
    value = visit(schema_id, 7, START)[2]
    assert value is not None
    return value[:1] + bytes(4) + value[1:]


def test_a_subject_named_by_record_needs_no_setting(deployment):
    """The id in the topic's latest record says which schema it is."""
    schema_id = deployment.register(SCHEMA, "a.b.log.Value")
    value = visit(schema_id, 7, START)[2]
    checked = declared(deployment, value)
    answers = checked.registry.answers
    assert len(run_async(checked.decoder.decode(chunk([value])))) == 1
    assert checked.registry.answers == answers  # it need not be requested again


def test_a_subject_can_be_set(deployment):
    """An empty topic has no record to look at."""
    subject = f"{deployment.names.source}-a.b.log.Value"
    deployment.register(SCHEMA, subject)
    declared(deployment, RISK_SCHEMA_SUBJECT=subject)


def test_without_a_subject_and_records_it_is_said_what_to_set(deployment):
    """Also if the setting names none."""
    with pytest.raises(ConfigError, match=f"no subject {deployment.names.source}-value: .*RISK_SCHEMA_SUBJECT"):
        declared(deployment)
    with pytest.raises(ConfigError, match="no subject nothing: "):
        run_async(preflight(Settings.from_env({**deployment.variables, "RISK_SCHEMA_SUBJECT": "nothing"})))


def test_the_id_of_another_registry_is_named(deployment):
    """The topic's records were written with a registry that counts differently."""
    where = re.escape(f"the id 1999999 of topic {deployment.names.source} partition 1 offset 0")
    with pytest.raises(ConfigError, match=where):
        declared(deployment, visit(1_999_999, 7, START)[2])


def test_ids_of_eight_bytes_are_refused_with_the_converters_setting(deployment):
    """Apicurio's own format. One record in it among others is a dead letter like any other."""
    schema_id = deployment.register(SCHEMA)
    with pytest.raises(ConfigError, match=r"have 8 bytes: .*as-confluent=true") as caught:
        declared(deployment, wide(schema_id), wide(schema_id))
    assert "\n" not in str(caught.value)
    deployment.send(deployment.names.source, [visit(schema_id, 7, START)], 0)
    run_async(preflight(deployment.settings))
