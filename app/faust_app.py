"""Faust, bent to chunks: the app class, and how a stream function becomes an agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import faust

from agents.ports import Delivery
from agents.process import Pipeline
from app.kafka.driver import Consumer
from app.kafka.log import KafkaLog
from app.kafka.queue import ChunkQueue, QueuedChunk
from app.ops.watchdog import LOOK_S, Standing, Watchdog, standing
from app.settings import Settings
from app.state.table import StateTable
from app.upstream import SCHEME, install
from app.upstream.faust import FlowControl

log = logging.getLogger(__name__)

#: how long a worker may take nothing from its fetcher before it leaves the group [s]: the longest there is.
#: With the registry away everything waits, and a worker that has left while its queues are full never joins again
_NEVER_IDLE_S = float((2**31 - 1) // 1000)

#: a stream function: runs until its deliveries end
Run = Callable[[AsyncIterator[Delivery]], Awaitable[None]]


class ChunkSchema(faust.Schema[Any, Any]):
    """Hands a chunk through as the event's value: decoding is for whole batches, later."""

    def compile(self, app: Any, **kwargs: Any) -> Any:
        """The function that makes an event of a message."""

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, None, message)

        return decode


class RiskApp(faust.App):
    """The Faust app: its settings, and the life of what the streams write to."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: set by the topology
        self.kafka: KafkaLog
        self.pipeline: Pipeline
        #: made when the worker starts
        self.watchdog: Watchdog
        timeout = settings.session_timeout_s
        install()
        super().__init__(
            settings.app_id,
            broker=";".join(f"{SCHEME}://{server}" for server in settings.brokers),
            store=settings.store,
            datadir=str(settings.datadir),
            autodiscover=False,
            web_bind=settings.web_bind,
            web_port=settings.web_port,
            web_host=settings.web_bind,
            web_router_enabled=False,
            web_tables_enabled=False,
            web_graph_enabled=False,
            web_stats_enabled=False,
            web_metrics_enabled=False,
            topic_disable_leader=True,
            # with a second worker every partition is kept up to date on one that may have to take it over
            table_standby_replicas=1,
            stream_wait_empty=False,
            # these count chunks, not messages, and small ones for less (app/kafka/queue.py)
            stream_buffer_maxsize=4,
            consumer_max_fetch_size=2**21,
            broker_check_crcs=True,
            broker_session_timeout=timeout,
            broker_heartbeat_interval=timeout / 6,
            broker_rebalance_timeout=max(10.0, timeout),
            broker_request_timeout=max(30.0, 2 * timeout),
            broker_commit_interval=1.0,
            broker_max_poll_interval=_NEVER_IDLE_S,
            stream_recovery_delay=0.0,
            Worker="app.worker:Worker",
        )
        self.flow_control = FlowControl(initially_suspended=True)

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> ChunkQueue:
        """Create an agent's queue, bounded by the size of its chunks."""
        return ChunkQueue(maxsize=maxsize or 0, flow_control=self.flow_control, clear_on_resume=clear_on_resume)

    def table_of(self, name: str) -> StateTable:
        """Declare a table of bytes with its changelog."""
        changelog = self.topic(
            f"{self.settings.app_id}-{name}-changelog", schema=ChunkSchema(), compacting=True, internal=False
        )
        table = StateTable(
            self,
            name=name,
            key_type=bytes,
            value_type=bytes,
            changelog_topic=changelog,
            recovery_buffer_size=2,
        )
        self.tables.add(table)
        return table

    def bind(self, name: str, topic: str, run: Run, *, actor_per_partition: bool = False) -> None:
        """Make `run` the agent `name` of a topic's chunks.

        An agent that raises takes the worker down: Faust would restart it past what it did not do.
        """

        async def agent(stream: Any) -> None:
            await run(self._deliveries(stream, topic, alone=actor_per_partition))

        channel = self.topic(topic, schema=ChunkSchema(), internal=False)
        self.agent(channel, name=name, isolated_partitions=actor_per_partition)(agent)

    async def _deliveries(self, stream: Any, topic: str, *, alone: bool) -> AsyncIterator[Delivery]:
        # acked by hand (Consumer.processed), after the commit: Faust would also ack what failed
        async for event in stream.noack().events():
            message = event.message
            assigned = frozenset(tp.partition for tp in self.consumer.assignment() if tp.topic == topic)
            # an actor of its own sees one partition, and so one chunk of a fetch
            queued: QueuedChunk = message.value
            more = not stream.channel.empty() or (queued.has_next and not alone)
            yield Delivery(queued.chunk, message.generation_id, assigned, more)

    async def _on_agent_error(self, agent: Any, error: BaseException) -> None:
        if self.crashed:
            return  # the others fail of the first one's consequences
        log.critical("agent %s failed: %s: %s", agent.name, type(error).__name__, error)
        await self.crash(error)

    # -- life cycle

    async def on_start(self) -> None:
        """Connect what the streams write to."""
        self.watchdog = Watchdog(self.settings.stall_timeout_s, lambda: self.crash_reason)
        self.watchdog.start()
        self.add_future(self._tell_watchdog())
        await super().on_start()
        if isinstance(self.consumer, Consumer):
            self.consumer.revoking = self.kafka.release
            await self.kafka.start(self.consumer)

    async def _tell_watchdog(self) -> None:
        while not self.should_stop:
            self.watchdog.tell(standing(self))
            await asyncio.sleep(LOOK_S)

    async def on_stop(self) -> None:
        """Finish flushes, and commit."""
        self.watchdog.tell(Standing("stopping", None, stopping=True))
        await self.kafka.release()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        """Disconnect: only now have the agents ended, which send until then."""
        await super().on_shutdown()
        await self.kafka.stop()
        self.watchdog.over()
