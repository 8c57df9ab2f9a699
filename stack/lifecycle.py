"""One server's life: its keeper is started, it is asked until it is ready, it is stopped for good."""

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
from stack.kafka import KAFKA
from stack.lockfile import POLL_S, freed, holder
from stack.mariadb import MARIADB
from stack.process_spec import Files, Orders
from stack.registry import REGISTRY
from stack.search import SEARCH
from stack.server import Place, Server

#: in the order in which they are started: the registry's JVM wakes up while Kafka formats its storage
SERVERS: Mapping[str, Server] = {server.name: server for server in (REGISTRY, KAFKA, MARIADB, CONNECT, SEARCH)}

#: how long a server may take to become ready [s]
START_S = 90.0
#: how often a server is started again on other ports when somebody took the ones chosen for it
PORT_TRIES = 3


def runs(files: Files) -> bool:
    """Whether the server is being kept."""
    return holder(files.keeper) is not None


def place(files: Files) -> Place:
    """The server's place, from its orders."""
    return Place(files.home, Orders.read(files.orders).ports, others(files))


def others(files: Files) -> dict[str, str]:
    """The variables that lead to the servers it needs, as far as they were started here."""
    needed = [Files(files.directory, name) for name in SERVERS[files.name].needs]
    pairs = [SERVERS[one.name].environment(place(one)) for one in needed if one.orders.exists()]
    return {name: value for some in pairs for name, value in some.items()}


def start(files: Files, like: Orders, parts: Sequence[Path], port: int | None) -> None:
    """Choose ports, write the orders and have a keeper carry them out, for as long as `like` says."""
    server = SERVERS[files.name]
    end(files)  # a server that has lost its keeper
    before = Orders.read(files.orders).ports if files.orders.exists() else {}
    chosen = ports.choose(server.ports, port, before, server.highest_port)
    files.home.mkdir(exist_ok=True)
    argv = tuple(server.command(Place(files.home, chosen, others(files)), parts))
    replace(like, name=server.name, argv=argv, ports=chosen, grace_s=server.grace_s).write(files.orders)
    launch(files)


def launch(files: Files) -> None:
    """Start the keeper; when this returns it lives (or has died already, and said why in the log)."""
    files.log.parent.mkdir(parents=True, exist_ok=True)
    package = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    with files.log.open("ab") as log:
        subprocess.run(
            [sys.executable, "-m", "stack.supervisor", str(files.orders)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=files.directory,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )


def await_ready(files: Files, parts: Sequence[Path] | None, port: int | None) -> None:
    """Ask until the server is ready; start it again elsewhere if somebody else took its ports.

    `parts` are those it was started with just now, None if it ran before.
    Raises StackError if it dies or is slow.
    """
    for _ in range(PORT_TRIES):
        if became_ready(files):
            SERVERS[files.name].settle(place(files))
            return
        orders = Orders.read(files.orders)
        taken = [number for number in orders.ports.values() if not ports.is_free(number)]
        if not taken or parts is None:
            raise StackError(f"{files.name} died while starting; {tail(files.log)}")
        if port in taken:
            raise StackError(f"{files.name} died while starting: port {port} was taken meanwhile")
        start(files, orders, parts, port)
    raise StackError(f"{files.name}: somebody took its ports {PORT_TRIES} times; {tail(files.log)}")


def became_ready(files: Files) -> bool:
    """Wait until the server is ready (True) or its keeper is gone (False).

    Raises StackError if it takes longer than START_S.
    """
    server, where = SERVERS[files.name], place(files)
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        # alive is asked after ready, for a stranger on its port might have answered
        if server.ready(where) and runs(files):
            return True
        if not runs(files):
            return False
        time.sleep(POLL_S)
    raise StackError(f"{files.name} was not ready after {START_S:.0f} s; {tail(files.log)}")


def tail(log: Path, count: int = 6) -> str:
    """The last lines of a log, and where the rest is."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n  ".join([f"the end of {log}:", *lines[-count:]])


def end(files: Files) -> bool:
    """Stop the server, gently and then not; whether there was anything to stop."""
    both = [files.keeper, files.server]
    if freed(both, 0.0):
        return False
    grace_s = Orders.read(files.orders).grace_s
    # the keeper passes it on; an orphan gets it itself
    send(signal.SIGTERM, files.keeper) or send(signal.SIGTERM, files.server)
    if not freed(both, grace_s + 2.0):
        send(signal.SIGKILL, files.keeper)
        send(signal.SIGKILL, files.server)
        if not freed(both, 5.0):
            raise StackError(f"{files.name} does not die: look at process {holder(files.server)}")
    return True


def send(number: int, held: Path) -> bool:
    """Signal the process that holds a file; whether there is one."""
    pid = holder(held)
    if not pid:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
