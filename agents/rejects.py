"""Counting and logging of records that could not be used; the agent that rejects them writes the dead letters."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agents.ports import Metrics
from codec.dead_letters import DeadLetter
from models.chunk import Chunk
from models.decoded import OddSchema

log = logging.getLogger(__name__)

#: maximum number of rejected records of one fetch that are logged individually
MAX_LOGGED = 20
_REFUSED = (
    "topic %s partition %d offsets %d to %d: schema id %d: %s; its records become dead letters; check that connector "
    "and worker use the same registry and count ids alike (Apicurio's converter: as-confluent=true, use-id=contentId)"
)
_READ = "topic %s partition %d offsets %d to %d: schema id %d: %s; check what the connector sends"


def report(dead_letters: Sequence[DeadLetter], metrics: Metrics, topic: str) -> None:
    """Count and log rejected records; `topic` is the dead-letter topic."""
    for dead_letter in dead_letters:
        metrics.add("rejected", 1, dead_letter.reason)
    for dead_letter in dead_letters[:MAX_LOGGED]:
        log.warning("%s", dead_letter)
    if len(dead_letters) > MAX_LOGGED:
        log.warning("%d more records of this fetch were skipped, see topic %s", len(dead_letters) - MAX_LOGGED, topic)


def tell_outcome(metrics: Metrics, topic: str, used: int, dead_letters: Sequence[DeadLetter]) -> None:
    """Tell how many records of a fetch of `topic` could be used, and which became dead letters."""
    metrics.outcome(topic, used, len(dead_letters), str(dead_letters[-1]) if dead_letters else "")


class OddSchemas:
    """Reports writers' schemas that are refused, or read although something is odd. Mutable: each is logged once."""

    def __init__(self) -> None:
        self._logged: set[int] = set()

    def report(self, chunk: Chunk, schemas: Sequence[OddSchema], metrics: Metrics) -> None:
        """Log the odd schemas of a chunk, and count the records that are read all the same."""
        for schema in schemas:
            if not schema.refused:
                metrics.add("odd_schema", schema.records)
            if schema.schema_id in self._logged:
                continue
            self._logged.add(schema.schema_id)
            first, last = chunk.offsets[0], chunk.offsets[-1]
            log.error(
                _REFUSED if schema.refused else _READ,
                chunk.topic, chunk.partition, first, last, schema.schema_id, schema.detail,
            )  # fmt: skip
