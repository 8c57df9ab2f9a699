"""What the consumer group's committed offsets say about the settings they were made with.

Positions and state belong to the topics and the unit they were made from. The topics are those with offsets; the unit
is committed as the offsets' metadata.
"""

from __future__ import annotations

import asyncio
import time

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
_UNIT = "timecreated="


def metadata_of(settings: Settings) -> str:
    """Return what is committed with each offset."""
    return f"{_UNIT}{settings.time_unit}"


async def check_group(admin: AIOKafkaAdminClient, settings: Settings, patience_s: float) -> None:
    """Check that the group's offsets were committed with the same source topic, prefix and unit.

    Raises ConfigError if not; KafkaError if the group's coordinator does not answer for `patience_s`.
    """
    names, prefix, app_id = settings.topic_names, settings.topic_prefix, settings.app_id
    scored = names.prediction.removeprefix(prefix)
    remedy = f"set it back, or set another RISK_APP_ID than {app_id} to start over"
    for topic, metadata in await _offsets(admin, app_id, patience_s):
        if topic == names.source:
            if metadata.startswith(_UNIT) and metadata != metadata_of(settings):
                unit = metadata.removeprefix(_UNIT)
                raise ConfigError(f"RISK_TIME_UNIT was {unit} so far, and is {settings.time_unit} now: {remedy}")
        elif topic != names.prediction and topic.endswith(scored):
            former = topic.removesuffix(scored)
            raise ConfigError(f"RISK_TOPIC_PREFIX was {former!r} so far, and is {prefix!r} now: {remedy}")
        elif topic != names.prediction and not topic.startswith(f"{app_id}-"):
            raise ConfigError(f"RISK_SOURCE_TOPIC was {topic} so far, and is {names.source} now: {remedy}")


async def _offsets(admin: AIOKafkaAdminClient, group: str, patience_s: float) -> set[tuple[str, str]]:
    """Return topic and metadata of the group's committed offsets; none if this user may not see them."""
    give_up = time.monotonic() + patience_s
    while True:
        try:
            offsets = await admin.list_consumer_group_offsets(group)
        except GroupAuthorizationFailedError:
            return set()  # the check of rights says so
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(_RETRY_S)
        else:
            return {(tp.topic, committed.metadata or "") for tp, committed in offsets.items()}
