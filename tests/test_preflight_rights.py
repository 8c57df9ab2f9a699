"""On a broker with an authorizer every missing right is reported before the start, in one line."""

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
from app.kafka.acls import Right, denied
from app.ops.preflight import preflight
from app.upstream.aiokafka import send_request
from tests.support.cluster import TIMEOUT_S, Deployment, row, run_async, until
from tests.support.secured import LITERAL, PATTERNS
from tests.test_preflight import refused

pytestmark = pytest.mark.broker

#: Kafka's numbers of resource types, operations and permissions
TOPIC, GROUP, CLUSTER, TRANSACTIONAL = 2, 3, 4, 5
ALL, READ, WRITE, CREATE, DESCRIBE = 2, 3, 4, 5, 8
DENY, ALLOW = 2, 3
#: type and name of a resource, and the operation denied on it
Denied = tuple[int, str, int]

#: a right to deny, and text that the error must contain; these are tested with the real command
DENIALS: dict[str, tuple[Callable[[Deployment], Denied], str]] = {
    "read source": (lambda p: (TOPIC, p.names.source, READ), "Read on topic {0.source}"),
    "describe source": (lambda p: (TOPIC, p.names.source, DESCRIBE), "Describe topic {0.source}"),
    "create output": (lambda p: (TOPIC, p.names.sessions, CREATE), "Create topic {0.sessions}"),
    "write output": (lambda p: (TOPIC, p.names.agg, WRITE), "Write on topic {0.agg}"),
    "join group": (lambda p: (GROUP, p.settings.app_id, READ), "Read on group "),
    "begin transaction": (lambda p: (TRANSACTIONAL, f"{p.settings.app_id}-", WRITE), "Write on transactional ids "),
}
MORE_DENIALS: dict[str, tuple[Callable[[Deployment], Denied], str]] = {
    "describe output": (lambda p: (TOPIC, p.names.in_risk, DESCRIBE), "Describe topic {0.in_risk}"),
    "read predictions": (lambda p: (TOPIC, p.names.prediction, READ), "Read on topic {0.prediction}"),
    "write predictions": (lambda p: (TOPIC, p.names.prediction, WRITE), "Write on topic {0.prediction}"),
    "write alerts": (lambda p: (TOPIC, p.names.in_risk, WRITE), "Write on topic {0.in_risk}"),
    "write dead letters": (lambda p: (TOPIC, p.names.dead_letters, WRITE), "Write on topic {0.dead_letters}"),
    "read visits": (lambda p: (TOPIC, p.names.visits, READ), "Read on topic {0.visits}"),
    "write visits": (lambda p: (TOPIC, p.names.visits, WRITE), "Write on topic {0.visits}"),
    "read state": (lambda p: (TOPIC, p.names.students_changelog, READ), "Read on topic {0.students_changelog}"),
    "write state": (lambda p: (TOPIC, p.names.alerts_changelog, WRITE), "Write on topic {0.alerts_changelog}"),
}


@pytest.fixture(scope="module")
def guarded(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """A broker with an authorizer that creates missing topics on request, as Kafka does by default."""
    directory = tmp_path_factory.mktemp("guarded")
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "auto.create.topics.enable": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack.kafka, "SETTINGS", {**stack.kafka.SETTINGS, **settings})
        up = stack.up(directory, owner_pid=os.getpid())
    # the right to create topics in the cluster would include the right to create each of them
    acls(up, (CLUSTER, "kafka-cluster", ALL, ALLOW), (CLUSTER, "kafka-cluster", CREATE, DENY))
    yield up
    stack.down(directory)


def acls(servers: stack.Environment, *entries: tuple[int, str, int, int]) -> None:
    """Add ACLs for the anonymous user, as which all clients connect here."""

    async def add() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=servers.broker)
        await admin.start()
        try:
            for kind, name, operation, permission in entries:
                request = CreateAclsRequest(
                    kind, name, PATTERNS.get(kind, LITERAL), "User:ANONYMOUS", "*", operation, permission
                )
                answer = await send_request(admin, request)
                assert [code for code, *_ in answer.creation_responses] == [0]
        finally:
            await admin.close()

    run_async(add())


def deny(deployment: Deployment, *denials: Denied) -> Deployment:
    """Create two source partitions, and deny some rights. A resource with one ACL needs ACLs for all operations."""
    deployment.make_source(2)
    for kind, name, operation in denials:
        acls(deployment.servers, (kind, name, ALL, ALLOW), (kind, name, operation, DENY))
    return deployment


def test_a_missing_right_ends_the_start_in_one_line(guarded, tmp_path):
    """The real command fails without any one of six rights: read, describe, create, write, group, transactions."""
    jobs = []
    for name, (denial, message) in DENIALS.items():
        deployment = Deployment.new(guarded, tmp_path / name.replace(" ", "-"))
        deny(deployment, denial(deployment))
        variables = {**deployment.variables, "RISK_DATADIR": str(deployment.state())}
        jobs.append((variables, message.format(deployment.names), "grant"))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda job: refused(*job), jobs))


@pytest.mark.parametrize("name", MORE_DENIALS)
def test_each_right_is_checked(guarded, tmp_path, name):
    """The rights on every topic are checked."""
    denial, message = MORE_DENIALS[name]
    deployment = Deployment.new(guarded, tmp_path)
    deny(deployment, denial(deployment))
    with pytest.raises(ConfigError) as caught:
        run_async(preflight(deployment.settings))
    assert message.format(deployment.names) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_missing_rights_are_reported_at_once(guarded, tmp_path):
    """One start reports all missing rights, not only the first."""
    deployment = Deployment.new(guarded, tmp_path)
    app_id = deployment.settings.app_id
    deny(
        deployment, (TOPIC, deployment.names.visits, READ), (GROUP, app_id, READ), (TRANSACTIONAL, f"{app_id}-", WRITE)
    )
    with pytest.raises(ConfigError) as caught:
        run_async(preflight(deployment.settings))
    wanted = (
        f"rights Read on topic {deployment.names.visits}, Read on group {app_id}, "
        f"Write on transactional ids with the prefix {app_id}-:"
    )
    assert wanted in str(caught.value)


def test_rights_that_are_not_needed_may_be_denied(guarded, tmp_path):
    """Without scoring no prediction is written. The check does not disturb a running worker."""
    deployment = Deployment.new(guarded, tmp_path, RISK_MODEL="none")
    deny(deployment, (TOPIC, deployment.names.prediction, WRITE), (TOPIC, deployment.names.source, WRITE))
    with deployment.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        run_async(preflight(deployment.settings))
        # the running worker still owns its transactional ids
        deployment.send(deployment.names.visits, [row(b"no visit batch", None)])
        until(lambda: deployment.read(deployment.names.dead_letters))
        assert worker.stop() == 0
    assert "taken over" not in worker.log.read_text()


def test_the_check_creates_no_topic(guarded, tmp_path):
    """On a broker that creates topics on request a misspelt source topic stays missing."""
    deployment = Deployment.new(guarded, tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        run_async(preflight(deployment.settings))
    with pytest.raises(ConfigError, match="does not exist"):
        run_async(preflight(deployment.settings))


def test_rights_that_an_old_broker_does_not_report_are_assumed():
    """Neither unreported operations nor a topic that is not described count as missing rights."""
    wanted = {"a": (Right.READ,), "b": (Right.WRITE,), "c": (Right.READ, Right.WRITE)}
    operations = {"a": (0, -(1 << 31)), "c": (0, 1 << 4)}
    assert list(denied(wanted, operations)) == ["Read on topic c"]
