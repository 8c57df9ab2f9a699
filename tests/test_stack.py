"""The servers of `stack`, real ones where the test is marked `broker`."""

from __future__ import annotations

import json
import os
import shlex
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError
from schema_registry.client import SchemaRegistryClient
from schema_registry.client.errors import ClientError
from schema_registry.client.schema import AvroSchema

import stack
from stack.kafka import KAFKA, parse_cluster_id
from stack.lockfile import freed, holder
from stack.process_spec import Files
from stack.server import HOST


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    return subprocess.run([sys.executable, "-m", "stack", *arguments], capture_output=True, text=True, check=False)


def pids(directory: Path) -> dict[str, int | None]:
    return {one.name: one.pid for one in stack.status(directory)}


# -- what the broker answers


def metadata(*racks: str | None, cluster_id: str | None) -> bytes:
    """A Metadata response, version 2, as a broker writes it."""

    def text(value: str | None) -> bytes:
        return struct.pack(">h", -1) if value is None else struct.pack(">h", len(value)) + value.encode()

    brokers = b"".join(struct.pack(">i", 1) + text(HOST) + struct.pack(">i", 9092) + text(rack) for rack in racks)
    return struct.pack(">ii", 0, len(racks)) + brokers + text(cluster_id) + struct.pack(">ii", 1, 0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (metadata(None, cluster_id="abc"), "abc"),
        (metadata("r1", None, cluster_id="abc"), "abc"),
        (metadata(cluster_id="abc"), None),
        (metadata(None, cluster_id=None), None),
    ],
    ids=["one broker", "with and without rack", "no live broker", "no cluster"],
)
def test_cluster_id_in_a_metadata_response(answer: bytes, expected: str | None) -> None:
    assert parse_cluster_id(answer) == expected


# -- the environment


def test_environment_loads_into_a_shell(tmp_path: Path) -> None:
    """Values reach the shell as they are, whatever is in them."""
    values = {"RISK_BROKER": "127.0.0.1:1", "RISK_SCHEMA_REGISTRY": "http://x/$HOME 'a'"}
    (tmp_path / "env").write_text(str(stack.Environment(tmp_path, values)))
    script = f'. {shlex.quote(str(tmp_path / "env"))}; printf "%s\\n" "$RISK_BROKER" "$RISK_SCHEMA_REGISTRY"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout.splitlines() == list(values.values())


def test_environment_without_registry_says_so(tmp_path: Path) -> None:
    environment = stack.Environment(tmp_path, {"RISK_BROKER": "127.0.0.1:1"})
    assert environment.broker == "127.0.0.1:1"
    with pytest.raises(stack.StackError, match="no registry runs in"):
        _ = environment.registry


# -- the command line, where there is nothing to start


def test_status_and_down_of_nothing(tmp_path: Path) -> None:
    status, down = run("status", str(tmp_path)), run("down", str(tmp_path))
    assert (status.returncode, status.stdout) == (1, f"nothing was started in {tmp_path}\n")
    assert (down.returncode, down.stdout) == (0, "stopped nothing: nothing was running\n")
    assert not list(tmp_path.iterdir())


def test_errors_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failed = run("up", str(tmp_path / "file" / "here"))
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.startswith(f"stack: cannot write to {tmp_path / 'file' / 'here'}: ")
    assert failed.stderr.count("\n") == 1


def test_a_path_that_a_configuration_would_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(stack.StackError, match="servers cannot live in a path with ,"):
        stack.up(tmp_path / "a,b")


def test_a_taken_port_stops_up_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        failed = run("up", str(tmp_path), "--kafka-port", str(port), "--no-registry")
    assert failed.returncode == 1
    assert failed.stderr == f"stack: port {port} is in use\n"
    assert stack.status(tmp_path) == []


# -- real servers


