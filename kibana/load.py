#!/usr/bin/env python3
"""Import the data views and the dashboard into Kibana.

    python kibana/load.py
    python kibana/load.py --url http://127.0.0.1:5601 kibana/moodle-risk.ndjson

Waits until Kibana is available, then imports the file. Saved objects with the same ids are overwritten, edits made in
Kibana included. Exit code: 0 if all objects were imported; 1 if some were rejected or the timeout expired (each reason
is printed on one line); 2 for wrong usage.

With a login: KIBANA_USER and KIBANA_PASSWORD, or KIBANA_API_KEY, in the environment; a secret also as …_FILE, a file's
path. KIBANA_CA: a file of CA certificates. Needs only Python, and connect/rest.py.

Kibana answers 200 even if some objects failed, so `success` and `successCount` are checked as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().with_name("moodle-risk.ndjson")
sys.path.insert(0, str(FILE.parent.parent / "connect"))

from rest import RestError, Server, one_line, pause  # noqa: E402

#: what begins the names of this server's variables
KIBANA = "KIBANA"
IMPORT = "/api/saved_objects/_import?overwrite=true"
#: interval between polls [s]
POLL_S = 1.0
#: statuses to retry: Kibana, or a proxy in front of it, is not ready; 0 stands for no response
RETRYABLE = {0, 404, 429, 502, 503, 504}


class LoadError(Exception):
    """One or more failures, described on one line each."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        data, count = read(options.file)
        deadline = time.monotonic() + options.timeout
        kibana = Server.at(options.url, KIBANA)
        print(f"Kibana {wait_for_kibana(kibana, deadline)} at {kibana.url}", flush=True)
        load(kibana, data, count, deadline)
    except (LoadError, RestError) as error:
        for line in getattr(error, "lines", [str(error)]):
            print(f"load: {one_line(line)}", file=sys.stderr)
        return 1
    print(f"{count} saved objects imported from {options.file.name}", flush=True)
    return 0


def read(path: Path) -> tuple[bytes, int]:
    """Return the file's content and its number of objects. Raises LoadError if it is not a file of saved objects."""
    try:
        data = path.read_bytes()
        objects = [json.loads(line) for line in data.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise LoadError(f"{path}: {error}") from error
    if not objects or not all(isinstance(line, dict) and {"type", "id"} <= line.keys() for line in objects):
        raise LoadError(f"{path} is empty or has a line that is not a saved object")
    return data, len(objects)


def wait_for_kibana(kibana: Server, deadline: float) -> str:
    """Poll until Kibana reports that it is available; return its version.

    Raises RestError after the deadline, and at once if Kibana wants another login.
    """
    while True:
        status, answer = kibana.request("GET", "/api/status")
        try:
            level = answer["status"]["overall"]["level"]
        except (KeyError, TypeError):
            level = answer.get("message") or f"HTTP {status}"
        if status == 200 and level == "available":
            # not told to anybody who has not logged in
            return str(answer.get("version", {}).get("number", "of an unknown version"))
        if status in (401, 403):
            raise RestError(f"{kibana.url} refuses the login (HTTP {status}): set KIBANA_USER and KIBANA_PASSWORD")
        pause(deadline, f"{kibana.url} is not ready: {level}", POLL_S)


def load(kibana: Server, data: bytes, count: int, deadline: float) -> None:
    """Import the file. Raises LoadError with Kibana's reasons unless it imported all `count` objects, or RestError."""
    boundary = uuid.uuid4().hex
    head = (
        'Content-Disposition: form-data; name="file"; filename="moodle-risk.ndjson"\r\nContent-Type: application/ndjson'
    )
    body = f"--{boundary}\r\n{head}\r\n\r\n".encode() + data + f"\r\n--{boundary}--\r\n".encode()
    # Kibana rejects writing requests without the kbn-xsrf header
    headers = {"kbn-xsrf": "true", "Content-Type": f"multipart/form-data; boundary={boundary}"}
    while True:
        status, answer = kibana.request("POST", IMPORT, body, headers)
        if status not in RETRYABLE:
            break
        pause(deadline, f"import failed: {answer.get('message') or f'HTTP {status}'}", POLL_S)
    if status != 200:
        raise LoadError(f"Kibana rejected the file (HTTP {status}): {answer.get('message', answer)}")
    failed = [f"{o.get('type')} {o.get('id')}: {reason(o.get('error', {}))}" for o in answer.get("errors", [])]
    imported = answer.get("successCount", 0)
    if failed or answer.get("success") is not True or imported != count:
        raise LoadError(*failed, f"imported {imported} of {count} saved objects")


def reason(error: dict[str, Any]) -> str:
    """Describe an object's error: its type, its message and its other fields as JSON."""
    details = {name: value for name, value in error.items() if name not in ("type", "message")}
    parts = [str(error.get("type", "no reason given")), str(error.get("message", ""))]
    parts += [json.dumps(details)] if details else []
    return ", ".join(part for part in parts if part)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=FILE, help="file to import (default: %(default)s)")
    parser.add_argument("--url", default="http://127.0.0.1:5601", help="URL of Kibana (default: %(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=180.0, metavar="S", help="overall timeout [s] (default: %(default)g)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
