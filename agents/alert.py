"""alert: predictions, whoever wrote them -> those that say a student is in risk."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from models.chunk import Chunk
from models.predictions import InRisk, in_risk


@dataclass(frozen=True, slots=True)
class Alerted:
    """What is in risk among the records of one chunk."""

    chunk: Chunk
    result: InRisk


async def alert(chunks: AsyncIterable[Chunk]) -> AsyncIterator[Alerted]:
    """KSQL's `SELECT * FROM moodle_logs_prediction WHERE prediction > 0.7`, with its coercions."""
    async for chunk in chunks:
        yield Alerted(chunk, in_risk(chunk.keys, chunk.values))
