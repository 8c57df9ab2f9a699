"""Operations on the servers of one directory: start, query, kill, restart and stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack import artifacts, kafka_versions, ports
from stack.connect import CONNECT
from stack.environment import Environment
from stack.errors import StackError
from stack.kafka import KAFKA, NODES, SIZES, format_storage, size_of
from stack.life import (
    SERVERS,
    START_S,
    await_ready,
    instance_of,
    is_running,
    reserve_ports,
    send_signal,
    start,
    start_supervisor,
    stop,
)
from stack.lockfile import exclusive, holder, wait_released
from stack.mariadb import MARIADB
from stack.opensearch import OPENSEARCH
from stack.process_spec import ProcessSpec, ServerFiles
from stack.registry import REGISTRY
from stack.search import SEARCH
from stack.security import make_security

#: optional servers by the option that requests them
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "cdc": (MARIADB.name, CONNECT.name),
    "search": (SEARCH.name,),
    "opensearch": (OPENSEARCH.name,),
}
#: time after which servers are stopped if no command stops them [h]
HOURS = 12.0


@dataclass(frozen=True)
class Status:
    """Current state of one server."""

    name: str
    #: pid of the server, not its supervisor; None if it is not running
    pid: int | None
    ports: Mapping[str, int]
    ready: bool


def up(
    directory: Path,
    *,
    kafka_port: int | None = None,
    registry_port: int | None = None,
    kafka: bool = True,
    registry: bool = True,
    cdc: bool = False,
    search: bool = False,
    opensearch: bool = False,
    brokers: int | None = None,
    version: str | None = None,
    secure: bool = False,
    hours: float = HOURS,
    owner_pid: int | None = None,
) -> Environment:
    """Start the servers of `directory` that are not running, and return when all of them are ready.

    The servers stop at `down`, after `hours`, or when the process `owner_pid` dies, whichever comes first.
    Servers that were already running keep their ports, owner and end. `cdc` adds MariaDB and Kafka Connect and implies
    Kafka and the registry; `search` adds Elasticsearch, `opensearch` OpenSearch. brokers: number of Kafka's nodes, None
    for as many as `directory` has data of, or one; version: Kafka's, by default that of STACK_KAFKA. `secure` makes
    Kafka want TLS, a login and rights, now and later. Raises StackError after stopping the servers it started.
    """
    directory = checked(directory)
    nodes = nodes_of(directory, brokers)
    wanted = dict.fromkeys(nodes) | {KAFKA.name: kafka_port} if kafka or cdc else {}
    wanted |= {REGISTRY.name: registry_port} if registry or cdc else {}
    wanted |= dict.fromkeys(requested(cdc=cdc, search=search, opensearch=opensearch))
    if secure and (cdc or len(nodes) > 1):
        raise StackError("--secure is for one node without Kafka Connect: leave --cdc and --brokers out")
    with exclusive(directory / "lock", START_S):
        if secure:
            make_security(directory)
        for name, port in wanted.items():
            if port is not None:
                require_port(ServerFiles(directory, name), port)
        missing = [name for name in SERVERS if name in wanted and not is_running(ServerFiles(directory, name))]
        parts = fetch_parts(missing, version)
        template = ProcessSpec("", (), {}, owner_pid, time.time() + hours * 3600, 0.0)
        try:
            if KAFKA.name in wanted and len(nodes) > 1:
                reserve_ports([ServerFiles(directory, name) for name in nodes], template, kafka_port)
            for stage in stages(wanted):
                for name in (name for name in stage if name in missing):
                    start(ServerFiles(directory, name), template, parts[name], wanted[name])
                for name in stage:
                    await_ready(ServerFiles(directory, name), parts.get(name), wanted[name])
        except BaseException:
            for name in missing:
                remove(ServerFiles(directory, name))
            raise
        return write_environment(directory)


def nodes_of(directory: Path, brokers: int | None) -> Sequence[str]:
    """Return the names of Kafka's nodes. Raises StackError if `directory` has data of another number of nodes."""
    existing = size_of(directory)
    wanted = brokers or existing or 1
    if wanted not in SIZES:
        raise StackError(f"Kafka can have {' or '.join(map(str, SIZES))} nodes, not {wanted} (--brokers)")
    if existing not in (0, wanted):
        raise StackError(f"{directory} has data of {existing} nodes of Kafka: use --brokers {existing}")
    return NODES[:wanted]


def fetch(*, cdc: bool = False, search: bool = False, opensearch: bool = False, version: str | None = None) -> None:
    """Download what `up` needs. Raises StackError; Unavailable if a requirement is missing."""
    default = SERVERS.keys() - requested(**dict.fromkeys(OPTIONAL, True))
    optional = requested(cdc=cdc, search=search, opensearch=opensearch)
    fetch_parts([name for name in SERVERS if name in default | optional], version)


def requested(**options: bool) -> set[str]:
    """Return the optional servers that the options request."""
    return {name for option, enabled in options.items() if enabled for name in OPTIONAL[option]}


