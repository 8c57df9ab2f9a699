"""Topics of the advisers' page on a real broker, and what a reader must make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.kafka.topics import Topic, wanted
from page.reader.parse import Record
from page.reader.sources import Sources
from page.store.rows import Batch
from tests.support import page_rows
from tests.support.cluster import RETAINED, Deployment
from tests.support.page_tables import contents, load, open_database

HISTORY_DAYS = 100


def declare(deployment: Deployment) -> None:
    """Create all topics that the page reads."""
    topics = [*wanted(deployment.names, 1), Topic(deployment.names.cases, 1, RETAINED)]
    deployment.declare(*{topic.name: topic for topic in topics}.values())


def fill(deployment: Deployment) -> None:
    """Create the topics, and write the rows of tests/support/page_rows.py."""
    declare(deployment)
    for topic, rows in page_rows.topics(deployment.names).items():
        deployment.send(topic, rows)


def expected(deployment: Deployment, directory: Path) -> dict[str, Any]:
    """What the topics say, read with another client and applied in one batch. None of them has gaps in its offsets."""
    database, batch = open_database(directory), Batch()
    sources = Sources.of(deployment.settings, deployment.names.cases)
    for topic in sources.all:
        records = [Record(i, r.at, r.key, r.value, r.headers) for i, r in enumerate(deployment.read(topic))]
        sources.add(batch, topic, records)
        if records:
            batch.positions[topic, 0] = len(records)
    load(database, [batch], HISTORY_DAYS)
    found = contents(database.read())
    database.close()
    return found
