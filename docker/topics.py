"""The `topics` service of docker-compose.yml: create all topics before any service uses them. Idempotent.

The app's own topics come from app/kafka/topics.py, so they match what the worker expects.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from app.errors import ConfigError
from app.kafka.topics import Topic, declare, wanted
from app.ops.preflight import connect
from app.settings import Settings

#: for records timestamped with event time: the default retention would delete last year's at once
KEEP_ALL = {"cleanup.policy": "delete", "retention.ms": "-1"}
COMPACTED = {"cleanup.policy": "compact"}
#: Apicurio's storage; Apicurio would create the topics with Kafka's default retention and lose all schemas after a week
REGISTRY = ("kafkasql-journal", "kafkasql-snapshots")
#: partitions of the source topic, Moodle's log
SOURCES = 1


def all_topics(settings: Settings, connectors: Iterable[Path]) -> list[Topic]:
    """Return the source topic, the app's topics with and without RISK_TOPIC_PREFIX, the internal topics of the registry
    and of Connect, and the sinks' dead-letter topics."""
    plain = replace(settings, topic_prefix="")
    topics = [Topic(settings.source_topic, SOURCES, KEEP_ALL)]
    # KSQL and the sinks use the names without the prefix
    topics += [topic for s in (settings, plain) for topic in wanted(s.topic_names, SOURCES)]
    topics += [Topic(name, 1, KEEP_ALL) for name in REGISTRY]
    topics += [Topic(f"connect-{name}", 1, COMPACTED) for name in ("configs", "offsets", "status")]
    for path in connectors:
        config = json.loads(path.read_text(encoding="utf-8"))
        if dead_letters := config.get("errors.deadletterqueue.topic.name"):
            topics.append(Topic(dead_letters, 1, KEEP_ALL))
    return list({topic.name: topic for topic in topics}.values())


async def main(settings: Settings, connectors: Iterable[Path]) -> None:
    """Create all missing topics. Raises ConfigError with one line."""
    topics = all_topics(settings, connectors)
    admin = await connect(settings)
    try:
        for line in await declare(admin, topics, settings.replication):
            print(f"topics: {line}", file=sys.stderr)
    finally:
        await admin.close()
    print(f"{len(topics)} topics")


if __name__ == "__main__":
    try:
        asyncio.run(main(Settings.from_env(os.environ), sorted(Path(sys.argv[1]).glob("*.json"))))
    except ConfigError as error:
        sys.exit(f"topics: {error}")
