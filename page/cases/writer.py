"""Writes records to Kafka for the threads that serve requests, and says where they are once all replicas have them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.kafka.clients import new_producer
from app.settings import Settings
from page.cases.ports import Reader

log = logging.getLogger(__name__)

#: how long a producer that has failed may take to stop [s]
_STOP_S = 10.0


class NotWritten(Exception):
    """Kafka has not confirmed the records in time. They may be written all the same."""


class Writer:
    """One idempotent producer on the reader's event loop. Mutable; used by all threads but the loop's."""

    def __init__(self, settings: Settings, reader: Reader, timeout_s: float = 10.0) -> None:
        self._settings, self._reader, self._timeout_s = settings, reader, timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._starting: asyncio.Lock | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    def write(self, topic: str, rows: Sequence[tuple[bytes | None, bytes]], at: int | None = None) -> list[int]:
        """Write rows (key, value) to partition 0 of a topic; return their offsets.

        at: their timestamp [epoch ms]. Raises NotWritten.
        """
        with self.writing(topic, rows, at) as offsets:
            pass
        return offsets

    @contextmanager
    def writing(
        self, topic: str, rows: Sequence[tuple[bytes | None, bytes]], at: int | None = None
    ) -> Iterator[list[int]]:
        """Begin to `write`, and wait at the end of the with block; offsets are there after it. Raises NotWritten."""
        offsets: list[int] = []
        try:
            answer = self._reader.begin(self._send(topic, rows, at))
        except RuntimeError as error:  # the page ends
            raise _not_written(topic, error) from error
        yield offsets
        try:
            offsets += answer.result(self._timeout_s)
        except TimeoutError:
            answer.cancel()
            log.error("topic %s: Kafka has not confirmed a record of the page within %g s", topic, self._timeout_s)
            raise NotWritten(topic) from None
        except (KafkaError, ConfigError, RuntimeError, CancelledError) as error:  # the last two: the page ends
            raise _not_written(topic, error) from error

    def close(self) -> None:
        """Stop the producer. Records that wait are written first, if Kafka takes them."""
        with suppress(TimeoutError, RuntimeError):
            self._reader.run(self._close(), _STOP_S + 1)

    async def _send(self, topic: str, rows: Sequence[tuple[bytes | None, bytes]], at: int | None) -> list[int]:
        producer = await self._started()
        try:
            sent = [await producer.send(topic, value, key, partition=0, timestamp_ms=at) for key, value in rows]
            return [answer.offset for answer in await asyncio.gather(*sent)]
        except KafkaError:
            self._discard(producer)
            raise

    async def _started(self) -> AIOKafkaProducer:
        """Return the producer; start one if there is none."""
        self._starting = self._starting or asyncio.Lock()
        async with self._starting:
            if self._producer is None:
                producer = new_producer(self._settings, linger_ms=0)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def _discard(self, producer: AIOKafkaProducer) -> None:
        """Let the next write begin with a new producer: after some errors one can never write again."""
        if self._producer is producer:
            self._producer = None
            task = asyncio.ensure_future(_stop(producer))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


def _not_written(topic: str, error: BaseException) -> NotWritten:
    log.error("topic %s: a record of the page could not be written: %s", topic, str(error) or repr(error))
    return NotWritten(topic)


async def _stop(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError, TimeoutError):
        await asyncio.wait_for(producer.stop(), _STOP_S)
