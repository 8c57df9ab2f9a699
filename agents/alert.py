"""alert: predictions, whoever wrote them -> those that say a student is in risk."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass

from models.chunk import Chunk
from models.predictions import InRisk, in_risk


@dataclass(frozen=True, slots=True)
class Alerted:
    """What is in risk among the records of some chunks, one after another."""

    chunks: Sequence[Chunk]
    #: of each chunk
    results: Sequence[InRisk]


async def alert(arrived: AsyncIterable[Sequence[Chunk]]) -> AsyncIterator[Alerted]:
    """KSQL's `SELECT * FROM moodle_logs_prediction WHERE prediction > 0.7`, with its coercions."""
    async for chunks in arrived:
        yield Alerted(chunks, [in_risk(chunk.keys, chunk.values) for chunk in chunks])
