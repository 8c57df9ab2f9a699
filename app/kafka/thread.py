"""The thread that runs aiokafka's consumer and turns what it fetches into chunks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any

import aiokafka
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP
from mode import Service

from app.kafka.clients import new_consumer
from app.kafka.group_offsets import claim_of, metadata_of
from app.kafka.linger import Linger
from app.kafka.reader import read_chunks
from app.upstream.aiokafka import committed_offsets, count_partitions, is_closed
from app.upstream.holding import fetcher_of
from models.chunk import Chunk

#: how long one call waits for fetched records, and a fetch at the broker [s]. No longer: after a seek a node is asked
#: again only when it has answered, so a takeover waits for it
_FETCH_WAIT_S = 0.5
#: when aiokafka looks at the latest whether there is something to fetch [s]; it also does when an answer comes
_LOOK_S = _FETCH_WAIT_S + 0.1


class Thread(AIOKafkaConsumerThread):
    """Faust's consumer thread, with chunks instead of records."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        app: Any = self.app
        settings, names = app.settings, app.settings.topic_names
        self._linger = Linger(settings.source_topic, names.visits, names.prediction, settings.linger_ms / 1000)
        #: the claims that are committed with offsets, by partition
        self._claims: dict[TP, str] = {}
        conf = app.conf
        self._assignor = self.app.assignor
        return new_consumer(
            app.settings,
            client_id=conf.broker_client_id,
            group_id=conf.id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            check_crcs=conf.broker_check_crcs,
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=round(_FETCH_WAIT_S * 1000),
            consumer_timeout_ms=round(_LOOK_S * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
        )

    async def chunks(self, partitions: set[TP], max_rows: int, generation: int) -> list[Chunk]:
        """Return what has been fetched of `partitions`, events of the source topic after their wait for company.

        See reader.read_chunks and linger.Linger. This does not go through mode's queue of calls, which costs three
        tasks for each: it is one of several reads in a round, and of two a second when idle.
        """
        reading = self._chunks(partitions, max_rows, generation)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(reading, self.thread_loop))

    async def _chunks(self, partitions: set[TP], max_rows: int, generation: int) -> list[Chunk]:
        consumer = self._ensure_consumer()
        if not self.consumer.flow_active or is_closed(consumer):
            return []
        app: Any = self.app
        linger, fetcher = self._linger, fetcher_of(consumer)
        linger.begin(generation, fetcher)
        end = time.monotonic() + _FETCH_WAIT_S
        while True:
            chunks = await read_chunks(
                consumer,
                partitions,
                linger.longest_read(max(0.0, end - time.monotonic())),
                max_rows,
                app.settings.max_batch_bytes,
                lambda: linger.is_over(fetcher),
            )
            due = linger.apply(
                chunks, generation, consumer.assignment(), fetcher, sends_all_visits=sends_all_visits(consumer, app)
            )
            # what waits for company need not be handed over to the other thread
            if due or time.monotonic() >= end or not self.consumer.flow_active:
                return due
            if generation != app.consumer_generation_id:
                return []

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit the offsets of assigned partitions, with the settings they were made with.

        Returns False if there is none, or if the group has another generation by now.
        """
        app: Any = self.app
        consumer = self._ensure_consumer()
        wanted = {
            TopicPartition(*tp): OffsetAndMetadata(offset, metadata_of(app.settings, self._claims.get(tp)))
            for tp, offset in offsets.items()
        }
        try:
            await consumer.commit({tp: offset for tp, offset in wanted.items() if tp in consumer.assignment()})
        except (CommitFailedError, IllegalStateError):
            return False
        return not consumer.assignment().isdisjoint(wanted)

    async def claims(self, tps: Collection[TP]) -> dict[TP, str]:
        """Return the claim that was committed last with the offset of each of `tps`, where there is one."""
        return await self.call_thread(self._read_claims, tps)  # type: ignore[no-any-return]

    async def _read_claims(self, tps: Collection[TP]) -> dict[TP, str]:
        committed = await committed_offsets(self._ensure_consumer(), tps)
        return {TP(*tp): claim for tp, offset in committed.items() if (claim := claim_of(offset.metadata)) is not None}

    async def claim(self, tps: Collection[TP], claim: str) -> bool:
        """Commit a claim with the offsets of `tps`, as they are; False if the group has another generation by now."""
        return await self.call_thread(self._claim, tps, claim)  # type: ignore[no-any-return]

    async def _claim(self, tps: Collection[TP], claim: str) -> bool:
        consumer = self._ensure_consumer()
        committed = await committed_offsets(consumer, tps)
        # the beginning, if nothing is committed: a worker would begin there anyway
        offsets = {tp: committed[tp].offset if tp in committed else 0 for tp in tps}
        self._claims.update(dict.fromkeys(tps, claim))
        return consumer.assignment().issuperset(tps) and await self._commit(offsets)

    async def count_partitions(self, topics: set[str]) -> dict[str, int]:
        """Ask the broker for the number of partitions of topics that this worker reads."""
        return await self.call_thread(self._count_partitions, topics)  # type: ignore[no-any-return]

    async def _count_partitions(self, topics: set[str]) -> dict[str, int]:
        return await count_partitions(self._ensure_consumer(), topics)

    async def _keepalive2(self) -> None:
        """No-op: app/ops/watchdog.py notices a thread that does nothing."""

    @Service.task
    async def _thread_keepalive(self) -> None:
        """No-op: mode wakes the thread each second for calls that might be overlooked; each call wakes it."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """No-op: Faust's livelock detection expects single messages; app/ops/watchdog.py does its work."""


def sends_all_visits(consumer: aiokafka.AIOKafkaConsumer, app: Any) -> bool:
    """Whether the worker has one visits partition, and nobody else sends visits to it: it has all source partitions."""
    source, visits = app.settings.source_topic, app.settings.topic_names.visits
    assigned = [tp.topic for tp in consumer.assignment()]
    sources = consumer.partitions_for_topic(source) or ()
    return assigned.count(visits) == 1 and assigned.count(source) == len(sources)
