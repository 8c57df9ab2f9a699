"""A single Apache Kafka node, broker and controller in one (KRaft)."""

from __future__ import annotations

import base64
import shutil
import socket
import struct
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.server import HOST, REQUEST_TIMEOUT_S, Instance, Server, find_java, java, write_lines

VERSION = "3.9.1"

#: settings that differ from Kafka's defaults, with the reason; a topic's settings are chosen by its creator
SETTINGS: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    # a misspelt topic is an error, not a new topic
    "auto.create.topics.enable": "false",
    # there is only one broker
    "default.replication.factor": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    # fewer partitions to create and to load at startup
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 4,
    # after kill -9 the controller accepts the new broker only when the old one's session has expired [ms]
    "broker.session.timeout.ms": 2000,
    "broker.heartbeat.interval.ms": 500,
    # a test's consumer joins at once, and may have a short session timeout [ms]
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # the default allocates 128 MB of the heap at startup [bytes]
    "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    # compacted topics keep all rows unless their own settings say otherwise: users and tests want to see them
    "log.cleaner.min.cleanable.ratio": 1,
}

LOGGING = """\
log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
log4j.logger.org.apache.kafka.common.config=WARN
log4j.logger.kafka.server.KafkaConfig=WARN
log4j.logger.org.apache.kafka.common.utils.AppInfoParser=WARN
"""


def settings(instance: Instance) -> dict[str, str | int]:
    """Return the contents of server.properties."""
    broker, controller = instance.ports["broker"], instance.ports["controller"]
    return {
        **SETTINGS,
        "listeners": f"BROKER://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"BROKER://{HOST}:{broker}",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "log.dirs": str(instance.home / "data"),
    }


def cluster_id(home: Path) -> str | None:
    """Return the cluster id that `home` is formatted for, None if it is not or only partly formatted."""
    try:
        return (home / "cluster.id").read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def random_id() -> str:
    """Return a random UUID as Kafka writes it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def format_storage(home: Path) -> None:
    """Create the data directory of a new cluster.

    This is what Kafka's StorageTool writes, without starting a JVM; the broker chooses the newest metadata version.
    """
    shutil.rmtree(home / "data", ignore_errors=True)  # left over if an earlier call was killed
    (home / "data").mkdir()
    identity = random_id()
    properties = {"version": 1, "cluster.id": identity, "node.id": SETTINGS["node.id"], "directory.id": random_id()}
    write_lines(home / "data" / "meta.properties", properties)
    (home / "cluster.id").write_text(identity, encoding="ascii")  # last: marks that the rest is complete


def command(instance: Instance, files: Sequence[Path]) -> list[str]:
    """Write the configuration, format the storage if it is new, and return the command line of the broker."""
    home = instance.home
    write_lines(home / "server.properties", settings(instance))
    (home / "log4j.properties").write_text(LOGGING, encoding="utf-8")
    if cluster_id(home) is None:
        format_storage(home)
    properties = {"log4j.configuration": (home / "log4j.properties").as_uri()}
    return [
        *java(home, heap_mb=512, properties=properties),
        "-cp",
        ":".join(map(str, files)),
        "kafka.Kafka",
        str(home / "server.properties"),
    ]


def request_cluster_id(port: int) -> str | None:
    """Return the id of the cluster that answers on `port`, None if none answers or it has no live broker."""
    # header: api 3 (Metadata), version 2, correlation 0, no client id; body: no topics
    request = struct.pack(">hhihi", 3, 2, 0, -1, 0)
    try:
        with socket.create_connection((HOST, port), timeout=REQUEST_TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as reader:
                (length,) = struct.unpack(">i", reader.read(4))
                return parse_cluster_id(reader.read(length))
    except (OSError, struct.error):
        return None


def parse_cluster_id(answer: bytes) -> str | None:
    """Return the cluster id of a Metadata response (version 2), None if it lists no broker. Raises struct.error."""
    _, brokers = struct.unpack_from(">ii", answer)
    at = 8
    for _ in range(brokers):
        (host,) = struct.unpack_from(">h", answer, at + 4)
        at += 4 + 2 + host + 4  # node id, host, port
        (rack,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack, 0)  # a null string has length -1
    (length,) = struct.unpack_from(">h", answer, at)
    return answer[at + 2 : at + 2 + length].decode() if brokers and length > 0 else None


def ready(instance: Instance) -> bool:
    """Return whether this instance's broker is registered in its cluster and serves clients."""
    identity = cluster_id(instance.home)
    return identity is not None and request_cluster_id(instance.ports["broker"]) == identity


KAFKA = Server(
    name="kafka",
    # Kafka includes only the API of slf4j: without a binding nothing would be logged
    roots=(f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-reload4j:1.7.36"),
    ports=("broker", "controller"),
    command=command,
    ready=ready,
    settle=lambda instance: None,
    environment=lambda instance: {"RISK_BROKER": f"{HOST}:{instance.ports['broker']}"},
    require=find_java,
)
