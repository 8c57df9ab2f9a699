"""What connect/rebuild.py uses of Kafka Connect and of Elasticsearch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support.stub_server import StubServer


class SinkStub(StubServer):
    """Kafka Connect with one registered sink, which it stops, sets back and starts."""

    def __init__(self, name: str, config: Mapping[str, str]) -> None:
        super().__init__()
        self.path, self.config = f"/connectors/{name}", dict(config)
        self.state = "RUNNING"
        #: number of answers that refuse to set it back, as long as its consumer has not left
        self.busy = 1
        #: calls that changed something
        self.seen: list[str] = []

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        if path == "/":
            return 200, {"version": "4.1.1"}
        assert path.startswith(f"{self.path}/"), path
        part = path.removeprefix(f"{self.path}/")
        if (method, part) == ("GET", "config"):
            return 200, self.config
        if (method, part) == ("GET", "status"):
            tasks = [{"id": 0, "state": "RUNNING"}] if self.state == "RUNNING" else []
            return 200, {"connector": {"state": self.state}, "tasks": tasks}
        if part == "offsets":
            assert self.state == "STOPPED"
            if self.busy:
                self.busy -= 1
                return 400, {"error_code": 400, "message": "the consumer group is not empty"}
        self.seen.append(f"{method} {part}")
        if method == "PUT":
            self.state = {"stop": "STOPPED", "resume": "RUNNING"}[part]
            return 202, b""
        return 200, {"message": "offsets were reset"}


class IndexStub(StubServer):
    """Elasticsearch as far as an index is rebuilt."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.status = 200

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        self.seen.append(f"{method} {path}")
        if method == "PUT":
            assert json.loads(body)["index_patterns"] == ["moodle_logs_*", "moodle_risk*"]
        return self.status, {"error": {"reason": "no"}} if self.status != 200 else {"acknowledged": True}
