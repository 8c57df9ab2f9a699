"""A real OpenSearch node as the tests see it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.sink_documents import Action, Document

#: actions in one request: the sink's batch.size
BATCH = 2_000
#: what an answer to one line may be: done, nothing to delete, or a version that came late
FINE = {200, 201, 404, 409}


@dataclass(frozen=True)
class Node:
    """OpenSearch, over HTTP."""

    url: str

    def ask(self, method: str, path: str, payload: object = None) -> dict[str, Any]:
        """The answer, which must be a good one."""
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode() if payload else None
        kind = "application/x-ndjson" if isinstance(payload, bytes) else "application/json"
        answer = httpx.request(method, self.url + path, content=content, headers={"Content-Type": kind}, timeout=60)
        assert answer.is_success, answer.text[:500]
        found: dict[str, Any] = answer.json()
        return found

    def send(self, asked: Sequence[Action]) -> None:
        """As the sink does, in batches; a conflict is done."""
        for at in range(0, len(asked), BATCH):
            answer = self.ask("POST", "/_bulk", b"".join(one.lines() for one in asked[at : at + BATCH]))
            items = [item for line in answer["items"] for item in line.values()]
            assert {item["status"] for item in items} <= FINE, [i for i in items if i["status"] not in FINE][:3]
        self.ask("POST", "/_refresh")

    def documents(self, index: str) -> dict[str, Document]:
        """All of an index (which has no more than 10,000), by id."""
        answer = self.ask("POST", f"/{index}/_search", {"size": 10_000, "query": {"match_all": {}}})
        hits = answer["hits"]["hits"]
        assert answer["hits"]["total"] == {"value": len(hits), "relation": "eq"}
        return {hit["_id"]: hit["_source"] for hit in hits}

    def drop(self, pattern: str) -> None:
        for index in self.ask("GET", f"/{pattern}"):
            self.ask("DELETE", f"/{index}")
