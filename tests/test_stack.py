"""Tests of `stack` with Kafka and the registry: real servers in tests marked `broker`."""

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
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError
from schema_registry.client import SchemaRegistryClient
from schema_registry.client.errors import ClientError
from schema_registry.client.schema import AvroSchema

import stack
from stack.kafka import NODES, format_storage, parse_metadata, require_release
from stack.kafka import settings as kafka_settings
from stack.lockfile import holder, wait_released
from stack.ports import choose
from stack.process_spec import ServerFiles
from stack.server import HOST, Instance
from tools.e2e.programs import free_port


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a subprocess."""
    return subprocess.run([sys.executable, "-m", "stack", *arguments], capture_output=True, text=True, check=False)


def pids(directory: Path) -> dict[str, int | None]:
    return {server.name: server.pid for server in stack.status(directory)}


# -- the broker's response


def metadata(*racks: str | None, cluster_id: str | None) -> bytes:
    """Encode a Metadata response, version 2, as a broker does; the nodes have the ids 1, 2, …"""

    def text(value: str | None) -> bytes:
        return struct.pack(">h", -1) if value is None else struct.pack(">h", len(value)) + value.encode()

    nodes = enumerate(racks, 1)
    brokers = b"".join(struct.pack(">i", n) + text(HOST) + struct.pack(">i", 9092) + text(rack) for n, rack in nodes)
    return struct.pack(">ii", 0, len(racks)) + brokers + text(cluster_id) + struct.pack(">ii", 1, 0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (metadata(None, cluster_id="abc"), ([1], "abc")),
        (metadata("r1", None, cluster_id="abc"), ([1, 2], "abc")),
        (metadata(cluster_id="abc"), ([], "abc")),
        (metadata(None, cluster_id=None), ([1], None)),
    ],
    ids=["one broker", "with and without rack", "no live broker", "no cluster id"],
)
def test_parse_metadata(answer: bytes, expected: tuple[list[int], str | None]) -> None:
    assert parse_metadata(answer) == expected


# -- the environment


def test_environment_can_be_loaded_by_a_shell(tmp_path: Path) -> None:
    """Special characters in values are quoted."""
    values = {"RISK_BROKER": "127.0.0.1:1", "RISK_SCHEMA_REGISTRY": "http://x/$HOME 'a'"}
    (tmp_path / "env").write_text(str(stack.Environment(tmp_path, values)))
    script = f'. {shlex.quote(str(tmp_path / "env"))}; printf "%s\\n" "$RISK_BROKER" "$RISK_SCHEMA_REGISTRY"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout.splitlines() == list(values.values())


def test_environment_without_registry_raises(tmp_path: Path) -> None:
    environment = stack.Environment(tmp_path, {"RISK_BROKER": "127.0.0.1:1"})
    assert environment.broker == "127.0.0.1:1"
    with pytest.raises(stack.StackError, match="no registry is running in"):
        _ = environment.registry


# -- the command line, without servers


def test_status_and_down_without_servers(tmp_path: Path) -> None:
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


def test_a_path_with_a_separator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(stack.StackError, match="the path of servers must not contain ,"):
        stack.up(tmp_path / "a,b")


def test_no_server_or_worker_has_a_port_that_the_kernel_may_give_to_a_connection() -> None:
    """While it is killed, nobody else takes it."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {free_port() for _ in range(20)} | {
        port for _ in range(20) for port in choose(("a", "b"), None, {}).values()
    }
    assert len(ports) > 50
    assert max(ports) < lowest


def test_up_fails_before_any_start_if_a_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        failed = run("up", str(tmp_path), "--kafka-port", str(port), "--no-registry")
    assert failed.returncode == 1
    assert failed.stderr == f"stack: port {port} is in use\n"
    assert stack.status(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"brokers": 2}, r"Kafka can have 1 or 3 nodes, not 2 \(--brokers\)"),
        ({"brokers": 1}, r"has data of 3 nodes of Kafka: use --brokers 3"),
    ],
)
def test_a_number_of_nodes_that_does_not_fit_is_refused(tmp_path: Path, arguments: Any, message: str) -> None:
    for name in NODES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "cluster.id").write_text("abc")
    with pytest.raises(stack.StackError, match=message):
        stack.up(tmp_path, **arguments)
    assert stack.status(tmp_path) == []


def test_an_unknown_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_KAFKA", "2.8")
    with pytest.raises(stack.StackError, match=r"Kafka 2\.8 is none of 3\.9, 4\.1, 4\.4"):
        stack.up(tmp_path)


def test_data_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    """An older Kafka would end with a stack trace about a metadata version."""
    require_release(tmp_path, [Path("kafka_2.13-3.9.1.jar"), Path("other-1.jar")])
    require_release(tmp_path, [Path("kafka_2.13-4.1.1.jar")])
    with pytest.raises(stack.StackError, match=r"has data of Kafka 4\.1\.1, which Kafka 3\.9\.1 cannot read"):
        require_release(tmp_path, [Path("kafka_2.13-3.9.1.jar")])


