"""Apache Kafka: one node, or a cluster of three, each of them broker and controller in one (KRaft)."""

from __future__ import annotations

import base64
import shutil
import socket
import struct
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack import kafka_versions
from stack.errors import StackError
from stack.security import Security, security_of
from stack.server import HOST, REQUEST_TIMEOUT_S, Instance, Server, find_java, java, write_lines

#: the nodes of a cluster in order of their ids, which begin at 1
NODES = ("kafka", "kafka-2", "kafka-3")
#: numbers of nodes that a cluster may have: two could not elect a controller without each other
SIZES = (1, 3)
#: maximum heap of the only node, and of each of several [MB]
HEAP_MB, SMALL_HEAP_MB = 512, 192

#: settings that differ from Kafka's defaults, with the reason; a topic's settings are chosen by its creator
SETTINGS: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
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

#: settings of a node that is not alone
REPLICATED: Mapping[str, str | int] = {
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    # a node that was restarted soon leads its partitions again [s]
    "leader.imbalance.check.interval.seconds": 5,
}


def settings(instance: Instance) -> dict[str, str | int]:
    """Return the contents of server.properties."""
    broker, controller = instance.ports["broker"], instance.ports["controller"]
    voters = (f"{node_id(name)}@{HOST}:{ports['controller']}" for name, ports in instance.peers.items())
    security = security_of(instance.home.parent)
    return {
        **SETTINGS,
        **(REPLICATED if len(instance.peers) > 1 else {}),
        "node.id": node_id(instance.home.name),
        "listeners": f"BROKER://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"BROKER://{HOST}:{broker}",
        "controller.quorum.voters": ",".join(voters),
        "log.dirs": str(instance.home / "data"),
        **(security.settings(instance.ports) if security else {}),
    }


def node_id(name: str) -> int:
    """Return the id of a node."""
    return NODES.index(name) + 1


def cluster_id(home: Path) -> str | None:
    """Return the cluster id that `home` is formatted for, None if it is not or only partly formatted."""
    try:
        return (home / "cluster.id").read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError):
        return None


def random_id() -> str:
    """Return a random UUID as Kafka writes it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def format_storage(home: Path) -> None:
    """Create the data directory of a new node, and with the first node a new cluster.

    This is what Kafka's StorageTool writes, without starting a JVM; the broker chooses the newest metadata version.
    """
    shutil.rmtree(home / "data", ignore_errors=True)  # left over if an earlier call was killed
    (home / "data").mkdir()
    identity = cluster_id(home.with_name(NODES[0])) or random_id()
    own = {"node.id": node_id(home.name), "directory.id": random_id()}
    write_lines(home / "data" / "meta.properties", {"version": 1, "cluster.id": identity, **own})
    (home / "cluster.id").write_text(identity, encoding="ascii")  # last: marks that the rest is complete


def size_of(directory: Path) -> int:
    """Return the number of nodes that have data in `directory`."""
    return sum(cluster_id(directory / name) is not None for name in NODES)


def require_release(home: Path, files: Sequence[Path]) -> None:
    """Remember the release that writes a node's data. Raises StackError if a newer one has written it."""
    release, path = kafka_versions.release_of(files), home / "release"
    written = path.read_text(encoding="ascii") if path.exists() else release
    if _numbers(written) > _numbers(release):
        raise StackError(f"{home} has data of Kafka {written}, which Kafka {release} cannot read: use --kafka")
    path.write_text(release, encoding="ascii")


def _numbers(release: str) -> list[int]:
    return [int(number) for number in release.split(".")]


def command(instance: Instance, files: Sequence[Path]) -> list[str]:
    """Write the configuration, format the storage if it is new, and return the command line of the node."""
    home = instance.home
    require_release(home, files)
    write_lines(home / "server.properties", settings(instance))
    if cluster_id(home) is None:
        format_storage(home)
    heap_mb = HEAP_MB if len(instance.peers) == 1 else SMALL_HEAP_MB
    return [
        *java(home, heap_mb=heap_mb, properties=kafka_versions.write_logging(home, files)),
        "-cp",
        ":".join(map(str, files)),
        "kafka.Kafka",
        str(home / "server.properties"),
    ]


def request_metadata(port: int, security: Security | None = None) -> tuple[list[int], str | None]:
    """Return the ids of the live nodes and of the cluster that answers on `port`; no node if none answers."""
    # header: api 3 (Metadata), version 2, correlation 0, no client id; body: no topics
    request = struct.pack(">hhihi", 3, 2, 0, -1, 0)
    try:
        with (
            security.connect(port) if security else socket.create_connection((HOST, port), REQUEST_TIMEOUT_S)
        ) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as reader:
                (length,) = struct.unpack(">i", reader.read(4))
                return parse_metadata(reader.read(length))
    except (OSError, struct.error):
        return [], None


def parse_metadata(answer: bytes) -> tuple[list[int], str | None]:
    """Return the ids of the nodes and of the cluster in a Metadata response (version 2). Raises struct.error."""
    _, count = struct.unpack_from(">ii", answer)
    at, nodes = 8, []
    for _ in range(count):
        node, host = struct.unpack_from(">ih", answer, at)
        nodes.append(node)
        at += 4 + 2 + host + 4  # node id, host, port
        (rack,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack, 0)  # a null string has length -1
    (length,) = struct.unpack_from(">h", answer, at)
    return nodes, answer[at + 2 : at + 2 + length].decode() if length > 0 else None


def ready(instance: Instance) -> bool:
    """Return whether this instance's broker is registered in its cluster and serves clients."""
    nodes, identity = request_metadata(instance.ports["broker"], security_of(instance.home.parent))
    return node_id(instance.home.name) in nodes and identity == cluster_id(instance.home)


def settle(instance: Instance) -> None:
    """Create the users of a node that wants a login. Raises StackError."""
    if security := security_of(instance.home.parent):
        security.create_users(instance.ports["broker"])


def environment(instance: Instance) -> dict[str, str]:
    """Return the variable that lists the brokers of all nodes, or those of a login."""
    if security := security_of(instance.home.parent):
        return security.environment(instance.ports)
    return {"RISK_BROKER": ",".join(f"{HOST}:{ports['broker']}" for ports in instance.peers.values())}


def node(name: str) -> Server:
    """Return one node of the default version."""
    return Server(
        name=name,
        roots=kafka_versions.roots(kafka_versions.DEFAULT),
        lock_entry=kafka_versions.entry(kafka_versions.DEFAULT),
        ports=("broker", "controller"),
        command=command,
        ready=ready,
        settle=settle,
        environment=environment,
        require=find_java,
        cluster=NODES,
    )


KAFKA = node(NODES[0])
