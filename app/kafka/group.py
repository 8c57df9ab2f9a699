"""The consumer group as a lock: while `faust -A app grow` is its member no worker can be, and the other way round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import GroupCoordinatorNotAvailableError, InconsistentGroupProtocolError, KafkaError, for_code

from app.errors import ConfigError
from app.kafka.clients import new_consumer
from app.settings import Settings

#: how much longer than RISK_SESSION_TIMEOUT a group may take to forget a member that was killed [s]
_MARGIN_S = 2.0
#: interval at which the group's members are asked for [s]
_POLL_S = 0.3
#: time without a poll after which the lock would be lost [ms]: never, it polls nothing
_NEVER_MS = 2**31 - 1


class LockAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """The group protocol of the lock. The broker refuses a member that does not speak the others' protocol."""

    name = "moodle-risk-grow"


async def members(admin: AIOKafkaAdminClient, group: str) -> list[str]:
    """Return the hosts of the group's members. Raises KafkaError; GroupCoordinatorNotAvailableError for a moment."""
    (answer,) = await admin.describe_consumer_groups([group])
    (described,) = answer.to_object()["groups"]
    if described["error_code"] and described["members"]:
        raise for_code(described["error_code"])(group)
    return [member["client_host"].lstrip("/") for member in described["members"]]


async def wait_until_idle(admin: AIOKafkaAdminClient, settings: Settings) -> None:
    """Wait until the group has no member, as long as it takes to forget one that was killed.

    Raises ConfigError if it still has one then, KafkaError.
    """
    give_up = time.monotonic() + settings.session_timeout_s + _MARGIN_S
    while True:
        late = time.monotonic() > give_up
        try:
            if not (hosts := await members(admin, settings.app_id)):
                return
        except GroupCoordinatorNotAvailableError:  # a broker has just started
            if late:
                raise
            hosts = []
        if hosts and late:
            where = ", ".join(sorted(set(hosts)))
            raise ConfigError(
                f"workers of consumer group {settings.app_id} (RISK_APP_ID) are running, {len(hosts)} on {where}: "
                "stop them"
            )
        await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def locked(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """Be the only member of the group. Raises ConfigError if a worker is one."""
    timeout_ms = int(settings.session_timeout_s * 1000)
    consumer = new_consumer(
        settings,
        settings.source_topic,
        group_id=settings.app_id,
        partition_assignment_strategy=[LockAssignor],
        enable_auto_commit=False,
        session_timeout_ms=timeout_ms,
        heartbeat_interval_ms=timeout_ms // 6,
        max_poll_interval_ms=_NEVER_MS,
    )
    try:
        await consumer.start()
    except KafkaError as error:
        await consumer.stop()
        if not isinstance(error, InconsistentGroupProtocolError):
            raise
        raise ConfigError(f"a worker of consumer group {settings.app_id} (RISK_APP_ID) is running: stop it") from None
    try:
        consumer.pause(*consumer.assignment())
        yield consumer
    finally:
        await consumer.stop()
