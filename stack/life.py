"""Start, readiness and stop of one server, through its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stack import ports
from stack.connect import CONNECT
from stack.errors import StackError
from stack.kafka import KAFKA, NODES, node
from stack.lockfile import holder, wait_released
from stack.mariadb import MARIADB
from stack.opensearch import OPENSEARCH
from stack.process_spec import ProcessSpec, ServerFiles
from stack.registry import REGISTRY
from stack.search import SEARCH
from stack.security import PORTS, security_of
from stack.server import Instance, Server

#: in order of start: the registry first, since its JVM takes longer to become ready than Kafka
SERVERS: Mapping[str, Server] = {
    server.name: server for server in (REGISTRY, KAFKA, *map(node, NODES[1:]), MARIADB, CONNECT, SEARCH, OPENSEARCH)
}

#: timeout for a server to become ready [s]
START_S = 90.0
#: interval for polling a server that starts: a request costs this process about 1 ms of CPU [s]
READY_POLL_S = 0.1
#: attempts to start a server on other ports if another process takes its ports
PORT_ATTEMPTS = 3


def is_running(files: ServerFiles) -> bool:
    """Return whether the server has a supervisor."""
    return holder(files.supervisor) is not None


def instance_of(files: ServerFiles) -> Instance:
    """Return the instance that the server's ProcessSpec describes."""
    ports = ProcessSpec.read(files.spec).ports
    return Instance(files.home, ports, dependency_variables(files), peers_of(files, ports))


def peers_of(files: ServerFiles, own: Mapping[str, int]) -> dict[str, Mapping[str, int]]:
    """Return the ports of all nodes of the server's cluster, in order; `own` are the server's."""
    peers: dict[str, Mapping[str, int]] = {}
    for name in SERVERS[files.name].cluster:
        spec = ServerFiles(files.directory, name).spec
        if name == files.name:
            peers[name] = own
        elif spec.exists():
            peers[name] = ProcessSpec.read(spec).ports
    return peers


def dependency_variables(files: ServerFiles) -> dict[str, str]:
    """Return the environment variables of the servers it depends on, if they were started here."""
    needed = [ServerFiles(files.directory, name) for name in SERVERS[files.name].needs]
    variables: dict[str, str] = {}
    for other in needed:
        if other.spec.exists():
            variables.update(SERVERS[other.name].environment(instance_of(other)))
    return variables


def start(files: ServerFiles, template: ProcessSpec, parts: Sequence[Path], port: int | None) -> None:
    """Choose ports and start a supervisor; owner and end of the server are those of `template`."""
    server = SERVERS[files.name]
    stop(files)  # an orphan whose supervisor was killed
    previous = ProcessSpec.read(files.spec).ports if files.spec.exists() else {}
    more = PORTS if server.name == KAFKA.name and security_of(files.directory) else ()
    chosen = ports.choose((*server.ports, *more), port, previous, server.highest_port)
    peers = peers_of(files, chosen)
    if len(peers) > 1 and chosen != previous:
        raise StackError(f"another process took a port of {files.name}, which the other nodes know: try again")
    files.home.mkdir(exist_ok=True)
    argv = tuple(server.command(Instance(files.home, chosen, dependency_variables(files), peers), parts))
    replace(template, name=server.name, argv=argv, ports=chosen, grace_s=server.grace_s).write(files.spec)
    start_supervisor(files)


def reserve_ports(files: Sequence[ServerFiles], template: ProcessSpec, port: int | None) -> None:
    """Choose the ports of several nodes, which must know each other's before the first is started.

    port: the first node's. Nodes that were started before keep their ports.
    """
    for file in files:
        if not file.spec.exists():
            chosen = ports.choose(SERVERS[file.name].ports, port if file is files[0] else None, {})
            replace(template, name=file.name, ports=chosen).write(file.spec)


def start_supervisor(files: ServerFiles) -> None:
    """Start the supervisor; on return it is running, or has ended with a message in the log."""
    files.log.parent.mkdir(parents=True, exist_ok=True)
    package = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    with files.log.open("ab") as log:
        subprocess.run(
            [sys.executable, "-m", "stack.supervisor", str(files.spec)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=files.directory,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )


def await_ready(files: ServerFiles, parts: Sequence[Path] | None, port: int | None) -> None:
    """Wait until the server is ready; start it again on other ports if another process took its ports.

    parts: the files it was just started with, None if it was running before; port: the one that was requested.
    Raises StackError if it dies or is not ready in time.
    """
    for _ in range(PORT_ATTEMPTS):
        if wait_ready(files):
            SERVERS[files.name].settle(instance_of(files))
            return
        spec = ProcessSpec.read(files.spec)
        taken = [number for number in spec.ports.values() if not ports.is_free(number)]
        if not taken or parts is None:
            raise StackError(f"{files.name} died while starting; {tail(files.log)}")
        if port in taken:
            raise StackError(f"{files.name} died while starting: another process took port {port}")
        start(files, spec, parts, port)
    raise StackError(f"{files.name}: other processes took its ports {PORT_ATTEMPTS} times; {tail(files.log)}")


def wait_ready(files: ServerFiles) -> bool:
    """Wait until the server is ready (True) or its supervisor has ended (False).

    Raises StackError if it takes longer than START_S.
    """
    server, instance = SERVERS[files.name], instance_of(files)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        # in this order, since another server may have answered on the port
        if server.ready(instance) and is_running(files):
            return True
        if not is_running(files):
            return False
        time.sleep(READY_POLL_S)
    raise StackError(f"{files.name} was not ready after {START_S:.0f} s; {tail(files.log)}")


def tail(log: Path, count: int = 6) -> str:
    """Return the last lines of a log and its path."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n  ".join([f"the end of {log}:", *lines[-count:]])


def stop(files: ServerFiles) -> bool:
    """Stop the server, by SIGKILL if SIGTERM does not suffice; return whether it was running."""
    locks = [files.supervisor, files.server]
    if wait_released(locks, 0.0):
        return False
    grace_s = ProcessSpec.read(files.spec).grace_s
    # the supervisor forwards the signal; an orphan gets it directly
    send_signal(signal.SIGTERM, files.supervisor) or send_signal(signal.SIGTERM, files.server)
    if not wait_released(locks, grace_s + 2.0):
        send_signal(signal.SIGKILL, files.supervisor)
        send_signal(signal.SIGKILL, files.server)
        if not wait_released(locks, 5.0):
            raise StackError(f"{files.name} survived SIGKILL: look at process {holder(files.server)}")
    return True


def send_signal(number: int, lock: Path) -> bool:
    """Send a signal to the process that holds a lock file; return whether there is one."""
    pid = holder(lock)
    if not pid:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