def test_nodes_know_each_other_and_an_empty_disk_keeps_the_identity(tmp_path: Path) -> None:
    ports = {name: {"broker": 100 + n, "controller": 200 + n} for n, name in enumerate(NODES)}
    for name in NODES:
        (tmp_path / name).mkdir()
        contents = kafka_settings(Instance(tmp_path / name, ports[name], peers=ports))
        assert contents["controller.quorum.voters"] == "1@127.0.0.1:200,2@127.0.0.1:201,3@127.0.0.1:202"
        assert (contents["node.id"], contents["min.insync.replicas"]) == (NODES.index(name) + 1, 2)
        format_storage(tmp_path / name)
    alone = kafka_settings(Instance(tmp_path / "kafka", ports["kafka"], peers={"kafka": ports["kafka"]}))
    assert "min.insync.replicas" not in alone
    before = (tmp_path / "kafka-2" / "data" / "meta.properties").read_text().splitlines()
    (tmp_path / "kafka-2" / "data" / "log").touch()
    stack.wipe("kafka-2", tmp_path)
    after = (tmp_path / "kafka-2" / "data" / "meta.properties").read_text().splitlines()
    assert [p.name for p in (tmp_path / "kafka-2" / "data").iterdir()] == ["meta.properties"]
    assert before[:3] == after[:3] != before[1:]
    assert len({(tmp_path / name / "cluster.id").read_text() for name in NODES}) == 1


# -- real servers


OWNER = """
import os, pathlib, stack, sys
print(stack.up(pathlib.Path(sys.argv[1]), owner_pid=os.getpid()).broker, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def owner(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A process that owns the servers of its directory, which is its last argument."""
    directory = tmp_path_factory.mktemp("own")
    arguments = [sys.executable, "-c", OWNER, str(directory)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(HOST)
        yield process
        process.kill()
    stack.down(directory)


@pytest.fixture(scope="module")
def own(owner: subprocess.Popen[str]) -> stack.Environment:
    """Servers for the tests of this file only, which may kill them."""
    assert isinstance(owner.args, list)
    return stack.up(Path(str(owner.args[-1])))


async def create_topic(broker: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


async def produce(broker: str, topic: str, value: bytes) -> None:
    """Send one record and wait for its acknowledgement."""
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
async def test_a_produced_record_is_consumed(cluster: stack.Environment) -> None:
    await create_topic(cluster.broker, "stack-in-out")
    await produce(cluster.broker, "stack-in-out", b"hello")
    assert await first_value(cluster.broker, "stack-in-out") == b"hello"


@pytest.mark.broker
async def test_topics_are_not_created_automatically(cluster: stack.Environment) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.broker)
    await admin.start()
    try:
        (described,) = await admin.describe_topics(["stack-undeclared"])
        assert described["error_code"] == UnknownTopicOrPartitionError.errno
    finally:
        await admin.close()


@pytest.mark.broker
def test_the_registry_keeps_schemas_backward_compatible(cluster: stack.Environment) -> None:
    """A new field needs a default, or old records could not be read."""

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
    for port in (port for server in stack.status(cluster.directory) for port in server.ports.values()):
        with socket.socket() as other:  # fails if the wildcard address is in use
            other.bind(("127.0.0.2", port))


@pytest.mark.broker
def test_up_is_idempotent(own: stack.Environment) -> None:
    before = pids(own.directory)
    assert stack.up(own.directory) == own
    again = run("up", str(own.directory))
    assert again.stdout == (own.directory / "env").read_text() == str(own)
    assert pids(own.directory) == before


@pytest.mark.broker
def test_up_with_another_port_is_refused(own: stack.Environment) -> None:
    with pytest.raises(stack.StackError, match=f"already running .* on port {own.broker.split(':')[1]}, not 1"):
        stack.up(own.directory, kafka_port=1)


@pytest.mark.broker
async def test_an_acknowledged_record_survives_kill_9(own: stack.Environment) -> None:
    """`restart` starts only the broker, on the same port; the registry keeps running."""
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
@pytest.mark.long
def test_a_registered_schema_survives_kill_9(own: stack.Environment) -> None:
    row = AvroSchema({"type": "record", "name": "Row", "fields": [{"name": "id", "type": "long"}]})
    number = SchemaRegistryClient(url=own.registry).register("stack-survivor-value", row)
    stack.kill("registry", own.directory)
    stack.restart("registry", own.directory)
    assert SchemaRegistryClient(url=own.registry).get_by_id(number) == row


@pytest.mark.broker
def test_servers_stop_with_their_owner_and_down_leaves_others_alone(
    cluster: stack.Environment, own: stack.Environment, owner: subprocess.Popen[str]
) -> None:
    """After kill -9 of the owner its servers stop; the shared ones keep running, also after `down`. The last test."""
    kafka, registry = (ServerFiles(own.directory, name) for name in ("kafka", "registry"))
    assert holder(kafka.server)
    assert holder(registry.server)
    owner.kill()
    assert wait_released([kafka.supervisor, kafka.server, registry.supervisor, registry.server], timeout_s=15.0)
    assert "its owner died" in kafka.log.read_text()
    assert stack.down(own.directory) == []
    assert stack.status(own.directory) == []
    assert all(server.ready for server in stack.status(cluster.directory))
    assert run("status", str(cluster.directory)).returncode == 0
    assert json.loads(ServerFiles(cluster.directory, "kafka").spec.read_text())["owner"] == os.getpid()
