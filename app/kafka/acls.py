"""The rights of this worker on the broker, checked before the start with requests that change nothing.

Without the check a missing right shows up late: as a traceback, or as a worker that waits for its group forever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum

from aiokafka.admin import AIOKafkaAdminClient

from app.kafka.claims import new_id
from app.kafka.topics import TOPIC_AUTHORIZATION_FAILED
from app.upstream.aiokafka import end_transaction_error, heartbeat_error, topic_operations
from models.topic_names import TopicNames

#: the broker's answer if it does not report allowed operations
_UNKNOWN_OPERATIONS = -(1 << 31)
#: Kafka's error codes
_GROUP_AUTHORIZATION_FAILED, _TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 30, 53


class Right(IntEnum):
    """The subset of Kafka's AclOperation used here."""

    READ = 3
    WRITE = 4
    DESCRIBE = 8

    def __str__(self) -> str:
        return self.name.capitalize()


def needed(names: TopicNames, *, scoring: bool, risk: bool) -> dict[str, tuple[Right, ...]]:
    """Return the rights on each topic that a worker needs; scoring: whether it writes predictions itself;
    risk: whether it writes the risk."""
    both, write = (Right.READ, Right.WRITE), (Right.WRITE,)
    of_risk = {names.cohorts: both, names.risk: write, names.risk_alerts: write}
    return {
        names.source: (Right.READ,),
        names.visits: both,
        names.students_changelog: both,
        names.alerts_changelog: both,
        names.prediction: both if scoring else (Right.READ,),
        **(of_risk if risk else {}),
        **dict.fromkeys((names.sessions, names.agg, names.in_risk, names.dead_letters), write),
    }


def of_page(names: TopicNames) -> dict[str, tuple[Right, ...]]:
    """Return the rights on each topic that the page needs."""
    return {
        **dict.fromkeys((names.risk, names.risk_alerts, names.sessions, names.dead_letters), (Right.READ,)),
        names.cases: (Right.READ, Right.WRITE),
        names.page_audit: (Right.WRITE,),
    }


def id_prefix(app_id: str) -> str:
    """Return the prefix of the transactional ids on which a worker needs Write (claims.py)."""
    return f"{app_id}-"


async def missing(admin: AIOKafkaAdminClient, topics: Mapping[str, Sequence[Right]], app_id: str) -> list[str]:
    """Return the rights this client lacks, e.g. "Read on topic x", except those an old broker does not report.

    app_id: the consumer group, whose transactional ids begin with it. Raises KafkaError.
    """
    answers = await asyncio.gather(_topics(admin, topics), _group(admin, app_id), _transactions(admin, app_id))
    return [line for lines in answers for line in lines]


async def _topics(admin: AIOKafkaAdminClient, wanted: Mapping[str, Sequence[Right]]) -> list[str]:
    return list(denied(wanted, await topic_operations(admin, list(wanted))))


def denied(wanted: Mapping[str, Sequence[Right]], operations: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """List the wanted rights that the operations of the topics (error code, bit set of allowed ones) deny."""
    for topic, rights in wanted.items():
        error, allowed = operations.get(topic, (0, _UNKNOWN_OPERATIONS))
        if error == TOPIC_AUTHORIZATION_FAILED:
            yield f"{Right.DESCRIBE} on topic {topic}"
        elif allowed != _UNKNOWN_OPERATIONS:
            yield from (f"{right} on topic {topic}" for right in rights if not allowed >> right & 1)


async def _group(admin: AIOKafkaAdminClient, group: str) -> list[str]:
    """Send a heartbeat of an unknown member: the broker refuses it for the missing right or for the member."""
    error = await heartbeat_error(admin, group)
    return [f"{Right.READ} on group {group}"] if error == _GROUP_AUTHORIZATION_FAILED else []


async def _transactions(admin: AIOKafkaAdminClient, app_id: str) -> list[str]:
    """End a transaction of an id that nobody uses, as an unknown producer."""
    error = await end_transaction_error(admin, new_id(app_id))
    refused = error == _TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    return [f"{Right.WRITE} on transactional ids with the prefix {id_prefix(app_id)}"] if refused else []
