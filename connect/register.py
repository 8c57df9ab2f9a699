#!/usr/bin/env python3
"""Register connectors with Kafka Connect and wait until they run.

    python connect/register.py source-mariadb sink-sessions sink-agg
    python connect/register.py --url http://127.0.0.1:8083 --set database.hostname=127.0.0.1 source-mariadb

A connector is named after its file. Its whole configuration is PUT, so the command is idempotent and applies edits.
Failed tasks are restarted. Exit code: 0 if all connectors run; 1 if one failed (its reason is printed on one line) or
the timeout expired; 2 for wrong usage.

Do not pass secrets: Connect resolves `${env:NAME}` in a file from its own environment
(config.providers=env, org.apache.kafka.common.config.provider.EnvVarConfigProvider). Needs only Python.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

HERE = Path(__file__).resolve().parent
#: timeout of one request [s]; Connect validates a configuration against the database or the index
REQUEST_S = 90.0
#: interval between polls [s]
POLL_S = 0.5
#: how long a status must stay unchanged to be final [s]: a task fails at its first batch, a failed task is restarting
SETTLED_S = 2.0
#: Connect answers PUT with 409 while its workers rebalance; retry
REBALANCING = 409


class RegisterError(Exception):
    """A failure, described on one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        overrides = _overrides(options.set)
        configs = load(options.connector, overrides)
        deadline = time.monotonic() + options.timeout
        version = wait_for_connect(options.url, deadline)
        print(f"Kafka Connect {version} at {options.url}", flush=True)
        for name, config in configs.items():
            put(options.url, name, config, deadline)
        for name in configs:
            print(f"{name}: {wait_until_running(options.url, name, deadline)}", flush=True)
    except RegisterError as error:
        print(f"register: {error}", file=sys.stderr)
        return 1
    return 0


def load(connectors: Sequence[str], overrides: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Read the configuration of each connector and replace the values of overridden keys. Returns them by name.

    Raises RegisterError if a file cannot be read, or if no file has an overridden key: nothing would read the value.
    """
    configs = {}
    for connector in connectors:
        path = Path(connector) if connector.endswith(".json") else HERE / f"{connector}.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RegisterError(f"{path}: {error}") from error
        if not isinstance(config, dict) or "connector.class" not in config:
            raise RegisterError(f"{path} is not a connector's configuration: connector.class is missing")
        configs[path.stem] = {key: overrides.get(key, str(value)) for key, value in config.items()}
    for key in overrides:
        if not any(key in config for config in configs.values()):
            raise RegisterError(f"--set {key}: no such key in {', '.join(configs)}")
    return configs


def wait_for_connect(url: str, deadline: float) -> str:
    """Poll until Connect answers at its root and return its version.

    Until then, connections are refused or answered with 404, 503 or HTML. Raises RegisterError after the deadline.
    """
    while True:
        try:
            status, answer = _request("GET", url, "/")
            if status == 200 and "version" in answer:
                return str(answer["version"])
            why = f"HTTP {status}"
        except OSError as error:
            why = str(getattr(error, "reason", error))
        _wait(deadline, f"{url} is not ready: {why}")


def put(url: str, name: str, config: Mapping[str, str], deadline: float) -> None:
    """Configure a connector and restart its failed tasks. Raises RegisterError if Connect rejects the configuration."""
    while True:
        try:
            status, answer = _request("PUT", url, f"/connectors/{name}/config", config)
            why = str(answer.get("message", answer))
        except OSError as error:
            status, why = 0, str(error)
        if status in (200, 201):
            break
        if status not in (0, 404, REBALANCING, 500, 503):
            raise RegisterError(f"{name} was rejected: {_one_line(why)}")
        _wait(deadline, f"{name} was rejected: {_one_line(why)}")
    if status == 200:
        # an unchanged configuration does not restart a failed task
        _restart_failed(url, name)


def wait_until_running(url: str, name: str, deadline: float) -> str:
    """Poll until the connector and all its tasks run; return "RUNNING, n tasks". Raises RegisterError if one fails."""
    parts: list[dict[str, Any]] = []
    since = time.monotonic()
    while True:
        try:
            status, answer = _request("GET", url, f"/connectors/{name}/status")
        except OSError as error:
            status, answer = 0, {"message": str(error)}
        before, parts = parts, [answer["connector"], *answer["tasks"]] if status == 200 else []
        since = since if parts == before else time.monotonic()
        if parts and time.monotonic() - since >= SETTLED_S:
            for part in parts:
                if part["state"] == "FAILED":
                    what = f"task {part['id']}" if "id" in part else "the connector"
                    raise RegisterError(f"{name}: {what} failed: {root_cause(part.get('trace', ''))}")
            if len(parts) > 1 and all(part["state"] == "RUNNING" for part in parts):
                return f"RUNNING, {len(parts) - 1} task{'s' * (len(parts) > 2)}"
        states = ", ".join(part["state"] for part in parts) or _one_line(str(answer.get("message", status)))
        _wait(deadline, f"{name} is not running: {states}{', no tasks' * (len(parts) == 1)}")


def root_cause(trace: str) -> str:
    """Return the last "Caused by" of a Java stack trace, else its first line."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes or lines or ["no reason given"])[-1 if causes else 0]


def _restart_failed(url: str, name: str) -> None:
    with suppress(OSError):  # wait_until_running reports the failure
        _request("POST", url, f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")


def _request(method: str, url: str, path: str, body: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Send a request; return the status and the JSON object of the response, {} if it is not one. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(url.rstrip("/") + path, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urlopen(request, timeout=REQUEST_S) as response:
            status, text = response.status, response.read()
    except HTTPError as error:
        status, text = error.code, error.read()
    except HTTPException as error:
        raise OSError(f"invalid HTTP response: {error!r}") from error
    try:
        content = json.loads(text)
    except ValueError:
        content = {}
    return status, content if isinstance(content, dict) else {}


def _wait(deadline: float, problem: str) -> None:
    """Sleep until the next poll. Raises RegisterError with the problem once the deadline has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise RegisterError(f"{problem} (timed out)")
    time.sleep(min(POLL_S, left))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _overrides(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise RegisterError(f"--set {pair}: expected KEY=VALUE")
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
        help="override a key, e.g. a host or a port, in every file that has it; repeatable",
    )
    parser.add_argument(
        "--timeout", type=float, default=180.0, metavar="S", help="overall timeout [s] (default: %(default)g)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
