#!/usr/bin/env python3
"""Give Kafka Connect its connectors, and wait until they run.

    python connect/register.py source-mariadb sink-sessions sink-agg
    python connect/register.py --url http://127.0.0.1:8083 --set database.hostname=127.0.0.1 source-mariadb

A connector is named after its file; its whole configuration is PUT, so running this again changes nothing and
running it after an edit applies the edit. A failed task is started anew by it. Exit code: 0 all run; 1 one failed,
with its reason in one line, or time ran out; 2 wrong use.

Secrets are not for this command: `${env:NAME}` in a file is resolved by Connect itself, from its own environment
(config.providers=env, org.apache.kafka.common.config.provider.EnvVarConfigProvider). Needs Python alone.
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
#: how long one request may take [s]; Connect validates a configuration by asking the database or the index
REQUEST_S = 90.0
#: between two looks [s]
LOOK_S = 0.5
#: how long a state must last to be believed [s]: a task fails at its first batch, a failed one is being restarted
SETTLED_S = 2.0
#: while the group of workers rebalances, PUT answers 409: try again
REBALANCING = 409


class RegisterError(Exception):
    """What went wrong, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        changes = _changes(options.set)
        configs = load(options.connector, changes)
        deadline = time.monotonic() + options.timeout
        version = mounted(options.url, deadline)
        print(f"Kafka Connect {version} at {options.url}", flush=True)
        for name, config in configs.items():
            put(options.url, name, config, deadline)
        for name in configs:
            print(f"{name}: {running(options.url, name, deadline)}", flush=True)
    except RegisterError as error:
        print(f"register: {error}", file=sys.stderr)
        return 1
    return 0


def load(connectors: Sequence[str], changes: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The configuration of each connector by name, with `changes` to keys that are there.

    Raises RegisterError for a file that cannot be read, and for a change to a key that no file has: it would be a
    setting nobody reads.
    """
    configs = {}
    for connector in connectors:
        path = Path(connector) if connector.endswith(".json") else HERE / f"{connector}.json"
        try:
            shipped = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RegisterError(f"{path}: {error}") from error
        if not isinstance(shipped, dict) or "connector.class" not in shipped:
            raise RegisterError(f"{path} is no connector's configuration: it has no connector.class")
        configs[path.stem] = {key: changes.get(key, str(value)) for key, value in shipped.items()}
    for key in changes:
        if not any(key in config for config in configs.values()):
            raise RegisterError(f"--set {key}: none of {', '.join(configs)} has it")
    return configs


def mounted(url: str, deadline: float) -> str:
    """The version Connect tells at its root, once it does: before, nobody answers, or 404 does (or HTML, or 503)."""
    why = "nobody answers"
    while True:
        try:
            status, answer = _ask("GET", url, "/")
            if status == 200 and "version" in answer:
                return str(answer["version"])
            why = f"answers {status}"
        except OSError as error:
            why = str(getattr(error, "reason", error))
        _pause(deadline, f"{url} is no Kafka Connect yet: {why}")


def put(url: str, name: str, config: Mapping[str, str], deadline: float) -> None:
    """Configure a connector, and start anew what had failed of it before. Raises RegisterError if it is refused."""
    while True:
        try:
            status, answer = _ask("PUT", url, f"/connectors/{name}/config", config)
            why = str(answer.get("message", answer))
        except OSError as error:
            status, why = 0, str(error)
        if status in (200, 201):
            break
        if status not in (0, 404, REBALANCING, 500, 503):
            raise RegisterError(f"{name} is refused: {_line(why)}")
        _pause(deadline, f"{name} is refused: {_line(why)}")
    if status == 200:
        # an unchanged configuration leaves a failed task as it is: ask for what failed, and nothing else
        _retry(url, name)


def running(url: str, name: str, deadline: float) -> str:
    """`RUNNING, n tasks` once the connector and all of its tasks do. Raises RegisterError with a failure's reason."""
    parts: list[dict[str, Any]] = []
    since = time.monotonic()
    while True:
        try:
            status, answer = _ask("GET", url, f"/connectors/{name}/status")
        except OSError as error:
            status, answer = 0, {"message": str(error)}
        before, parts = parts, [answer["connector"], *answer["tasks"]] if status == 200 else []
        since = since if parts == before else time.monotonic()
        if parts and time.monotonic() - since >= SETTLED_S:
            for part in parts:
                if part["state"] == "FAILED":
                    what = f"task {part['id']}" if "id" in part else "the connector"
                    raise RegisterError(f"{name}: {what} failed: {reason(part.get('trace', ''))}")
            if len(parts) > 1 and all(part["state"] == "RUNNING" for part in parts):
                return f"RUNNING, {len(parts) - 1} task{'s' * (len(parts) > 2)}"
        states = ", ".join(part["state"] for part in parts) or _line(str(answer.get("message", status)))
        _pause(deadline, f"{name} does not run: {states}{' and no task' * (len(parts) == 1)}")


def reason(trace: str) -> str:
    """The line of a Java stack trace that says why: its last cause, else its first line."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes or lines or ["no reason given"])[-1 if causes else 0]


def _retry(url: str, name: str) -> None:
    with suppress(OSError):  # `running` will say what is wrong
        _ask("POST", url, f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")


def _ask(method: str, url: str, path: str, body: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Status and JSON of an answer, an empty one if it is no JSON object. Raises OSError where none comes."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(url.rstrip("/") + path, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urlopen(request, timeout=REQUEST_S) as answer:
            status, text = answer.status, answer.read()
    except HTTPError as error:
        status, text = error.code, error.read()
    except HTTPException as error:
        raise OSError(f"no HTTP: {error!r}") from error
    try:
        found = json.loads(text)
    except ValueError:
        found = {}
    return status, found if isinstance(found, dict) else {}


def _pause(deadline: float, problem: str) -> None:
    """Wait for the next look. Raises RegisterError with the problem if there is none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise RegisterError(f"{problem} (gave up)")
    time.sleep(min(LOOK_S, left))


def _line(text: str) -> str:
    return " ".join(text.split())


def _changes(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise RegisterError(f"--set {pair}: not KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(sorted(path.stem for path in HERE.glob("s*-*.json")))
    parser.add_argument("connector", nargs="+", help=f"a name ({names}), or the path of a .json file")
    parser.add_argument("--url", default="http://127.0.0.1:8083", help="of Connect's REST (default: %(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value for a key of the files, wherever it stands: a host, a port; may be repeated",
    )
    parser.add_argument(
        "--timeout", type=float, default=180.0, metavar="S", help="for everything [s] (default: %(default)g)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
