#!/usr/bin/env python3
"""Give Kibana its data views and its dashboard.

    python kibana/load.py
    python kibana/load.py --url http://127.0.0.1:5601 kibana/moodle-risk.ndjson

Waits until Kibana is available, then imports the file; what is there under the same ids is replaced, so running this
again changes nothing but edits made in Kibana. Exit code: 0 all of it is there; 1 it is refused, in whole or in part,
or time ran out, each reason in one line; 2 wrong use. Needs Python alone.

Kibana answers 200 also to an import of which half failed: what counts is `success`, and how many it took.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

FILE = Path(__file__).resolve().with_name("moodle-risk.ndjson")
IMPORT = "/api/saved_objects/_import?overwrite=true"
#: how long one request may take [s]
REQUEST_S = 60.0
#: between two looks [s]
LOOK_S = 1.0
#: Kibana, or a proxy before it, is not up to it yet: try again
LATER = {0, 404, 429, 502, 503, 504}


class LoadError(Exception):
    """What went wrong: a line each."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        data, count = read(options.file)
        deadline = time.monotonic() + options.timeout
        print(f"Kibana {available(options.url, deadline)} at {options.url}", flush=True)
        load(options.url, data, count, deadline)
    except LoadError as error:
        for line in error.lines:
            print(f"load: {_line(line)}", file=sys.stderr)
        return 1
    print(f"{count} saved objects of {options.file.name} are there", flush=True)
    return 0


def read(path: Path) -> tuple[bytes, int]:
    """The file, and how many objects it has. Raises LoadError if it is no file of saved objects."""
    try:
        data = path.read_bytes()
        objects = [json.loads(line) for line in data.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise LoadError(f"{path}: {error}") from error
    if not objects or not all(isinstance(one, dict) and {"type", "id"} <= one.keys() for one in objects):
        raise LoadError(f"{path} has a line that is no saved object, or none that is one")
    return data, len(objects)


def available(url: str, deadline: float) -> str:
    """Kibana's version, once it says that it is available. Raises LoadError if it never does."""
    while True:
        status, answer = _ask(Request(url.rstrip("/") + "/api/status"))
        try:
            level = answer["status"]["overall"]["level"]
            version = answer["version"]["number"]
        except (KeyError, TypeError):
            level, version = answer.get("message") or f"answers {status}", ""
        if status == 200 and version and level == "available":
            return str(version)
        _pause(deadline, f"{url} is no Kibana yet: {level}")


def load(url: str, data: bytes, count: int, deadline: float) -> None:
    """Import the file. Raises LoadError with Kibana's reasons unless it took all `count` objects."""
    boundary = uuid.uuid4().hex
    head = (
        'Content-Disposition: form-data; name="file"; filename="moodle-risk.ndjson"\r\nContent-Type: application/ndjson'
    )
    body = f"--{boundary}\r\n{head}\r\n\r\n".encode() + data + f"\r\n--{boundary}--\r\n".encode()
    # without this header Kibana takes no request that changes anything
    headers = {"kbn-xsrf": "true", "Content-Type": f"multipart/form-data; boundary={boundary}"}
    while True:
        status, answer = _ask(Request(url.rstrip("/") + IMPORT, body, headers, method="POST"))
        if status not in LATER:
            break
        _pause(deadline, f"cannot import: {answer.get('message') or f'HTTP {status}'}")
    if status != 200:
        raise LoadError(f"Kibana refuses the file (HTTP {status}): {answer.get('message', answer)}")
    failed = [f"{one.get('type')} {one.get('id')}: {reason(one.get('error', {}))}" for one in answer.get("errors", [])]
    taken = answer.get("successCount", 0)
    if failed or answer.get("success") is not True or taken != count:
        raise LoadError(*failed, f"{taken} of {count} saved objects were taken")


def reason(error: dict[str, Any]) -> str:
    """Why one object was refused: its kind, and what there is beside it."""
    rest = {name: value for name, value in error.items() if name not in ("type", "message")}
    parts = [str(error.get("type", "no reason given")), str(error.get("message", "")), json.dumps(rest) if rest else ""]
    return ", ".join(part for part in parts if part)


def _ask(request: Request) -> tuple[int, dict[str, Any]]:
    """Status and JSON of an answer, an empty one if it is no JSON object; 0 and why where none comes."""
    try:
        with urlopen(request, timeout=REQUEST_S) as answer:
            status, text = answer.status, answer.read()
    except HTTPError as error:
        status, text = error.code, error.read()
    except (OSError, HTTPException) as error:
        return 0, {"message": str(getattr(error, "reason", error)) or repr(error)}
    try:
        found = json.loads(text)
    except ValueError:
        found = {}
    return status, found if isinstance(found, dict) else {}


def _pause(deadline: float, problem: str) -> None:
    """Wait for the next look. Raises LoadError with the problem if there is none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise LoadError(f"{problem} (gave up)")
    time.sleep(min(LOOK_S, left))


def _line(text: str) -> str:
    return " ".join(text.split())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=FILE, help="default: %(default)s")
    parser.add_argument("--url", default="http://127.0.0.1:5601", help="of Kibana (default: %(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=180.0, metavar="S", help="for everything [s] (default: %(default)g)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
