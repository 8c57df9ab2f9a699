"""What the broker lets this worker do, asked before the start with requests that change nothing.

A right that is missing shows up late otherwise: as a traceback, or as a worker that waits for its group for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.transaction import EndTxnRequest
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from app.kafka.topics import REFUSED
from models.topic_names import TopicNames

#: what the broker answers where it does not say which operations are allowed
_UNTOLD = -(1 << 31)
_GROUP_REFUSED, _TRANSACTION_REFUSED = 30, 53


class Right(IntEnum):
    """Kafka's AclOperation, as far as we need it."""

    READ = 3
    WRITE = 4
    DESCRIBE = 8

    def __str__(self) -> str:
        return self.name.capitalize()


def needed(names: TopicNames, *, scoring: bool) -> dict[str, tuple[Right, ...]]:
    """Which rights on which topics a worker needs; `scoring`: whether it writes predictions itself."""
    both, write = (Right.READ, Right.WRITE), (Right.WRITE,)
    return {
        names.source: (Right.READ,),
        names.visits: both,
        names.students_changelog: both,
        names.alerts_changelog: both,
        names.prediction: both if scoring else (Right.READ,),
        **dict.fromkeys((names.sessions, names.agg, names.in_risk, names.dead_letters), write),
    }


async def missing(
    admin: AIOKafkaAdminClient, topics: Mapping[str, Sequence[Right]], group: str, transactional_ids: Sequence[str]
) -> list[str]:
    """The rights this client lacks, e.g. "Read on topic x"; what an old broker does not tell is not among them.

    Raises KafkaError.
    """
    told = await asyncio.gather(
        _topics(admin, topics), _group(admin, group), *(_transactions(admin, one) for one in transactional_ids)
    )
    return [line for lines in told for line in lines]


async def _topics(admin: AIOKafkaAdminClient, wanted: Mapping[str, Sequence[Right]]) -> list[str]:
    try:
        answer = await admin._send_request(_Operations(list(wanted)))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return []
    allowed = {t["topic"]: (t["error_code"], t["operations"]) for t in answer.to_object()["topics"]}
    return list(_denied(wanted, allowed))


def _denied(wanted: Mapping[str, Sequence[Right]], allowed: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    for topic, rights in wanted.items():
        error, operations = allowed.get(topic, (0, _UNTOLD))
        if error == REFUSED:
            yield f"{Right.DESCRIBE} on topic {topic}"
        elif operations != _UNTOLD:
            yield from (f"{right} on topic {topic}" for right in rights if not operations >> right & 1)


async def _group(admin: AIOKafkaAdminClient, group: str) -> list[str]:
    """A heartbeat of nobody: it is refused either way, for want of the right or of the member."""
    answer = await admin._send_request(HeartbeatRequest(group, -1, ""))
    return [f"{Right.READ} on group {group}"] if answer.error_code == _GROUP_REFUSED else []


async def _transactions(admin: AIOKafkaAdminClient, transactional_id: str) -> list[str]:
    """The end of a transaction of nobody. To begin one would fence a worker that runs."""
    answer = await admin._send_request(EndTxnRequest(transactional_id, -1, -1, False))
    refused = answer.error_code == _TRANSACTION_REFUSED
    return [f"{Right.WRITE} on transactional id {transactional_id}"] if refused else []


class _OperationsResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
        ("cluster_operations", Int32),
    )


class _OperationsStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _OperationsResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))), ("create", Boolean), ("of_cluster", Boolean), ("of_topics", Boolean)
    )


class _Operations(Request[_OperationsStruct]):  # type: ignore[misc]
    """Metadata, version 8 (Kafka 2.3): which operations on topics are allowed. aiokafka stops at version 5."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_OperationsStruct]) -> _OperationsStruct:
        """The request itself."""
        return request_struct_class(self._topics, False, False, True)
