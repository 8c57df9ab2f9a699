"""A schema registry on this machine that behaves as registries, and the proxies in front of them, do."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from tools.replay import debezium

#: ids of schemas
LOG, EVOLVED, NULLABLE, KEY, OTHER_TOPIC, STRING_USER, UNKNOWN = 1, 2, 3, 4, 5, 6, 99
#: names of behaviours: all answers right; some requests fail; a replica that learns of an id after a while; no
#: subject of this name; the latest version is another topic's, or has a userid of another type; an HTML page; nothing
BEHAVIOURS = ("well", "flaky", "behind", "no-subject", "other-topic", "string-user", "page", "away")
#: share of the requests that fail when it is flaky, and how often an id is unknown to a replica that is behind
_FLAKY, _BEHIND = 0.5, 3


def _schemas(topic: str) -> dict[int, dict[str, Any]]:
    plain = json.loads(debezium.schemas(topic).value)
    source = {"name": "origin", "type": ["null", "string"], "default": None}
    other = [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]
    strings = [{**f, "type": "string"} if f["name"] == "userid" else f for f in plain["fields"]]
    nullable = json.loads(debezium.schemas(topic, frozenset({"userid", "timecreated"})).value)
    return {
        LOG: plain,
        EVOLVED: {**plain, "fields": [*plain["fields"], source]},
        NULLABLE: nullable,
        KEY: json.loads(debezium.schemas(topic).key),
        OTHER_TOPIC: {**plain, "name": "Other", "fields": other},
        STRING_USER: {**plain, "fields": strings},
    }


class RegistryStub:
    """The registry of one situation. Use as a context manager; `url` is its address."""

    def __init__(self, topic: str, behaviour: str, seed: int) -> None:
        self._subject, self._behaviour, self._rng = f"{topic}-value", behaviour, random.Random(seed)
        self._schemas = _schemas(topic)
        self._asked: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.registry = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> RegistryStub:
        if self._behaviour == "away":
            self._server.server_close()
        else:
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._behaviour != "away":
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str) -> tuple[int, bytes]:
        """Return status and body for a request."""
        if self._behaviour == "page":
            return 200, b"<html>Welcome to nginx!</html>"
        if self._behaviour == "flaky" and self._rng.random() < _FLAKY:
            return self._rng.choice(((500, b"{}"), (502, b"<html>Bad Gateway</html>"), (404, b"<html>no</html>")))
        status, answer = self._right(path)
        asked = self._asked[path] = self._asked.get(path, 0) + 1
        if self._behaviour == "behind" and "/ids/" in path and status == 200 and asked <= _BEHIND:
            return 404, json.dumps(_error(40403)).encode()
        return status, json.dumps(answer).encode()

    def _right(self, path: str) -> tuple[int, Mapping[str, Any]]:
        if path.startswith("/schemas/ids/"):
            schema = self._schemas.get(int(path.partition("?")[0].rpartition("/")[2]))
            return (404, _error(40403)) if schema is None else (200, {"schema": json.dumps(schema)})
        if path.startswith(f"/subjects/{self._subject}/versions/latest") and self._behaviour != "no-subject":
            latest = {"other-topic": OTHER_TOPIC, "string-user": STRING_USER}.get(self._behaviour, LOG)
            text = json.dumps(self._schemas[latest])
            return 200, {"id": latest, "version": 1, "subject": self._subject, "schema": text}
        return 404, _error(40401)


def _error(code: int) -> dict[str, Any]:
    return {"error_code": code, "message": "not found"}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer as the registry of the situation does."""
        status, body = self.server.registry.answer(self.path)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if body[:1] in b"{[" else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""
