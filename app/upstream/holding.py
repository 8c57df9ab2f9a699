"""aiokafka's fetcher, with partitions that are fetched at set times; beyond the documented API of aiokafka 0.14.0."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchRequest
from aiokafka.structs import TopicPartition

#: how long no partition is fetched while the reader has not said whether to hold again [s]
_PATIENCE_S = 0.005


class HoldingFetcher(Fetcher):  # type: ignore[misc]
    """Leaves some partitions out of its requests until a time, and then asks for their records without waiting.

    The records of a while thus come in one answer. Usually the broker answers at the first record, so that each comes
    alone, and a node is not asked for anything else while its answer to an earlier request is outstanding.
    Upstream change: `AIOKafkaConsumer.hold(*partitions, until)`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held: frozenset[TopicPartition] = frozenset()
        #: when the held partitions are asked for [s, monotonic]
        self._until = 0.0
        #: nodes that have answered since then
        self._answered: set[int] = set()

    def hold(self, partitions: Collection[TopicPartition], until: float) -> None:
        """Do not fetch `partitions` before `until` [s, monotonic]; ask for what is there at that time."""
        self._held, self._until = frozenset(partitions), until
        self._answered.clear()
        self._notify(self._wait_consume_future)

    def release(self) -> None:
        """Fetch all partitions as usual."""
        self.hold((), 0.0)

    def has_answer(self) -> bool:
        """Whether all nodes have answered what was asked when the time had come, if only that there is nothing."""
        return {self._select_read_replica(tp) for tp in self._held} <= self._answered

    def _get_actions_per_node(self, assignment: Any) -> Any:
        requests, resets, timeout, is_invalid, resumed = super()._get_actions_per_node(assignment)
        left = self._until - time.monotonic()
        if not self._held or (left < -_PATIENCE_S and self.has_answer()):
            return requests, resets, timeout, is_invalid, resumed
        if left > 0:
            # the answer must not be outstanding when the time has come
            requests = [(node, self._request(self._not_held(request), left)) for node, request in requests]
            timeout = min(timeout, left)
        elif self.has_answer():
            requests, timeout = [], min(timeout, _PATIENCE_S)
        else:
            requests = [
                (node, request if node in self._answered else self._request(request.topics, 0))
                for node, request in requests
            ]
        return [r for r in requests if r[1].topics], resets, timeout, is_invalid, resumed

    async def _proc_fetch_request(self, assignment: Any, node_id: int, request: Any) -> Any:
        asked = time.monotonic() >= self._until and any(tp in self._held for tp in _partitions(request))
        has_data = await super()._proc_fetch_request(assignment, node_id, request)
        if asked and node_id not in self._answered:
            self._answered.add(node_id)
            for waiter in list(self._fetch_waiters):
                self._notify(waiter)
        return has_data

    def _not_held(self, request: Any) -> Any:
        kept = [(t, [p for p in ps if TopicPartition(t, p[0]) not in self._held]) for t, ps in request.topics]
        return [(topic, partitions) for topic, partitions in kept if partitions]

    def _request(self, topics: Any, wait_s: float) -> FetchRequest:
        wait_ms = min(self._fetch_max_wait_ms, int(wait_s * 1000))
        return FetchRequest(
            wait_ms,
            self._fetch_min_bytes,
            self._fetch_max_bytes,
            self._isolation_level,
            topics,
            rack_id=self._client_rack or "",
        )


def fetcher_of(consumer: AIOKafkaConsumer) -> HoldingFetcher:
    """Return the fetcher of a consumer that has been started. Needs `app.upstream.install()`."""
    fetcher: HoldingFetcher = consumer._fetcher
    return fetcher


def _partitions(request: Any) -> list[TopicPartition]:
    return [TopicPartition(topic, p[0]) for topic, partitions in request.topics for p in partitions]
