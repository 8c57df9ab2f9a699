"""Apache Kafka, one node that is broker and controller (KRaft)."""

from __future__ import annotations

import base64
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.errors import StackError
from stack.server import ASK_S, HOST, Place, Server, find_java, java

VERSION = "3.9.1"

#: what differs from Kafka's defaults, and why; a topic's own settings are its creator's affair
SETTINGS: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    # a misspelt topic is an error, not a new topic
    "auto.create.topics.enable": "false",
    # one node holds everything
    "default.replication.factor": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    # fewer partitions to create and to load at a start
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 4,
    # after kill -9 the controller must see the old broker gone before it lets the new one in [ms]
    "broker.session.timeout.ms": 2000,
    "broker.heartbeat.interval.ms": 500,
    # a test's consumer joins at once, and is missed soon after it was killed [ms]
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # the default takes 128 MB of the heap from the first minute [bytes]
    "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    # a compacted topic keeps all its rows, unless it says otherwise itself: who tries the app out, and every test,
    # wants to see them
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


def settings(place: Place) -> dict[str, str | int]:
    """The whole server.properties."""
    broker, controller = place.ports["broker"], place.ports["controller"]
    return {
        **SETTINGS,
        "listeners": f"BROKER://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"BROKER://{HOST}:{broker}",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "log.dirs": str(place.home / "data"),
    }


def cluster_id(home: Path) -> str | None:
    """The cluster that `home` is formatted for, or None if it is not (yet, or not to the end)."""
    try:
        return (home / "cluster.id").read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def format_storage(home: Path, run: Sequence[str]) -> None:
    """Make an empty data directory for a new cluster. Raises StackError with the tool's last line."""
    shutil.rmtree(home / "data", ignore_errors=True)  # half formatted by a command that was killed
    identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    arguments = ("format", f"--cluster-id={identity}", f"--config={home / 'server.properties'}")
    tool = subprocess.run(
        [*run, "kafka.tools.StorageTool", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if tool.returncode:
        raise StackError(f"cannot format {home}: {' '.join(tool.stdout.split())[-300:]}")
    (home / "cluster.id").write_text(identity, encoding="ascii")  # last: it says that all the rest is there


def command(place: Place, files: Sequence[Path]) -> list[str]:
    """Configure and, the first time, format; the command line of the broker."""
    home = place.home
    lines = (f"{name}={value}\n" for name, value in settings(place).items())
    (home / "server.properties").write_text("".join(lines), encoding="utf-8")
    (home / "log4j.properties").write_text(LOGGING, encoding="utf-8")
    properties = {"log4j.configuration": (home / "log4j.properties").as_uri()}
    run = [*java(home, heap_mb=512, properties=properties), "-cp", ":".join(map(str, files))]
    if cluster_id(home) is None:
        format_storage(home, run)
    return [*run, "kafka.Kafka", str(home / "server.properties")]


def ask_cluster_id(port: int) -> str | None:
    """The id of the cluster that answers on `port` and has a live broker; None if there is no such answer."""
    # header: api 3 (Metadata), version 2, correlation 0, no client id; body: no topics
    request = struct.pack(">hhihi", 3, 2, 0, -1, 0)
    try:
        with socket.create_connection((HOST, port), timeout=ASK_S) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as reader:
                (length,) = struct.unpack(">i", reader.read(4))
                return parse_cluster_id(reader.read(length))
    except (OSError, struct.error):
        return None


def parse_cluster_id(answer: bytes) -> str | None:
    """The cluster id in a Metadata response (version 2), None if it names no broker. Raises struct.error."""
    _, brokers = struct.unpack_from(">ii", answer)
    at = 8
    for _ in range(brokers):
        (host,) = struct.unpack_from(">h", answer, at + 4)
        at += 4 + 2 + host + 4  # node id, host, port
        (rack,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack, 0)  # a null string has length -1
    (length,) = struct.unpack_from(">h", answer, at)
    return answer[at + 2 : at + 2 + length].decode() if brokers and length > 0 else None


def ready(place: Place) -> bool:
    """Whether this directory's broker has been let into its cluster, and so serves clients."""
    identity = cluster_id(place.home)
    return identity is not None and ask_cluster_id(place.ports["broker"]) == identity


KAFKA = Server(
    name="kafka",
    # Kafka itself brings only the API of slf4j: without a binding nothing would be logged
    roots=(f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-reload4j:1.7.36"),
    ports=("broker", "controller"),
    command=command,
    ready=ready,
    settle=lambda place: None,
    environment=lambda place: {"RISK_BROKER": f"{HOST}:{place.ports['broker']}"},
    require=find_java,
)
