"""HTTP client for a real Elasticsearch or OpenSearch node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.sink_documents import Action, Document

#: actions per request: the sink's batch.size
BATCH = 2_000
#: accepted status of an action: done, nothing to delete, or a newer version exists
ACCEPTED = {200, 201, 404, 409}

#: shared, since creating a client takes longer than most requests; no connection is kept, for the node may be restarted
CLIENT = httpx.Client(trust_env=False, verify=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))


@dataclass(frozen=True)
class Node:
    """An Elasticsearch or OpenSearch node."""

    url: str

    def ask(self, method: str, path: str, payload: object = None) -> dict[str, Any]:
        """Send a request with a JSON payload, or bulk lines as bytes, and return the JSON object of the response."""
        if isinstance(payload, bytes):
            body: dict[str, Any] = {"content": payload, "headers": {"Content-Type": "application/x-ndjson"}}
        else:
            body = {"json": payload}
        response = CLIENT.request(method, self.url + path, **body)
        assert response.is_success, response.text[:500]
        answer: dict[str, Any] = response.json()
        return answer

    def send(self, actions: Sequence[Action]) -> None:
        """Send actions in batches as the sink does; version conflicts are accepted."""
        for start in range(0, len(actions), BATCH):
            lines = b"".join(action.lines() for action in actions[start : start + BATCH])
            answer = self.ask("POST", "/_bulk", lines)
            items = [item for line in answer["items"] for item in line.values()]
            assert {item["status"] for item in items} <= ACCEPTED, [i for i in items if i["status"] not in ACCEPTED][:3]
        self.ask("POST", "/_refresh")

    def documents(self, index: str) -> dict[str, Document]:
        """Return all documents of an index (at most 10,000) by id."""
        answer = self.ask("POST", f"/{index}/_search", {"size": 10_000, "query": {"match_all": {}}})
        hits = answer["hits"]["hits"]
        assert answer["hits"]["total"] == {"value": len(hits), "relation": "eq"}
        return {hit["_id"]: hit["_source"] for hit in hits}

    def drop(self, pattern: str) -> None:
        """Delete the indices that match a pattern."""
        for index in self.ask("GET", f"/{pattern}"):
            self.ask("DELETE", f"/{index}")
