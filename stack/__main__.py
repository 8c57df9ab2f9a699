"""`python -m stack`: start, stop and inspect the servers of a directory."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

import stack
from stack import artifacts, kafka_versions
from stack.errors import StackError
from stack.kafka import SIZES
from stack.life import SERVERS

DIRECTORY = Path(".demo")

DESCRIPTION = (
    "Run Kafka and a schema registry on this machine; on request also MariaDB, Kafka Connect and Elasticsearch."
)
UP = """Start the servers that are not running and wait until they are ready. Print the environment variables
that clients need and write them to DIRECTORY/env, to be loaded by a shell (. DIRECTORY/env). The first run
downloads about 160 MB (45 MB more with --cdc, 97 MB more with --search)."""
DOWN = "Stop the servers that `up` started in DIRECTORY. Data and logs are kept."
STATUS = "Print each server's name, pid, ports and readiness. Exit code: 0 if all are ready, else 1."
FOR = "stop the servers after this time at the latest (default: %(default)g)"
BROKERS = "number of Kafka's nodes, 1 or 3 (default: as before in DIRECTORY, or 1)"
KAFKA = f"version of Kafka: {', '.join(kafka_versions.VERSIONS)} (default: {kafka_versions.DEFAULT}, or STACK_KAFKA)"
LOCK = "Resolve the servers' Maven coordinates and write all files with their checksums to artifacts.json."


def parser() -> argparse.ArgumentParser:
    """Build the command line parser."""
    root = argparse.ArgumentParser(prog="python -m stack", description=DESCRIPTION)
    commands = root.add_subparsers(dest="command", required=True, metavar="up | down | status | lock")
    up = commands.add_parser("up", help="start the servers", description=UP)
    up.add_argument("--kafka-port", type=int, metavar="PORT", help="Kafka's port (default: any free port)")
    up.add_argument("--registry-port", type=int, metavar="PORT", help="the registry's port (default: any free port)")
    up.add_argument("--no-registry", action="store_true", help="start Kafka only")
    up.add_argument("--cdc", action="store_true", help="also start MariaDB, and Kafka Connect with Debezium")
    up.add_argument("--search", action="store_true", help="also start Elasticsearch, without its script language")
    up.add_argument("--opensearch", action="store_true", help="also start OpenSearch, for searches with scripts")
    up.add_argument("--brokers", type=int, choices=SIZES, metavar="N", help=BROKERS)
    up.add_argument("--kafka", choices=list(kafka_versions.VERSIONS), metavar="VERSION", help=KAFKA)
    up.add_argument("--secure", action="store_true", help="Kafka wants TLS, a login and rights")
    up.add_argument("--for", dest="hours", type=hours, default=stack.HOURS, metavar="HOURS", help=FOR)
    up.add_argument("--owner", type=int, metavar="PID", help="also stop the servers when this process dies")
    down = commands.add_parser("down", help="stop the servers", description=DOWN)
    status = commands.add_parser("status", help="show the servers", description=STATUS)
    for command in (up, down, status):
        argument = command.add_argument("directory", type=Path, nargs="?", default=DIRECTORY, metavar="DIRECTORY")
        argument.help = "directory of the servers' data, logs and run files (default: %(default)s)"
    commands.add_parser("lock", help="rewrite artifacts.json after a version change", description=LOCK)
    return root


def hours(text: str) -> float:
    """Parse a positive number of hours. Raises ValueError."""
    if not 0 < float(text) < float("inf"):
        raise ValueError
    return float(text)


def run(arguments: argparse.Namespace) -> int:
    """Run one command and return its exit code. Raises StackError."""
    match arguments.command:
        case "up":
            return up(arguments)
        case "down":
            print("stopped", " and ".join(stack.down(arguments.directory)) or "nothing: nothing was running")
            return 0
        case "status":
            return status(arguments.directory)
        case _:
            return lock()


def up(arguments: argparse.Namespace) -> int:
    """Start the servers and print the environment."""
    environment = stack.up(
        arguments.directory,
        kafka_port=arguments.kafka_port,
        registry_port=arguments.registry_port,
        registry=not arguments.no_registry,
        cdc=arguments.cdc,
        search=arguments.search,
        opensearch=arguments.opensearch,
        brokers=arguments.brokers,
        version=arguments.kafka,
        secure=arguments.secure,
        hours=arguments.hours,
        owner_pid=arguments.owner,
    )
    print(environment, end="")
    return 0


def lock() -> int:
    """Write the lock file and print the coordinates that were added and removed."""
    roots = {server.lock_entry or server.name: server.roots for server in SERVERS.values() if server.roots}
    roots |= {kafka_versions.entry(version): kafka_versions.roots(version) for version in kafka_versions.VERSIONS}
    added, removed = artifacts.relock(roots)
    for sign, coordinates in (("+", added), ("-", removed)):
        for coordinate in coordinates:
            print(sign, coordinate)
    print("wrote", artifacts.LOCK)
    return 0


def status(directory: Path) -> int:
    """Print one line per server."""
    statuses = stack.status(directory)
    for server in statuses:
        pid = f"pid {server.pid}" if server.pid else "not running"
        ports = ", ".join(f"{name} {port}" for name, port in server.ports.items())
        print(f"{server.name:10} {pid:14} {ports:32} {'ready' if server.ready else 'not ready'}")
    if not statuses:
        print(f"nothing was started in {directory}")
    return 0 if statuses and all(server.ready for server in statuses) else 1


def terminate(number: int, frame: FrameType | None) -> None:
    """Exit by SystemExit on a signal, so that `up` stops the servers it has started so far."""
    sys.exit(128 + number)


def main() -> int:
    """Parse the command line, run the command and report errors as one line on stderr."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, terminate)
    try:
        return run(arguments)
    except (StackError, OSError) as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stack: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
