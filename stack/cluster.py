"""The servers of one directory, together: started, asked, killed, stopped. And nothing else."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack import artifacts, ports
from stack.connect import CONNECT
from stack.errors import StackError
from stack.kafka import KAFKA
from stack.lifecycle import SERVERS, START_S, await_ready, end, launch, place, runs, send, start
from stack.lockfile import alone, freed, holder
from stack.mariadb import MARIADB
from stack.process_spec import Files, Orders
from stack.registry import REGISTRY
from stack.search import SEARCH

#: what is started, and downloaded, on request only: the option that asks for it -> the servers
ON_REQUEST: Mapping[str, tuple[str, ...]] = {"cdc": (MARIADB.name, CONNECT.name), "search": (SEARCH.name,)}
#: life of servers that nobody stops [h]
HOURS = 12.0


@dataclass(frozen=True)
class Environment:
    """What leads other commands to the servers of a directory."""

    directory: Path
    variables: Mapping[str, str]

    @property
    def broker(self) -> str:
        """host:port of Kafka. Raises StackError if none runs."""
        return self._get("RISK_BROKER", "broker")

    @property
    def registry(self) -> str:
        """Base URL of the Confluent API. Raises StackError if no registry runs."""
        return self._get("RISK_SCHEMA_REGISTRY", "registry")

    @property
    def settings(self) -> dict[str, str]:
        """What a worker must be told of them, by variable. Raises StackError if one of both does not run."""
        return {"RISK_BROKER": self.broker, "RISK_SCHEMA_REGISTRY": self.registry}

    @property
    def mariadb(self) -> str:
        """host:port of MariaDB. Raises StackError if none runs."""
        return self._get("RISK_MARIADB", "MariaDB")

    @property
    def connect(self) -> str:
        """Base URL of Kafka Connect. Raises StackError if none runs."""
        return self._get("RISK_CONNECT", "Kafka Connect")

    @property
    def search(self) -> str:
        """Base URL of OpenSearch. Raises StackError if none runs."""
        return self._get("RISK_SEARCH", "OpenSearch")

    def __str__(self) -> str:
        """Lines for a shell to load."""
        pairs = sorted(self.variables.items())
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in pairs)

    def _get(self, variable: str, what: str) -> str:
        if variable not in self.variables:
            raise StackError(f"no {what} runs in {self.directory}")
        return self.variables[variable]


@dataclass(frozen=True)
class Status:
    """One server as it is now."""

    name: str
    #: of the server itself; None if it is not running
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
    hours: float = HOURS,
    owner_pid: int | None = None,
) -> Environment:
    """Start what does not run yet in `directory`, and return when all of it is ready.

    The servers end with `down`, after `hours`, or when the process `owner_pid` dies, whichever is first.
    Those that ran before keep their ports, owner and end. `cdc`: MariaDB and Kafka Connect too, and
    always Kafka and the registry. `search`: OpenSearch too. Raises StackError, having stopped what it started.
    """
    directory = usable(directory)
    wanted = {KAFKA.name: kafka_port} if kafka or cdc else {}
    wanted |= {REGISTRY.name: registry_port} if registry or cdc else {}
    wanted |= dict.fromkeys(requested(cdc=cdc, search=search))
    with alone(directory / "lock", START_S):
        for name, port in wanted.items():
            if port is not None:
                require_port(Files(directory, name), port)
        missing = [name for name in SERVERS if name in wanted and not runs(Files(directory, name))]
        files = gather(missing)
        orders = Orders("", (), {}, owner_pid, time.time() + hours * 3600, 0.0)
        try:
            for stage in stages(wanted):
                for name in (name for name in stage if name in missing):
                    start(Files(directory, name), orders, files[name], wanted[name])
                for name in stage:
                    await_ready(Files(directory, name), files.get(name), wanted[name])
        except BaseException:
            for name in missing:
                forget(Files(directory, name))
            raise
        return publish(directory)


def fetch(*, cdc: bool = False, search: bool = False) -> None:
    """Have everything here that `up` needs. Raises StackError: Unavailable if something cannot be had."""
    always = SERVERS.keys() - requested(**dict.fromkeys(ON_REQUEST, True))
    gather([name for name in SERVERS if name in always | requested(cdc=cdc, search=search)])


def requested(**options: bool) -> set[str]:
    """The servers that the options which are set ask for."""
    return {name for option, wished in options.items() if wished for name in ON_REQUEST[option]}


def gather(names: Sequence[str]) -> dict[str, list[Path]]:
    """What servers are made of, by their names. Raises StackError, before anything is downloaded if it can."""
    for name in names:
        SERVERS[name].require()
    return artifacts.fetch({name: SERVERS[name].roots for name in names})


def stages(names: Iterable[str]) -> list[list[str]]:
    """Servers that may start side by side, then those that need them ready."""
    in_order = [name for name in SERVERS if name in set(names)]
    return [[name for name in in_order if bool(SERVERS[name].needs) == late] for late in (False, True)]


def usable(directory: Path) -> Path:
    """The absolute path. Raises StackError if it has a character that separates paths in a configuration."""
    absolute = directory.absolute()
    if bad := set(str(absolute)) & set(",;\\\n"):
        raise StackError(f"{absolute}: servers cannot live in a path with {' '.join(sorted(bad))}")
    return absolute


def require_port(files: Files, port: int) -> None:
    """Raises StackError if the server runs on another port, or somebody else on this one."""
    if not runs(files):
        ports.require_free(port)
    elif (actual := place(files).ports[SERVERS[files.name].ports[0]]) != port:
        raise StackError(f"{files.name} already runs in {files.directory}, on port {actual}, not {port}")


def known(directory: Path) -> list[Files]:
    """Every server that was started here and not stopped, running or not."""
    return [files for files in (Files(directory, name) for name in SERVERS) if files.orders.exists()]


def publish(directory: Path) -> Environment:
    """Gather what the running servers tell others, and write it to `directory`/env."""
    variables: dict[str, str] = {}
    for files in known(directory):
        if runs(files):
            variables.update(SERVERS[files.name].environment(place(files)))
    environment = Environment(directory, variables)
    (directory / "env").write_text(str(environment), encoding="utf-8")
    return environment


def status(directory: Path) -> list[Status]:
    """Every server that was started in `directory` and not stopped with `down`."""
    return [look(files) for files in known(usable(directory))]


def look(files: Files) -> Status:
    """One server as it is now."""
    where = place(files)
    return Status(files.name, holder(files.server) or None, where.ports, SERVERS[files.name].ready(where))


def down(directory: Path) -> list[str]:
    """Stop what `up` started in `directory` and forget it; data and logs stay. Returns their names."""
    directory = usable(directory)
    if not (directory / "lock").exists():
        return []  # nothing was ever started here, and this is no reason to make the directory
    with alone(directory / "lock", START_S):
        (directory / "env").unlink(missing_ok=True)
        return [files.name for files in reversed(known(directory)) if forget(files)]


def forget(files: Files) -> bool:
    """Stop a server and drop the record that it was started; whether there was anything to stop."""
    stopped = end(files)
    files.orders.unlink(missing_ok=True)
    return stopped


def kill(name: str, directory: Path) -> None:
    """kill -9 one server, and return when it is gone. Raises StackError if it does not run."""
    files = Files(usable(directory), name)
    if not send(signal.SIGKILL, files.server):
        raise StackError(f"{name} does not run in {directory}")
    if not freed([files.keeper, files.server], 10.0):
        raise StackError(f"{name} is still there after kill -9")


def restart(name: str, directory: Path) -> None:
    """Start one server again as it was, same ports and data, and return when it is ready.

    It is stopped first if it runs. Raises StackError if it was never started here, or does not come up.
    """
    files = Files(usable(directory), name)
    if not files.orders.exists():
        raise StackError(f"{name} was never started in {directory}")
    with alone(files.directory / "lock", START_S):
        end(files)
        launch(files)
        await_ready(files, None, None)
