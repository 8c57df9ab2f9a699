"""A broker that asks who is there: every right a worker needs and has not is told before the start, in one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

import stack
import stack.kafka
from app.errors import ConfigError
from app.kafka import acls as rights
from app.ops.preflight import preflight
from tests.support import cluster as live
from tests.support.cluster import PATIENCE_S, Place
from tests.test_preflight import refused

pytestmark = pytest.mark.broker

#: Kafka's numbers of resource types, operations and permissions
TOPIC, GROUP, CLUSTER, TRANSACTIONAL = 2, 3, 4, 5
ALL, READ, WRITE, CREATE, DESCRIBE = 2, 3, 4, 5, 8
DENY, ALLOW = 2, 3
#: kind and name of a resource, and what is denied on it
Denied = tuple[int, str, int]

DENIALS: dict[str, tuple[Callable[[Place], Denied], str]] = {
    "read source": (lambda p: (TOPIC, p.names.source, READ), "Read on topic {0.source}"),
    "see source": (lambda p: (TOPIC, p.names.source, DESCRIBE), "Describe topic {0.source}"),
    "create output": (lambda p: (TOPIC, p.names.sessions, CREATE), "Create topic {0.sessions}"),
    "write output": (lambda p: (TOPIC, p.names.agg, WRITE), "Write on topic {0.agg}"),
    "join group": (lambda p: (GROUP, p.settings.app_id, READ), "Read on group "),
    "begin transaction": (lambda p: (TRANSACTIONAL, f"{p.settings.app_id}-1", WRITE), "Write on transactional id "),
}
MORE: dict[str, tuple[Callable[[Place], Denied], str]] = {
    "see output": (lambda p: (TOPIC, p.names.in_risk, DESCRIBE), "Describe topic {0.in_risk}"),
    "read predictions": (lambda p: (TOPIC, p.names.prediction, READ), "Read on topic {0.prediction}"),
    "write predictions": (lambda p: (TOPIC, p.names.prediction, WRITE), "Write on topic {0.prediction}"),
    "write alerts": (lambda p: (TOPIC, p.names.in_risk, WRITE), "Write on topic {0.in_risk}"),
    "write letters": (lambda p: (TOPIC, p.names.dead_letters, WRITE), "Write on topic {0.dead_letters}"),
    "read frames": (lambda p: (TOPIC, p.names.visits, READ), "Read on topic {0.visits}"),
    "write frames": (lambda p: (TOPIC, p.names.visits, WRITE), "Write on topic {0.visits}"),
    "read state": (lambda p: (TOPIC, p.names.students_changelog, READ), "Read on topic {0.students_changelog}"),
    "write state": (lambda p: (TOPIC, p.names.alerts_changelog, WRITE), "Write on topic {0.alerts_changelog}"),
    "alert": (lambda p: (TRANSACTIONAL, f"{p.settings.app_id}-alerts-0", WRITE), "-alerts-0"),
}


@pytest.fixture(scope="module")
def guarded(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """A broker that looks at rights, and creates topics that somebody asks for, as Kafka does by default."""
    directory = tmp_path_factory.mktemp("guarded")
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "auto.create.topics.enable": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack.kafka, "SETTINGS", {**stack.kafka.SETTINGS, **settings})
        up = stack.up(directory, owner_pid=os.getpid())
    # who may create topics in the cluster may create each
    acls(up, (CLUSTER, "kafka-cluster", ALL, ALLOW), (CLUSTER, "kafka-cluster", CREATE, DENY))
    yield up
    stack.down(directory)


def acls(servers: stack.Environment, *entries: tuple[int, str, int, int]) -> None:
    """Add rules for everybody, who has no name here."""

    async def added() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=servers.broker)
        await admin.start()
        try:
            for kind, name, operation, permission in entries:
                one = CreateAclsRequest(kind, name, 3, "User:ANONYMOUS", "*", operation, permission)
                answer = await admin._send_request(one)
                assert [code for code, *_ in answer.creation_responses] == [0]
        finally:
            await admin.close()

    live.run(added())


def denied(place: Place, *some: Denied) -> Place:
    """The place, with two source partitions and without some rights: where one rule stands, all must."""
    place.make_source(2)
    for kind, name, operation in some:
        acls(place.servers, (kind, name, ALL, ALLOW), (kind, name, operation, DENY))
    return place


def test_a_missing_right_ends_the_start_in_one_line(guarded, tmp_path):
    """The real command, six at a time: reading, seeing, creating, writing, the group, the transactions."""
    jobs = []
    for name, (deny, says) in DENIALS.items():
        place = Place.new(guarded, tmp_path / name.replace(" ", "-"))
        denied(place, deny(place))
        variables = {**place.variables, "RISK_DATADIR": str(place.state())}
        jobs.append((variables, says.format(place.names), "grant"))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda job: refused(*job), jobs))


@pytest.mark.parametrize("name", MORE)
def test_each_right_is_looked_at(guarded, tmp_path, name):
    """What it needs of every topic and every transactional id."""
    deny, says = MORE[name]
    place = Place.new(guarded, tmp_path)
    denied(place, deny(place))
    with pytest.raises(ConfigError) as caught:
        live.run(preflight(place.settings))
    assert says.format(place.names) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_missing_rights_are_told_at_once(guarded, tmp_path):
    """Nobody wants to be told one a start."""
    place = Place.new(guarded, tmp_path)
    app_id = place.settings.app_id
    denied(place, (TOPIC, place.names.visits, READ), (GROUP, app_id, READ), (TRANSACTIONAL, f"{app_id}-0", WRITE))
    with pytest.raises(ConfigError) as caught:
        live.run(preflight(place.settings))
    wanted = f"rights Read on topic {place.names.visits}, Read on group {app_id}, Write on transactional id {app_id}-0:"
    assert wanted in str(caught.value)


def test_what_is_not_needed_may_be_denied(guarded, tmp_path):
    """Without scoring nothing is written to the predictions; and asking changes nothing for a worker that runs."""
    place = Place.new(guarded, tmp_path, RISK_MODEL="none")
    denied(place, (TOPIC, place.names.prediction, WRITE), (TOPIC, place.names.source, WRITE))
    with place.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=PATIENCE_S)
        live.run(preflight(place.settings))
        # the one that runs is still the owner of its transactions
        place.send(place.names.visits, [live.row(b"no frame", None)])
        live.until(lambda: place.read(place.names.dead_letters))
        assert worker.stop() == 0
    assert "taken over" not in worker.log.read_text()


def test_looking_creates_no_topic(guarded, tmp_path):
    """On a broker that creates what is asked for: a misspelt source stays missing, our topics become as declared."""
    place = Place.new(guarded, tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        live.run(preflight(place.settings))
    with pytest.raises(ConfigError, match="does not exist"):
        live.run(preflight(place.settings))


def test_an_old_broker_that_does_not_tell_is_believed():
    """Operations untold, or topics not described, are no missing rights."""
    wanted = {"a": (rights.Right.READ,), "b": (rights.Right.WRITE,), "c": (rights.Right.READ, rights.Right.WRITE)}
    told = {"a": (0, -(1 << 31)), "c": (0, 1 << 4)}
    assert list(rights._denied(wanted, told)) == ["Read on topic c"]
