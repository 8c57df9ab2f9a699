"""Limits of topics under which rows would be refused, and topics with too few replicas, without a broker."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from app.errors import ConfigError
from app.kafka import topics
from app.kafka.topic_limits import AFTER, ANY_TIME, BEFORE, DIFFERENCE, check_replicas, require_room

NO_LIMIT = str(2**63 - 1)


@pytest.mark.parametrize(
    ("configs", "limit"),
    [
        ({}, None),  # the broker does not show them
        (ANY_TIME, None),
        ({BEFORE: NO_LIMIT, AFTER: NO_LIMIT}, None),
        ({BEFORE: NO_LIMIT, AFTER: "3600000"}, f"{AFTER}=3600000"),  # Kafka 4's default
        ({BEFORE: "86400000", AFTER: NO_LIMIT}, f"{BEFORE}=86400000"),
        # Kafka 3.6 to 3.9: the older limit stands in for one that is not set
        ({BEFORE: NO_LIMIT, AFTER: NO_LIMIT, DIFFERENCE: "1000"}, f"{DIFFERENCE}=1000"),
        ({**ANY_TIME, AFTER: NO_LIMIT, DIFFERENCE: "1000"}, f"{DIFFERENCE}=1000"),
        ({**ANY_TIME, DIFFERENCE: "1000"}, None),
        # before Kafka 3.6
        ({DIFFERENCE: "1000"}, f"{DIFFERENCE}=1000"),
        ({DIFFERENCE: NO_LIMIT}, None),
        # the broker ignores a record's time
        ({"message.timestamp.type": "LogAppendTime", AFTER: "1000"}, None),
    ],
)
def test_a_limit_on_event_time_is_refused(configs, limit):
    """Whichever of the limits is in force; there is one line with the setting and its remedy."""
    if limit is None:
        require_room([], ["out"], {"out": configs})
        return
    with pytest.raises(ConfigError, match=rf"^topic out has {re.escape(limit)}: .*kafka-configs --alter"):
        require_room([], ["out"], {"out": configs})


def test_a_limit_on_the_future_does_no_harm_where_no_row_is_so_far_ahead():
    """RISK_MAX_AHEAD sets such rows aside before they are written."""
    configs = {"out": {**ANY_TIME, AFTER: "3600000"}}
    require_room([], ["out"], configs, max_ahead_ms=3_600_000)
    with pytest.raises(ConfigError):
        require_room([], ["out"], configs, max_ahead_ms=3_600_001)
    with pytest.raises(ConfigError):
        require_room([], ["out"], {"out": {**ANY_TIME, BEFORE: "3600000"}}, max_ahead_ms=60_000)


def test_fewer_replicas_than_a_write_needs_are_refused():
    """Brokers before Kafka 3.7 refuse every write; later ones need a warning only."""
    configs = {"a": {"min.insync.replicas": "2"}, "b": {"min.insync.replicas": "2"}, "c": {}}
    replicas = {"a": 1, "b": 2, "c": 1}
    with pytest.raises(ConfigError, match=r"topic a has 1 of the 2 replicas .* every write would be refused"):
        check_replicas(replicas, 1, configs, refuses=True)
    (line,) = check_replicas(replicas, 2, configs, refuses=False)
    assert line.startswith("topic a has 1 of the 2 replicas that min.insync.replicas demands: ")


def test_one_replica_on_a_cluster_is_a_warning():
    """It works until a broker is away."""
    (line,) = check_replicas({"a": 1, "b": 3, "c": 1}, 3, {}, refuses=False)
    assert line.startswith("topic a, c has one replica although there are 3 brokers")
    assert "RISK_REPLICATION" in line


class OldAdmin:
    """An admin client of a broker before Kafka 3.6, which refuses configurations that it does not know."""

    def __init__(self) -> None:
        self.created: list[Any] = []

    async def create_topics(self, new: list[Any]) -> Any:
        unknown = {BEFORE, AFTER} & set(new[0].topic_configs)
        if not unknown:
            self.created += new
        return SimpleNamespace(topic_errors=[(new[0].name, 40 if unknown else 0, "Unknown topic config name")])


async def test_topics_are_created_on_brokers_that_lack_the_two_limits(monkeypatch):
    """Before Kafka 3.6 there is one limit for both directions. The replication factor is the broker's own."""
    admin: Any = OldAdmin()

    async def none(*_: object, **__: object) -> Any:
        return {}

    monkeypatch.setattr(topics, "partitions_of", none)
    monkeypatch.setattr(topics, "configs_of", none)
    monkeypatch.setattr(topics, "_check_replicas", lambda *_: none_found())

    async def none_found() -> list[str]:
        return []

    wanted = [topics.Topic("out", 1, {"retention.ms": "-1"} | ANY_TIME, event_time=True)]
    assert await topics.declare(admin, wanted, -1) == []
    (new,) = admin.created
    assert new.replication_factor == -1
    assert new.topic_configs == {
        "retention.ms": "-1", "message.timestamp.type": "CreateTime", DIFFERENCE: NO_LIMIT,
    }  # fmt: skip