def fetch_parts(names: Sequence[str], version: str | None) -> dict[str, list[Path]]:
    """Return the servers' files by server name, of Kafka those of `version`.

    Raises StackError, before a download if a requirement is missing.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    entries: dict[str, str] = {}
    for name in names:
        server = SERVERS[name]
        server.require()
        entries[name], roots = server.lock_entry or name, server.roots
        if name in NODES:
            selected = kafka_versions.selected(version)
            kafka_versions.require(selected)
            entries[name], roots = kafka_versions.entry(selected), kafka_versions.roots(selected)
        wanted[entries[name]] = roots
    files = artifacts.fetch(wanted)
    return {name: files[entries[name]] for name in names}


def stages(names: Iterable[str]) -> list[list[str]]:
    """Return the servers that can start concurrently, then those that depend on them."""
    in_order = [name for name in SERVERS if name in set(names)]
    return [[name for name in in_order if bool(SERVERS[name].needs) == dependent] for dependent in (False, True)]


def checked(directory: Path) -> Path:
    """Return the absolute path. Raises StackError if it has a character that separates paths in configurations."""
    absolute = directory.absolute()
    if bad := set(str(absolute)) & set(",;\\\n"):
        raise StackError(f"{absolute}: the path of servers must not contain {' '.join(sorted(bad))}")
    return absolute


def require_port(files: ServerFiles, port: int) -> None:
    """Raise StackError if the server is running on another port, or another process uses this one."""
    if not is_running(files):
        ports.require_free(port)
    elif (actual := instance_of(files).ports[SERVERS[files.name].ports[0]]) != port:
        raise StackError(f"{files.name} is already running in {files.directory} on port {actual}, not {port}")


def started(directory: Path) -> list[ServerFiles]:
    """Return the servers that were started here and not stopped by `down`, running or not."""
    return [files for files in (ServerFiles(directory, name) for name in SERVERS) if files.spec.exists()]


def write_environment(directory: Path) -> Environment:
    """Collect the running servers' variables and write them to `directory`/env."""
    variables: dict[str, str] = {}
    for files in started(directory):
        if is_running(files):
            variables.update(SERVERS[files.name].environment(instance_of(files)))
    environment = Environment(directory, variables)
    (directory / "env").write_text(str(environment), encoding="utf-8")
    return environment


def status(directory: Path) -> list[Status]:
    """Return the state of every server that was started in `directory` and not stopped by `down`."""
    return [status_of(files) for files in started(checked(directory))]


def status_of(files: ServerFiles) -> Status:
    """Return the state of one server."""
    instance = instance_of(files)
    return Status(files.name, holder(files.server) or None, instance.ports, SERVERS[files.name].ready(instance))


def down(directory: Path) -> list[str]:
    """Stop the servers that `up` started in `directory`, and return their names. Data and logs are kept."""
    directory = checked(directory)
    if not (directory / "lock").exists():
        return []  # nothing was ever started here: do not create the directory
    with exclusive(directory / "lock", START_S):
        (directory / "env").unlink(missing_ok=True)
        return [files.name for files in reversed(started(directory)) if remove(files)]


def remove(files: ServerFiles) -> bool:
    """Stop a server and delete its ProcessSpec; return whether it was running."""
    stopped = stop(files)
    files.spec.unlink(missing_ok=True)
    return stopped


def kill(name: str, directory: Path) -> None:
    """Send SIGKILL to one server and wait until it is gone. Raises StackError if it is not running."""
    files = signal_server(name, directory, signal.SIGKILL)
    if not wait_released([files.supervisor, files.server], 10.0):
        raise StackError(f"{name} survived SIGKILL")


def halt(name: str, directory: Path) -> None:
    """Stop one server by SIGTERM; `restart` starts it again."""
    stop(ServerFiles(checked(directory), name))


def suspend(name: str, directory: Path) -> None:
    """Send SIGSTOP to one server: it keeps its connections and does nothing. Raises StackError if it is not running."""
    signal_server(name, directory, signal.SIGSTOP)


def resume(name: str, directory: Path) -> None:
    """Send SIGCONT to one server. Raises StackError if it is not running."""
    signal_server(name, directory, signal.SIGCONT)


def signal_server(name: str, directory: Path, number: int) -> ServerFiles:
    """Send a signal to one server. Raises StackError if it is not running."""
    files = ServerFiles(checked(directory), name)
    if not send_signal(number, files.server):
        raise StackError(f"{name} is not running in {directory}")
    return files


def wipe(name: str, directory: Path) -> None:
    """Give one node of Kafka an empty disk, as a replacement gets one. Raises StackError if it is running."""
    files = ServerFiles(checked(directory), name)
    if is_running(files):
        raise StackError(f"{name} is running in {directory}")
    format_storage(files.home)


def restart(name: str, directory: Path) -> None:
    """Start one server again with the same ports and data, and return when it is ready.

    A running server is stopped first. Raises StackError if it was never started here or does not become ready.
    """
    files = ServerFiles(checked(directory), name)
    if not files.spec.exists():
        raise StackError(f"{name} was never started in {directory}")
    with exclusive(files.directory / "lock", START_S):
        stop(files)
        start_supervisor(files)
        await_ready(files, None, None)
