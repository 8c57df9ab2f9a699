"""One-shot of docker-compose.yml: declare every topic before anything writes or reads one; running it again is fine.

The app's own topics come from app/kafka/topics.py, so that they cannot differ from what the worker looks for.
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

#: records that came when events did: the default retention would delete those of last year at once
FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1"}
COMPACTED = {"cleanup.policy": "compact"}
#: Apicurio's storage: left to itself it makes them with Kafka's seven days, and then forgets every schema
REGISTRY = ("kafkasql-journal", "kafkasql-snapshots")
#: partitions of Moodle's log
SOURCES = 1


def of_stack(settings: Settings, connectors: Iterable[Path]) -> list[Topic]:
    """The log, what the app writes (with and without RISK_TOPIC_PREFIX), what the registry and Connect keep, and the
    sinks' dead letters."""
    plain = replace(settings, topic_prefix="")
    topics = [Topic(settings.source_topic, SOURCES, FOR_EVER)]
    # KSQL and the sinks know the names without the prefix
    topics += [topic for s in (settings, plain) for topic in wanted(s.topic_names, SOURCES)]
    topics += [Topic(name, 1, FOR_EVER) for name in REGISTRY]
    topics += [Topic(f"connect-{what}", 1, COMPACTED) for what in ("configs", "offsets", "status")]
    for path in connectors:
        config = json.loads(path.read_text(encoding="utf-8"))
        if dead_letters := config.get("errors.deadletterqueue.topic.name"):
            topics.append(Topic(dead_letters, 1, FOR_EVER))
    return list({topic.name: topic for topic in topics}.values())


async def main(settings: Settings, connectors: Iterable[Path]) -> None:
    """Declare them all. Raises ConfigError with one line."""
    topics = of_stack(settings, connectors)
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
