"""`python -m stack`: start, stop and look at the servers of a directory."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

import stack
from stack import artifacts
from stack.errors import StackError
from stack.lifecycle import SERVERS

DIRECTORY = Path(".demo")

UP = """Start what does not run yet, wait until it is ready, print the environment that leads to it and write
it to DIRECTORY/env, for a shell to load (. DIRECTORY/env). The first time, about 160 MB are downloaded
(with --cdc 45 more, with --search 74 more)."""
DOWN = "Stop what `up` started in DIRECTORY, and nothing else. Data and logs stay."
STATUS = "Print each server with pid, ports and whether it is ready. Exit code: 0 if all are ready, 1 if not."
FOR = "stop them after that time at the latest, default %(default)g"
LOCK = "Resolve the servers' coordinates anew and write their files and checksums to artifacts.json."


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="python -m stack", description="Kafka and its company, here.")
    commands = root.add_subparsers(dest="command", required=True, metavar="up | down | status | lock")
    up = commands.add_parser("up", help="start them", description=UP)
    up.add_argument("--kafka-port", type=int, metavar="PORT", help="default: a free one")
    up.add_argument("--registry-port", type=int, metavar="PORT", help="default: a free one")
    up.add_argument("--no-registry", action="store_true", help="only Kafka")
    up.add_argument("--cdc", action="store_true", help="MariaDB, and Kafka Connect with Debezium, too")
    up.add_argument("--search", action="store_true", help="OpenSearch, the tests' stand-in for Elasticsearch, too")
    up.add_argument("--for", dest="hours", type=hours, default=stack.HOURS, metavar="HOURS", help=FOR)
    up.add_argument("--owner", type=int, metavar="PID", help="stop them too when this process dies")
    down = commands.add_parser("down", help="stop them", description=DOWN)
    status = commands.add_parser("status", help="look at them", description=STATUS)
    for command in (up, down, status):
        where = command.add_argument("directory", type=Path, nargs="?", default=DIRECTORY, metavar="DIRECTORY")
        where.help = "where data, logs and the record of what runs are, default %(default)s"
    commands.add_parser("lock", help="write artifacts.json (after a change of version)", description=LOCK)
    return root


def hours(text: str) -> float:
    """A positive number of hours. Raises ValueError."""
    if not 0 < float(text) < float("inf"):
        raise ValueError
    return float(text)


def run(arguments: argparse.Namespace) -> int:
    """Carry out one command; its exit code. Raises StackError."""
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
    """Start, and print the environment."""
    environment = stack.up(
        arguments.directory,
        kafka_port=arguments.kafka_port,
        registry_port=arguments.registry_port,
        registry=not arguments.no_registry,
        cdc=arguments.cdc,
        search=arguments.search,
        hours=arguments.hours,
        owner_pid=arguments.owner,
    )
    print(environment, end="")
    return 0


def lock() -> int:
    """Write the lock, and print what changed."""
    added, gone = artifacts.relock({server.name: server.roots for server in SERVERS.values() if server.roots})
    for sign, coordinates in (("+", added), ("-", gone)):
        for coordinate in coordinates:
            print(sign, coordinate)
    print("wrote", artifacts.LOCK)
    return 0


def status(directory: Path) -> int:
    """Print a line a server."""
    found = stack.status(directory)
    for one in found:
        pid = f"pid {one.pid}" if one.pid else "not running"
        where = ", ".join(f"{name} {number}" for name, number in one.ports.items())
        print(f"{one.name:10} {pid:14} {where:32} {'ready' if one.ready else 'not ready'}")
    if not found:
        print(f"nothing was started in {directory}")
    return 0 if found and all(one.ready for one in found) else 1


def terminate(number: int, frame: FrameType | None) -> None:
    """Leave by the front door, so that a half-started server is stopped on the way out."""
    sys.exit(128 + number)


def main() -> int:
    """Parse, run, and turn what goes wrong into one line on stderr."""
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
