#!/usr/bin/env python3
"""Register connectors with Kafka Connect and wait until they run.

    python connect/register.py source-mariadb sink-sessions sink-agg
    python connect/register.py --url http://127.0.0.1:8083 --set database.hostname=127.0.0.1 source-mariadb

A connector is named after its file. Its whole configuration is PUT, so the command is idempotent and applies edits.
Failed tasks are restarted. Exit code: 0 if all connectors run; 1 if one failed (its reason is printed on one line) or
the timeout expired; 2 for wrong usage.

--set also takes keys that are in no file, if Connect says that the connector has them. Do not pass secrets: Connect
resolves `${env:NAME}` in a value from its own environment (config.providers=env,
org.apache.kafka.common.config.provider.EnvVarConfigProvider).

If Connect wants a login or has a certificate of its own: CONNECT_USER, CONNECT_PASSWORD (or CONNECT_PASSWORD_FILE),
CONNECT_CA in the environment. Needs only Python.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # Python does not, if it runs isolated

from rest import RestError, Server, one_line, pause  # noqa: E402

#: what begins the names of this server's variables
CONNECT = "CONNECT"
#: interval between polls [s]
POLL_S = 0.5
#: how long a status must stay unchanged to be final [s]: a task fails at its first batch, a failed task is restarting
SETTLED_S = 2.0
#: Connect answers PUT with 409 while its workers rebalance; retry
REBALANCING = 409
#: keys that Connect reads itself, or passes to a part that it does not list among a connector's own keys
PASSED_ON = ("consumer.override.", "producer.override.", "admin.override.", "transforms", "predicates")
PASSED_ON += ("key.converter.", "value.converter.", "header.converter.", "topic.creation.", "driver.", "database.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        overrides = _overrides(options.set)
        configs = load(options.connector, overrides)
        deadline = time.monotonic() + options.timeout
        connect = Server.at(options.url, CONNECT)
        version = wait_for_connect(connect, deadline)
        print(f"Kafka Connect {version} at {connect.url}", flush=True)
        add_keys(connect, configs, overrides, deadline)
        for name, config in configs.items():
            put(connect, name, config, deadline)
        for name in configs:
            print(f"{name}: {wait_until_running(connect, name, deadline)}", flush=True)
    except RestError as error:
        print(f"register: {error}", file=sys.stderr)
        return 1
    return 0


def load(connectors: Sequence[str], overrides: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Read the configuration of each connector and replace the values of overridden keys. Returns them by name.

    Raises RestError if a file cannot be read.
    """
    configs = {}
    for connector in connectors:
        path = Path(connector) if connector.endswith(".json") else HERE / f"{connector}.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RestError(f"{path}: {error}") from error
        if not isinstance(config, dict) or "connector.class" not in config:
            raise RestError(f"{path} is not a connector's configuration: connector.class is missing")
        configs[path.stem] = {key: overrides.get(key, str(value)) for key, value in config.items()}
    return configs


def add_keys(
    connect: Server, configs: Mapping[str, dict[str, str]], overrides: Mapping[str, str], deadline: float
) -> None:
    """Add overridden keys that are in no file to the connectors that have them, according to Connect.

    Raises RestError if none has one: nothing would read the value.
    """
    new = [key for key in overrides if not any(key in config for config in configs.values())]
    if not new:
        return
    known = {name: keys_of(connect, config["connector.class"], deadline) for name, config in configs.items()}
    for key in new:
        takers = [name for name in configs if key in known[name] or key.startswith(PASSED_ON)]
        if not takers:
            raise RestError(f"--set {key}: no such key in {', '.join(configs)}, and Connect knows none of that name")
        for name in takers:
            configs[name][key] = overrides[key]


def keys_of(connect: Server, plugin: str, deadline: float) -> set[str]:
    """Return the keys of a connector's class. Raises RestError if Connect does not have the class."""
    path = f"/connector-plugins/{plugin}/config"
    while True:
        status, answer = connect.request("GET", path)
        names = _names(answer.get("items", ()))
        if status == 200 and names:
            return names
        if status == 404:
            raise RestError(f"Connect has no {plugin}: {answer.get('message', status)}")
        pause(deadline, f"{plugin}: {answer.get('message', status)}", POLL_S)


def _names(items: Iterable[Any]) -> set[str]:
    return {str(item["name"]) for item in items if isinstance(item, dict) and "name" in item}


def wait_for_connect(connect: Server, deadline: float) -> str:
    """Poll until Connect answers at its root and return its version.

    Until then, connections are refused or answered with 404, 503 or HTML. Raises RestError after the deadline, and at
    once if Connect wants another login.
    """
    while True:
        status, answer = connect.request("GET", "/")
        if status == 200 and "version" in answer:
            return str(answer["version"])
        if status in (401, 403):
            raise RestError(f"{connect.url} refuses the login (HTTP {status}): set CONNECT_USER and CONNECT_PASSWORD")
        pause(deadline, f"{connect.url} is not ready: {f'HTTP {status}' if status else answer['message']}", POLL_S)


def put(connect: Server, name: str, config: Mapping[str, str], deadline: float) -> None:
    """Configure a connector and restart its failed tasks. Raises RestError if Connect rejects the configuration."""
    while True:
        status, answer = connect.request("PUT", f"/connectors/{name}/config", config)
        if status in (200, 201):
            break
        problem = f"{name} was rejected: {one_line(str(answer.get('message', answer)))}"
        if status not in (0, 404, REBALANCING, 500, 503):
            raise RestError(problem)
        pause(deadline, problem, POLL_S)
    if status == 200:
        # an unchanged configuration does not restart a failed task; wait_until_running reports a failure of this
        connect.request("POST", f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")


def wait_until_running(connect: Server, name: str, deadline: float) -> str:
    """Poll until the connector and all its tasks run; return "RUNNING, n tasks". Raises RestError if one fails."""
    parts: list[dict[str, Any]] = []
    since = time.monotonic()
    while True:
        status, answer = connect.request("GET", f"/connectors/{name}/status")
        before, parts = parts, [answer["connector"], *answer["tasks"]] if status == 200 else []
        since = since if parts == before else time.monotonic()
        if parts and time.monotonic() - since >= SETTLED_S:
            for part in parts:
                if part["state"] == "FAILED":
                    what = f"task {part['id']}" if "id" in part else "the connector"
                    raise RestError(f"{name}: {what} failed: {root_cause(part.get('trace', ''))}")
            if len(parts) > 1 and all(part["state"] == "RUNNING" for part in parts):
                return f"RUNNING, {len(parts) - 1} task{'s' * (len(parts) > 2)}"
        states = ", ".join(part["state"] for part in parts) or str(answer.get("message", status))
        pause(deadline, f"{name} is not running: {states}{', no tasks' * (len(parts) == 1)}", POLL_S)


def root_cause(trace: str) -> str:
    """Return the last "Caused by" of a Java stack trace, else its first line."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes or lines or ["no reason given"])[-1 if causes else 0]


def _overrides(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise RestError(f"--set {pair}: expected KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(sorted(path.stem for path in HERE.glob("s*-*.json")))
    parser.add_argument("connector", nargs="+", help=f"name of a connector ({names}) or path of a .json file")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8083", help="URL of Connect's REST API (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key, e.g. a host or a port, in every file that has it, or add it; repeatable",
    )
    parser.add_argument(
        "--timeout", type=float, default=180.0, metavar="S", help="overall timeout [s] (default: %(default)g)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
