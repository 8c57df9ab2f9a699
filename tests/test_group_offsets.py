"""A worker whose settings do not fit what its consumer group has committed does not start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from app.errors import ConfigError
from app.kafka.group_offsets import check_group, metadata_of
from app.settings import Settings

SETTINGS = Settings(source_topic="log", topic_prefix="a-", app_id="app", time_unit="s")
#: topics and metadata that the worker commits with these settings
OWN = {"log": "timecreated=s", "app-visits": "timecreated=s", "a-MOODLE_LOGS_PREDICTION": "timecreated=s"}


class Admin:
    """An admin client of a broker with committed offsets, after some errors."""

    def __init__(self, committed: Mapping[str, str], *errors: Exception) -> None:
        self.committed, self.errors = committed, list(errors)

    async def list_consumer_group_offsets(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        assert group == "app"
        if self.errors:
            raise self.errors.pop(0)
        return {TopicPartition(topic, 0): OffsetAndMetadata(5, text) for topic, text in self.committed.items()}


async def check(committed: Mapping[str, str], *errors: Exception, patience_s: float = 5.0) -> None:
    admin: Any = Admin(committed, *errors)
    await check_group(admin, SETTINGS, patience_s)


async def test_the_same_settings_are_accepted():
    """Also those of a worker that committed no metadata yet, and a group without offsets."""
    assert metadata_of(SETTINGS) == "timecreated=s"
    for committed in ({}, OWN, dict.fromkeys(OWN, "")):
        await check(committed)


@pytest.mark.parametrize(
    ("committed", "message"),
    [
        ({**OWN, "log": "timecreated=ms"}, "RISK_TIME_UNIT was ms so far, and is s now"),
        ({"b-MOODLE_LOGS_PREDICTION": ""}, "RISK_TOPIC_PREFIX was 'b-' so far, and is 'a-' now"),
        ({"MOODLE_LOGS_PREDICTION": ""}, "RISK_TOPIC_PREFIX was '' so far, and is 'a-' now"),
        ({**OWN, "old.log": ""}, "RISK_SOURCE_TOPIC was old.log so far, and is log now"),
    ],
)
async def test_other_settings_are_refused(committed, message):
    """Rows would be skipped or counted in another unit, silently."""
    with pytest.raises(ConfigError, match=message + ": set it back, or set another RISK_APP_ID than app"):
        await check(committed)


async def test_the_coordinator_may_take_a_moment():
    """After a broker's start; not for ever. A missing right is named by the check of rights."""
    await check(OWN, CoordinatorNotAvailableError())
    await check({"old.log": ""}, GroupAuthorizationFailedError("app"))
    with pytest.raises(CoordinatorNotAvailableError):
        await check(OWN, CoordinatorNotAvailableError(), patience_s=-1)
