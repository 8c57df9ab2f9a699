"""The brokers of a replicated cluster: who leads and coordinates what, and whether every replica is in sync."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

from app.kafka.clients import new_admin
from app.kafka.group_offsets import read_claims
from app.settings import Settings
from app.upstream.aiokafka import send_request
from tools.e2e.workers import E2EError

T = TypeVar("T")

#: types of coordinator in a FindCoordinator request
GROUP, TRANSACTION = 0, 1
#: timeout of one request, and of one attempt with all its requests [s]
_REQUEST_S, _ATTEMPT_S = 3.0, 10.0
#: attempts, with a pause between them [s]: a broker that is away may be the one that was asked
_ATTEMPTS, _PAUSE_S = 10, 0.3
#: ElectLeaders: to the first replica of each partition
_PREFERRED = 0


@dataclass(frozen=True, slots=True)
class PartitionReplicas:
    """Where one partition is."""

    topic: str
    partition: int
    leader: int
    replicas: Sequence[int]
    in_sync: Sequence[int]


class Replicas:
    """Questions and requests to the cluster, each over a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def partitions(self) -> list[PartitionReplicas]:
        """Return all partitions of all topics, internal ones included."""
        return self._ask(_partitions)

    def out_of_sync(self) -> list[str]:
        """Return topic-partition of each partition that lacks a replica."""
        return [f"{p.topic}-{p.partition}" for p in self.partitions() if len(p.in_sync) < len(p.replicas)]

    def coordinator(self, key: str, kind: int) -> int:
        """Return the id of the broker that coordinates a group or a transactional id."""
        return int(self._ask(lambda admin: admin.find_coordinator(key, kind)))

    def claims(self) -> dict[int, str]:
        """Return the transactional id that writes each partition of the table of students."""
        app_id, visits = self._settings.app_id, self._settings.topic_names.visits
        return self._ask(lambda admin: read_claims(admin, app_id, visits, _REQUEST_S))

    def move_leaders(self, rng: random.Random) -> int:
        """Make another replica the preferred leader of every partition and elect it; return how many moved."""
        before = self.partitions()
        wanted = {(p.topic, p.partition): rng.sample(list(p.replicas), len(p.replicas)) for p in before}
        self._ask(lambda admin: _reassign(admin, wanted))
        self._ask(lambda admin: send_request(admin, _ElectLeadersRequest(list(_by_topic(wanted)))))
        after = {(p.topic, p.partition): p.leader for p in self.partitions()}
        return sum(after.get((p.topic, p.partition)) != p.leader for p in before)

    def _ask(self, question: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        return asyncio.run(self._attempts(question))

    async def _attempts(self, question: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        failure: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                return await asyncio.wait_for(self._attempt(question), _ATTEMPT_S)
            except (KafkaError, OSError) as error:
                failure = error
            await asyncio.sleep(_PAUSE_S)
        raise E2EError(f"{self._settings.broker} does not answer: {failure!r}")

    async def _attempt(self, question: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        admin = new_admin(self._settings, request_timeout_ms=round(_REQUEST_S * 1000))
        await admin.start()
        try:
            return await question(admin)
        finally:
            await admin.close()


async def _partitions(admin: AIOKafkaAdminClient) -> list[PartitionReplicas]:
    return [
        PartitionReplicas(topic["topic"], p["partition"], p["leader"], p["replicas"], p["isr"])
        for topic in await admin.describe_topics()
        for p in topic["partitions"]
    ]


def _by_topic(wanted: Mapping[tuple[str, int], object]) -> list[tuple[str, list[int]]]:
    topics: dict[str, list[int]] = {}
    for topic, partition in wanted:
        topics.setdefault(topic, []).append(partition)
    return list(topics.items())


async def _reassign(admin: AIOKafkaAdminClient, wanted: Mapping[tuple[str, int], Sequence[int]]) -> Response:
    topics: list[Any] = [
        (topic, [(partition, list(wanted[topic, partition]), {}) for partition in partitions], {})
        for topic, partitions in _by_topic(wanted)
    ]
    return await send_request(admin, AlterPartitionReassignmentsRequest(round(_REQUEST_S * 1000), topics, {}))


class _ElectLeadersResponse(Response):  # type: ignore[misc]
    API_KEY = 43
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "results",
            Array(
                ("topic", String("utf-8")),
                ("partitions", Array(("partition", Int32), ("error_code", Int16), ("message", String("utf-8")))),
            ),
        ),
    )


class _ElectLeadersStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 43
    API_VERSION = 1
    RESPONSE_TYPE = _ElectLeadersResponse
    SCHEMA = Schema(
        ("election_type", Int8),
        ("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))),
        ("timeout_ms", Int32),
    )


class _ElectLeadersRequest(Request[_ElectLeadersStruct]):  # type: ignore[misc]
    """ElectLeaders, which aiokafka does not have."""

    API_KEY = 43

    def __init__(self, topics: list[tuple[str, list[int]]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_ElectLeadersStruct]) -> _ElectLeadersStruct:
        """Build the request for the version that was negotiated."""
        return request_struct_class(_PREFERRED, self._topics, round(_REQUEST_S * 1000))
