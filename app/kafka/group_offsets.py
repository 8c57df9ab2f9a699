"""What the consumer group's committed offsets say about the settings they were made with.

Positions and state belong to the topics and the unit they were made from. The topics are those with offsets; the unit
is committed as the offsets' metadata, and so is the claim on a partition's state (claims.py).
"""

from __future__ import annotations

import asyncio
import time

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    NotCoordinatorError,
)

from app.errors import ConfigError
from app.settings import Settings

#: wait before the group's coordinator is asked again [s]
_RETRY_S = 0.2
_UNIT, _CLAIM = "timecreated=", " writer="


def metadata_of(settings: Settings, claim: str | None = None) -> str:
    """Return what is committed with an offset; claim: on the state of the partition, if there is one."""
    return f"{_UNIT}{settings.time_unit}" + (f"{_CLAIM}{claim}" if claim else "")


def claim_of(metadata: str | None) -> str | None:
    """Return the claim that was committed with an offset; None without one."""
    return (metadata or "").partition(_CLAIM)[2] or None


async def read_claims(admin: AIOKafkaAdminClient, group: str, topic: str, patience_s: float) -> dict[int, str]:
    """Return the claims on the partitions of a topic that a group has read.

    Raises KafkaError if the group's coordinator does not answer for `patience_s`.
    """
    offsets = await _offsets(admin, group, patience_s)
    of_topic = {tp.partition: metadata for tp, metadata in offsets.items() if tp.topic == topic}
    return {number: claim for number, metadata in of_topic.items() if (claim := claim_of(metadata)) is not None}


async def check_group(admin: AIOKafkaAdminClient, settings: Settings, patience_s: float) -> None:
    """Check that the group's offsets were committed with the same source topic, prefix and unit.

    Raises ConfigError if not; KafkaError if the group's coordinator does not answer for `patience_s`.
    """
    names, prefix, app_id = settings.topic_names, settings.topic_prefix, settings.app_id
    scored = names.prediction.removeprefix(prefix)
    remedy = f"set it back, or set another RISK_APP_ID than {app_id} to start over"
    for topic, metadata in sorted({(tp.topic, m) for tp, m in (await _offsets(admin, app_id, patience_s)).items()}):
        if topic == names.source:
            if metadata.startswith(_UNIT) and metadata != metadata_of(settings):
                unit = metadata.removeprefix(_UNIT)
                raise ConfigError(f"RISK_TIME_UNIT was {unit} so far, and is {settings.time_unit} now: {remedy}")
        elif topic != names.prediction and topic.endswith(scored):
            former = topic.removesuffix(scored)
            raise ConfigError(f"RISK_TOPIC_PREFIX was {former!r} so far, and is {prefix!r} now: {remedy}")
        elif topic != names.prediction and not topic.startswith(f"{app_id}-"):
            raise ConfigError(f"RISK_SOURCE_TOPIC was {topic} so far, and is {names.source} now: {remedy}")


async def _offsets(admin: AIOKafkaAdminClient, group: str, patience_s: float) -> dict[TopicPartition, str]:
    """Return the metadata of the group's committed offsets; none if this user may not see them."""
    give_up = time.monotonic() + patience_s
    while True:
        try:
            offsets = await admin.list_consumer_group_offsets(group)
        except GroupAuthorizationFailedError:
            return {}  # the check of rights says so
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(_RETRY_S)
        else:
            return {tp: committed.metadata or "" for tp, committed in offsets.items()}
