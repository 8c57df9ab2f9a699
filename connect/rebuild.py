#!/usr/bin/env python3
"""Rebuild the index of a sink from its topic.

    python connect/rebuild.py sink-sessions
    python connect/rebuild.py --url http://127.0.0.1:8083 --elasticsearch http://127.0.0.1:9200 sink-sessions sink-agg

For each sink: stops it, deletes its index, installs the index template, sets the sink back to the beginning of its
topic, and starts it again. Until it has caught up, the dashboard shows what has been read so far. If the command fails
half-way, run it again: a sink that it stopped stays stopped. Exit code: 0 if all sinks run; 1 if one does not (the
reason is printed on one line); 2 for wrong usage.

Needed if a topic was deleted and made anew (a document's version is its record's offset, so the new records count as
older ones), if documents were changed or lost in Elasticsearch, and to apply a changed index template.

A login and a CA: CONNECT_USER, CONNECT_PASSWORD, CONNECT_CA, ELASTICSEARCH_USER, ELASTICSEARCH_PASSWORD,
ELASTICSEARCH_API_KEY, ELASTICSEARCH_CA in the environment; a secret also as …_FILE, a file's path. Kafka Connect 3.6 or
newer. Needs only Python.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # Python does not, if it runs isolated

from register import CONNECT, POLL_S, wait_for_connect, wait_until_running  # noqa: E402
from rest import RestError, Server, pause  # noqa: E402

TEMPLATE = HERE / "index-template.json"
#: the template's name in Elasticsearch, as in docker-compose.yml
TEMPLATE_NAME = "moodle-risk"
ROUTER = "org.apache.kafka.connect.transforms.RegexRouter"
#: statuses that may pass: no answer, a rebalance, consumers that have not left their group yet, a proxy
RETRYABLE = {0, 409, 500, 502, 503, 504}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    deadline = time.monotonic() + options.timeout
    try:
        connect = Server.at(options.url, CONNECT)
        elasticsearch = Server.at(options.elasticsearch, "ELASTICSEARCH")
        wait_for_connect(connect, deadline)
        # everything that can be wrong is looked at before anything is stopped
        indices = {sink: indices_of(config_of(connect, sink, deadline)) for sink in options.sink}
        try:
            template = json.loads(options.template.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RestError(f"{options.template}: {error}") from error
        ask(elasticsearch, "PUT", f"/_index_template/{TEMPLATE_NAME}", deadline, template)
        for sink, names in indices.items():
            print(f"{sink}: {rebuild(connect, elasticsearch, sink, names, deadline)}", flush=True)
    except RestError as error:
        print(f"rebuild: {error}", file=sys.stderr)
        return 1
    return 0


def rebuild(connect: Server, elasticsearch: Server, sink: str, indices: Sequence[str], deadline: float) -> str:
    """Rebuild the indices of a sink; return the state that it is in again. Raises RestError."""
    stop(connect, sink, deadline)
    try:
        for index in indices:
            ask(elasticsearch, "DELETE", f"/{quote(index)}", deadline, accept=(200, 404))
        # without offsets it begins where its consumer.override.auto.offset.reset says: at the beginning
        ask(connect, "DELETE", f"/connectors/{quote(sink)}/offsets", deadline)
        ask(connect, "PUT", f"/connectors/{quote(sink)}/resume", deadline, accept=(202, 204))
    except RestError as error:
        raise RestError(f"{error}; {sink} is stopped, run the command again") from error
    return f"{', '.join(indices)} is being rebuilt; {wait_until_running(connect, sink, deadline)}"


def stop(connect: Server, sink: str, deadline: float) -> None:
    """Stop a connector and wait until it has no tasks. Raises RestError."""
    ask(connect, "PUT", f"/connectors/{quote(sink)}/stop", deadline, accept=(202, 204))
    while True:
        _, answer = connect.request("GET", f"/connectors/{quote(sink)}/status")
        state = answer.get("connector", {}).get("state")
        if state == "STOPPED" and not answer.get("tasks"):
            return
        pause(deadline, f"{sink} does not stop: {state or answer.get('message')}", POLL_S)


def config_of(connect: Server, sink: str, deadline: float) -> dict[str, str]:
    """Return the configuration of a connector that was registered. Raises RestError if it is no keyed or event sink."""
    config = ask(connect, "GET", f"/connectors/{quote(sink)}/config", deadline)
    if "topics" not in config:
        raise RestError(f"{sink} is not a sink: its configuration has no topics")
    if config.get("consumer.override.auto.offset.reset") != "earliest":
        raise RestError(f"{sink} would not begin at the beginning: consumer.override.auto.offset.reset is not earliest")
    return {key: str(value) for key, value in config.items()}


def indices_of(config: Mapping[str, str]) -> list[str]:
    """Return the indices a sink writes to: its topics' names after RegexRouter, in lower case, without leading - _."""
    indices = []
    for topic in filter(None, map(str.strip, config["topics"].split(","))):
        for name in filter(None, map(str.strip, config.get("transforms", "").split(","))):
            prefix = f"transforms.{name}."
            if config.get(f"{prefix}type") == ROUTER:
                replacement = re.sub(r"\$(\d)", r"\\\1", config[f"{prefix}replacement"])
                if match := re.fullmatch(config[f"{prefix}regex"], topic):
                    topic = match.expand(replacement)
        indices.append(topic.lower().lstrip("-_"))
    return indices


def ask(
    server: Server, method: str, path: str, deadline: float, body: object = None, accept: Sequence[int] = (200,)
) -> dict[str, Any]:
    """Send a request until it is answered with an accepted status; return the response. Raises RestError."""
    while True:
        status, answer = server.request(method, path, body)
        if status in accept:
            return answer
        # Elasticsearch's reason is an object
        why = answer.get("message") or json.dumps(answer.get("error", answer))[:300]
        problem = f"{method} {server.url}{path}: HTTP {status}: {why}" if status else f"{server.url}: {why}"
        # Connect answers 400 as long as a member of the consumer group is left
        if status not in RETRYABLE and not (status == 400 and path.endswith("/offsets")):
            raise RestError(problem)
        pause(deadline, problem, POLL_S)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sink", nargs="+", help="name of a registered sink, e.g. sink-sessions")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8083", help="URL of Connect's REST API (default: %(default)s)"
    )
    parser.add_argument(
        "--elasticsearch", default="http://127.0.0.1:9200", metavar="URL", help="(default: %(default)s)"
    )
    parser.add_argument("--template", type=Path, default=TEMPLATE, help="index template (default: %(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=180.0, metavar="S", help="overall timeout [s] (default: %(default)g)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