@pytest.fixture(scope="module")
def own(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """Servers that only the tests of this file use, and may kill."""
    directory = tmp_path_factory.mktemp("own")
    yield stack.up(directory, owner_pid=os.getpid())
    stack.down(directory)


async def create_topic(broker: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


async def produce(broker: str, topic: str, value: bytes) -> None:
    """Send one record and wait until it is acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def first_value(broker: str, topic: str) -> bytes:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        return (await consumer.getone()).value or b""
    finally:
        await consumer.stop()


@pytest.mark.broker
async def test_a_record_goes_in_and_comes_out(cluster: stack.Environment) -> None:
    await create_topic(cluster.broker, "stack-in-out")
    await produce(cluster.broker, "stack-in-out", b"hello")
    assert await first_value(cluster.broker, "stack-in-out") == b"hello"


@pytest.mark.broker
async def test_a_topic_nobody_declared_is_an_error(cluster: stack.Environment) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.broker)
    await admin.start()
    try:
        (described,) = await admin.describe_topics(["stack-undeclared"])
        assert described["error_code"] == UnknownTopicOrPartitionError.errno
    finally:
        await admin.close()


@pytest.mark.broker
def test_the_registry_keeps_schemas_backward_compatible(cluster: stack.Environment) -> None:
    """A new field without a default could not read old records; one with a default can."""

    def row(**field: object) -> AvroSchema:
        fields = [{"name": "id", "type": "long"}, *([field] if field else [])]
        return AvroSchema({"type": "record", "name": "Row", "fields": fields})

    client = SchemaRegistryClient(url=cluster.registry)
    subject = "stack-registry-value"
    first = client.register(subject, row())
    assert client.get_by_id(first) == row()
    with pytest.raises(ClientError, match="Incompatible schema"):
        client.register(subject, row(name="more", type="int"))
    assert client.register(subject, row(name="more", type="int", default=0)) != first
    assert client.get_compatibility() == "BACKWARD"


@pytest.mark.broker
def test_servers_listen_on_the_loopback_address_only(cluster: stack.Environment) -> None:
    for port in (port for one in stack.status(cluster.directory) for port in one.ports.values()):
        with socket.socket() as elsewhere:  # were the wildcard address taken, this one would be too
            elsewhere.bind(("127.0.0.2", port))


@pytest.mark.broker
def test_up_again_changes_nothing(own: stack.Environment) -> None:
    before = pids(own.directory)
    assert stack.up(own.directory) == own
    again = run("up", str(own.directory))
    assert again.stdout == (own.directory / "env").read_text() == str(own)
    assert pids(own.directory) == before


@pytest.mark.broker
def test_up_on_another_port_is_refused(own: stack.Environment) -> None:
    with pytest.raises(stack.StackError, match=f"already runs .*, on port {own.broker.split(':')[1]}, not 1"):
        stack.up(own.directory, kafka_port=1)


@pytest.mark.broker
async def test_an_acknowledged_record_survives_kill_9(own: stack.Environment) -> None:
    """The broker comes back alone, on its port; the registry has not noticed."""
    await create_topic(own.broker, "stack-survivor")
    await produce(own.broker, "stack-survivor", b"acked")
    before = pids(own.directory)
    stack.kill("kafka", own.directory)
    assert pids(own.directory) == {**before, "kafka": None}
    assert run("status", str(own.directory)).returncode == 1
    stack.restart("kafka", own.directory)
    assert await first_value(own.broker, "stack-survivor") == b"acked"
    after = pids(own.directory)
    assert after["registry"] == before["registry"]
    assert after["kafka"] not in (None, before["kafka"])


@pytest.mark.broker
def test_a_registered_schema_survives_kill_9(own: stack.Environment) -> None:
    row = AvroSchema({"type": "record", "name": "Row", "fields": [{"name": "id", "type": "long"}]})
    number = SchemaRegistryClient(url=own.registry).register("stack-survivor-value", row)
    stack.kill("registry", own.directory)
    stack.restart("registry", own.directory)
    assert SchemaRegistryClient(url=own.registry).get_by_id(number) == row


OWNER = """
import os, pathlib, stack, sys
environment = stack.up(pathlib.Path(sys.argv[1]), registry=False, owner_pid=os.getpid())
print(environment.broker, flush=True)
sys.stdin.read()
"""


@pytest.mark.broker
def test_servers_die_with_their_owner_and_down_leaves_others_alone(cluster: stack.Environment, tmp_path: Path) -> None:
    """The owner is killed with kill -9; its broker goes, the shared one stays, also after `down`."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline().startswith(HOST)
        files = Files(tmp_path, KAFKA.name)
        assert holder(files.server)
        owner.kill()
    assert freed([files.keeper, files.server], patience_s=15.0)
    assert "its owner is gone" in files.log.read_text()
    assert stack.down(tmp_path) == []
    assert stack.status(tmp_path) == []
    assert all(one.ready for one in stack.status(cluster.directory))
    assert run("status", str(cluster.directory)).returncode == 0
    assert json.loads(Files(cluster.directory, "kafka").orders.read_text())["owner"] == os.getpid()
