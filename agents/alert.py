"""alert: predictions, also those of other scorers -> predictions above the threshold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence

import numpy as np

from agents.gather import Arrival, gather
from agents.ports import Delivery, Log, Metrics, Target
from agents.rejects import report, tell_outcome
from codec import output_rows, tombstones
from codec.dead_letters import DeadLetter
from codec.record_batch import Rows
from models.binary_column import BinaryColumn
from models.chunk import Chunk
from models.position import NEXT_OFFSET_KEY, pack_next_offset
from models.predictions import InRisk, in_risk, with_tombstones
from models.topic_names import TopicNames

#: approximate number of predictions in one transaction
MAX_ROWS = 20_000


class Alert:
    """The agent of MOODLE_LOGS_PREDICTION: KSQL's `SELECT * … WHERE prediction > 0.7`, with its coercions."""

    def __init__(self, log: Log, names: TopicNames, metrics: Metrics, *, pause_s: float) -> None:
        """pause_s: pause after a group at the end of the topic, so that later predictions share a transaction [s]."""
        self._log, self._names, self._metrics, self._pause_s = log, names, metrics, pause_s

    async def run(self, deliveries: AsyncIterable[Delivery]) -> None:
        """Forward the predictions that have arrived, one transaction per group, until the deliveries end."""
        async for chunks in gather(_arrivals(deliveries), MAX_ROWS, may_exceed=True):
            await self._forward(chunks)
            last = chunks[-1]
            if self._pause_s and len(last) and not last.lagging:
                await asyncio.sleep(self._pause_s)

    async def _forward(self, chunks: Sequence[Chunk]) -> None:
        state = self._log.alerts()
        if state is None:
            return  # revoked in the meantime: the new owner reads these predictions again
        dead_letters: list[DeadLetter] = []
        alerts = []
        read = 0
        for chunk in chunks:
            result = _with_forgotten(in_risk(chunk.keys, chunk.values), chunk)
            # predictions forwarded before the last commit may be delivered again after a restart
            new = int(np.searchsorted(np.asarray(chunk.offsets, np.int64), state.next_offset))
            alerts.append((chunk, result, new))
            dead_letters += [DeadLetter.of(chunk, s.index, s.reason, "") for s in result.skips if s.index >= new]
            dead_letters += [DeadLetter.of_batch(chunk, b) for b in chunk.refused if b.first >= state.next_offset]
            read += len(chunk) - new
        out = output_rows.in_risk(alerts)
        rows: dict[Target, Rows] = {(self._names.in_risk, 0): out}
        if dead_letters:
            rows[self._names.dead_letters, 0] = [dead_letter.row for dead_letter in dead_letters]
        records = {NEXT_OFFSET_KEY: pack_next_offset(chunks[-1].next_offset)}
        # without rows the offset need not be stored: predictions that are read again forward nothing again
        if not any(rows.values()) or await state.flush(rows, records):
            report(dead_letters, self._metrics, self._names.dead_letters)
            tell_outcome(self._metrics, self._names.prediction, read - len(dead_letters), dead_letters)
            self._metrics.add("predictions_read", read)
            self._metrics.add("rows", len(out), self._names.in_risk)
            for chunk in chunks:
                await self._log.processed(chunk)


def _with_forgotten(result: InRisk, chunk: Chunk) -> InRisk:
    """Add the tombstones of students who were forgotten; KSQL drops every other null value, and so does this."""
    if chunk.headers is None:
        return result
    if isinstance(chunk.values, BinaryColumn):
        null = np.flatnonzero(~chunk.values.is_valid()).tolist()
    else:
        null = [i for i, value in enumerate(chunk.values) if value is None]
    found = [(i, chunk.keys[i], tombstones.forgotten_at(chunk.headers[i])) for i in null]
    forgotten = [(i, key, at) for i, key, at in found if at is not None]
    return with_tombstones(result, forgotten) if forgotten else result


async def _arrivals(deliveries: AsyncIterable[Delivery]) -> AsyncIterator[Arrival[Chunk]]:
    async for delivery in deliveries:
        chunk = delivery.chunk
        yield Arrival(chunk, len(chunk), delivery.generation, delivery.has_next)
